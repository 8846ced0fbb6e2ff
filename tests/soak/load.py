"""The load of a soak: `wrk` at each server, a few connections at a moderate pace, in sessions of seconds."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.rigs.programs import path_of
from tests.soak.plan import ANCHOR_HOST

SESSION_S = 5
CONNECTIONS = 4
_PAUSE_MS = 40  # so that the load of one server is at most 100 requests a second
_SCRIPT = f"""\
function wrk.resolve(host, service)
   wrk.addrs = wrk.lookup("127.0.0.1", service)
end
function delay()
   return {_PAUSE_MS}
end
"""
_REQUESTS = re.compile(r"^ +(\d+) requests in ", re.MULTILINE)
_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_UNWELCOME = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_KINDS = ("connect", "read", "write", "timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What became of one session.

    Attributes:
        instance: Whose server was asked.
        began, ended: Seconds of the soak's clock.
        requests: How many were answered.
        errors: How many were not, by what happened.
    """

    instance: str
    began: float
    ended: float
    requests: int
    errors: Counter[str] = field(default_factory=Counter)


async def session(folder: Path, instance: str, port: int) -> Session:
    """Ask one server for the host that always is there; connections are new ones for each request."""
    script = folder / "wrk.lua"
    if not script.exists():
        script.write_text(_SCRIPT, encoding="utf-8")
    clock = asyncio.get_running_loop().time
    began = clock()
    process = await asyncio.create_subprocess_exec(
        *(path_of("wrk") or "wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{SESSION_S}s", "--timeout", "10s"),
        *("-s", str(script), "-H", "Connection: close", f"https://{ANCHOR_HOST}:{port}/"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SESSION_S + 30):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return told(said.decode(errors="replace"), instance, began, clock())


def told(said: str, instance: str, began: float, ended: float) -> Session:
    """What wrk says at its end, or that it could not begin."""
    requests, errors, unwelcome = _REQUESTS.search(said), _ERRORS.search(said), _UNWELCOME.search(said)
    counts = Counter[str](dict(zip(_KINDS, map(int, errors.groups()), strict=True)) if errors else {})
    counts["status"] = int(unwelcome[1]) if unwelcome else 0
    if requests is None:
        counts["connect"] += 1
    return Session(
        instance=instance,
        began=began,
        ended=ended,
        requests=int(requests[1]) if requests else 0,
        errors=+counts,
    )
