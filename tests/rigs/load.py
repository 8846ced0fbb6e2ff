"""Load beside a test: `wrk` sends requests to an HTTPS listener on loopback, and every failure is counted."""

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.rigs.programs import path_of

PATIENCE_S = 60.0
_LONGEST = "20m"  # a load is ended by its test, and this is for a test that was killed
_SLOWEST = "30s"  # what takes longer is a time-out; wrk's own 2 s are a busy machine's

_SCRIPT = """\
io.stdout:setvbuf("line")

-- The name in the URL is for SNI and Host; whatever it is, the listener is on loopback.
function wrk.resolve(host, service)
   wrk.addrs = wrk.lookup("127.0.0.1", service)
end

local thread
function setup(made)
   thread = made
end

answered, unwelcome = 0, 0
function response(status, headers, body)
   answered = answered + 1
   if status ~= 200 or body == "" then
      unwelcome = unwelcome + 1
   end
   if answered % 10 == 0 then
      print("answered " .. answered .. " at " .. os.time())
   end
end

function done(summary)
   local failed = summary.errors
   print(string.format(
      "total: %d requests, %d answered, %d unwelcome, errors: %d connect, %d read, %d write, %d timeout, %d status",
      summary.requests, thread:get("answered"), thread:get("unwelcome"),
      failed.connect, failed.read, failed.write, failed.timeout, failed.status
   ))
end
"""
_PROGRESS = re.compile(r"answered (\d+) at (\d+)\Z")
_TOTAL = re.compile(
    r"^total: (\d+) requests, (\d+) answered, (\d+) unwelcome, "
    r"errors: (\d+) connect, (\d+) read, (\d+) write, (\d+) timeout, (\d+) status$",
    re.MULTILINE,
)
_OWN_TOTAL = re.compile(r"^ +(\d+) requests in [\d.]+\w+, [\d.]+\w+ read$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of a load.

    Attributes:
        requests: How many were answered.
        failures: How many were not, or not with status 200 and a page, by what happened.
    """

    requests: int
    failures: dict[str, int]


class Load:
    """A running load; made by `load`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said: list[str] = []
        self._answered, self._at = 0, 0
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def goes_on(self, more: int = 50) -> None:
        """Wait until so many more requests were answered, of which none was answered before now.

        Raises:
            AssertionError: They were not.
        """
        now = int(time.time())
        await self._until(lambda: self._at > now)
        goal = self._answered + more
        await self._until(lambda: self._answered >= goal)

    async def _until(self, reached: Callable[[], bool]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S), self._news:
                await self._news.wait_for(lambda: reached() or self._reading.done())
        assert reached(), f"it does not go on after {self._answered} answers: {self._said[-20:]}"

    async def end(self) -> Tally:
        """Have it end, and tell what became of it.

        Raises:
            AssertionError: It had ended by itself, or does not tell.
        """
        assert self._process.returncode is None, f"the load ended by itself: {self._said}"
        self._process.send_signal(signal.SIGINT)
        await asyncio.wait_for(self._reading, PATIENCE_S)
        code = await self._process.wait()
        return tally("\n".join(self._said), code)

    async def kill(self) -> None:
        """End it without asking what became of it."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode().rstrip("\n")
            if progress := _PROGRESS.match(line):
                self._answered, self._at = int(progress[1]), int(progress[2])
            else:
                self._said.append(line)
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


def tally(said: str, code: int) -> Tally:
    """Read what wrk says at its end.

    Raises:
        AssertionError: No request was answered, or that is not what wrk says when all was counted.
    """
    ours, its = _TOTAL.findall(said), _OWN_TOTAL.findall(said)
    assert (code, len(ours), len(its)) == (0, 1, 1), f"exit code {code}: {said}"
    requests, answered, *counts = map(int, ours[0])
    assert requests == answered == int(its[0]) > 0, said
    kinds = ("unwelcome", "connect", "read", "write", "timeout", "status")
    failures = {kind: count for kind, count in zip(kinds, counts, strict=True) if count}
    # wrk has these lines only where there is something to count.
    assert failures or not re.search(r"Socket errors|Non-2xx", said), said
    return Tally(requests=requests, failures=failures)


@asynccontextmanager
async def load(
    folder: Path, address: tuple[str, int], host: str, *, connections: int, keep: bool
) -> AsyncIterator[Load]:
    """Send requests to a listener on loopback until the end of this context.

    Args:
        folder: Where the script is put.
        address: The listener's.
        host: Server name and Host.
        connections: How many requests are under way at once.
        keep: Whether a connection is used again and again; otherwise each request makes a new one.
    """
    script = folder / f"load-{address[1]}-{'kept' if keep else 'new'}.lua"
    script.write_text(_SCRIPT, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(path_of("wrk") or "wrk", "-t", "1", "-c", str(connections), "-d", _LONGEST, "--timeout", _SLOWEST),
        *("-s", str(script), "-H", f"Connection: {'keep-alive' if keep else 'close'}"),
        f"https://{host}:{address[1]}/",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = Load(process)
    try:
        yield running
    finally:
        await running.kill()
