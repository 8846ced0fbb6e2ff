"""A fresh instance with many bindings, from its start until it is ready: `python dev.py bench boot`.

The storage emulator holds the bundles and the rows; an agent is started as a process of its own and is asked for
`/readyz` until every binding is installed and proved by a handshake. Beside it, in the same run, the bare download of
the same bundles: with nothing but signed requests over aiohttp, and with the storage SDK. Peak memory is the process's
own; what a binding takes is the difference to an instance with the fewest. The slowest answer of `/livez` meanwhile
shows whether the agent's other work, as heartbeats and hints, goes on. Linux only.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import _results
import aiohttp
from _boot_store import bare_s, enter_all, sdk_s, seal_all, tenants
from _results import Figure, Plot, Results, Table

from local_azure.azurite import start_azurite
from local_azure.processes.child import start_child
from local_azure.processes.listening import free_port, port_offsets
from local_azure.servers.haproxy import HAProxyServer
from shared.azure.account import Account
from shared.azure.key_encryption import make_key_file
from shared.config import StorageAccess

if TYPE_CHECKING:
    import argparse

    from local_azure.azurite import Azurite

TARGETS = ("embedded", "haproxy")
SIZES, QUICK_SIZES = (100, 1_000, 10_000), (20,)
_PATIENCE_S = 1800.0
_LOOK_EVERY_S = 0.02
_SETTLED_S = 3.0
_MIB = 1024
_REPOSITORY = Path(__file__).resolve().parents[1]
_NONE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One start of an agent.

    Attributes:
        seconds: From the process's start until it was ready.
        peak_mb: Most memory it had until then.
        later_mb: What it has 3 s later.
        slowest_ms: The longest that `/livez` took to answer meanwhile.
    """

    seconds: float
    peak_mb: float
    later_mb: float
    slowest_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One size: what the bare downloads took, and each target's boot."""

    bindings: int
    bare_s: float
    sdk_s: float
    boots: dict[str, Boot]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bindings", type=_numbers, metavar="N,N", help="how many; 100,1000,10000 unless given")
    parser.add_argument("--targets", metavar="NAMES", help=f"of {','.join(TARGETS)}; all unless given")


def run(chosen: argparse.Namespace) -> Results:
    sizes = chosen.bindings or (QUICK_SIZES if chosen.quick else SIZES)
    targets = tuple(chosen.targets.split(",")) if chosen.targets else TARGETS
    if unknown := set(targets) - set(TARGETS):
        raise _results.CannotRunError(
            f"no target is called {', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}"
        )
    return _told(asyncio.run(measure(sorted(sizes), targets)), targets, _results.command("boot", chosen))


async def measure(sizes: list[int], targets: tuple[str, ...]) -> list[Measured]:
    """Fill the emulator once, and start agents of one role for each size; the first, without bindings, is the base."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        azurite = await start_azurite()
        stack.push_async_callback(azurite.stop)
        key = folder / "key"
        make_key_file(key)
        access = StorageAccess(connection_string=azurite.connection_string)
        every = tenants(max(sizes))
        async with Account(access, key_encryption_key=f"file:{key}") as account:
            await account.create_all()
            await seal_all(account, every)
        measured = []
        # A fresh agent that finds bundles and no row at all takes the rows for lost, and is not ready.
        await asyncio.to_thread(enter_all, azurite.connection_string, every[:1], role="another")
        for size in (0, *sizes):
            some, role = every[:size], f"bench-{size}"
            await asyncio.to_thread(enter_all, azurite.connection_string, some, role=role)
            boots = {target: await _boot(target, role, azurite, key) for target in targets}
            bare = await bare_s(azurite.endpoints.blob, some)
            sdk = await sdk_s(azurite.connection_string, some)
            measured.append(Measured(bindings=size, bare_s=bare, sdk_s=sdk, boots=boots))
            print(f"{size} bindings: measured", file=sys.stderr)
        return measured


async def _boot(target: str, role: str, azurite: Azurite, key: Path) -> Boot:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        [offset] = stack.enter_context(port_offsets(1, ports=(443,)))
        settings = {"CERTCAST_EMBEDDED_PORT_OFFSET": str(offset)}
        if target == "haproxy":
            server = HAProxyServer(folder=folder, port_offset=offset)
            stack.push_async_callback(server.close)
            await server.start()
            settings = dict(server.agent_environment)
        port = free_port()
        settings |= {
            "CERTCAST_STORAGE": azurite.connection_string,
            "CERTCAST_KEY_ENCRYPTION_KEY": f"file:{key}",
            "CERTCAST_INSTANCE": f"{target}-{role}",
            "CERTCAST_ROLE": role,
            "CERTCAST_TARGET": target,
            "CERTCAST_HEALTH_PORT": str(port),
        }
        began = time.perf_counter()
        agent = await start_child(
            "agent",
            [sys.executable, "-m", "instance_agent", "run"],
            environment={**os.environ, **settings},
            folder=_REPOSITORY,
            grace_s=20.0,
        )
        stack.push_async_callback(agent.stop)
        watch = _Watch(port)
        async with watch:
            await agent.until(watch.ready, timeout_s=_PATIENCE_S, every_s=_LOOK_EVERY_S)
            seconds = time.perf_counter() - began
            peak_mb = _memory_mb(agent.pid, "VmHWM")
            await asyncio.sleep(_SETTLED_S)
        return Boot(
            seconds=seconds,
            peak_mb=peak_mb,
            later_mb=_memory_mb(agent.pid, "VmRSS"),
            slowest_ms=watch.slowest_s * 1000,
        )


class _Watch:
    """Asks an agent's health port."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self.slowest_s = 0.0

    async def __aenter__(self) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE_S))

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ready(self) -> bool:
        began = time.perf_counter()
        try:
            async with self._session.get(f"{self._url}/livez"):
                self.slowest_s = max(self.slowest_s, time.perf_counter() - began)
            async with self._session.get(f"{self._url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False  # it does not listen yet


def _memory_mb(pid: int | None, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [number] = re.findall(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(number) / _MIB


def _told(measured: list[Measured], targets: tuple[str, ...], command: str) -> Results:
    empty, *filled = measured
    rows: list[tuple[str | float, ...]] = []
    figures: list[Figure] = []
    for each in filled:
        for target in targets:
            boot, base = each.boots[target], empty.boots[target]
            own_s = boot.seconds - base.seconds
            kib = _kib_of_one(each, filled[0] if each is not filled[0] else empty, target)
            place = (f"`{target}`, {each.bindings:,}", boot.seconds, each.bare_s, each.sdk_s)
            rows.append(
                (*place, own_s / each.bare_s, own_s / each.sdk_s, boot.peak_mb, boot.later_mb, kib, boot.slowest_ms)
            )
            name = f"{target}, {each.bindings} bindings"
            figures += [
                Figure(f"until ready, {name}", boot.seconds, "s", own_s / each.bare_s, "the bare download"),
                Figure(f"until ready by the SDK, {name}", boot.seconds, "s", own_s / each.sdk_s, "the SDK's download"),
                Figure(f"peak memory, {name}", boot.peak_mb, "MB", boot.peak_mb / base.peak_mb, "without bindings"),
                Figure(f"memory of a binding, {name}", kib, "KiB"),
            ]
    for target in targets:
        base = empty.boots[target]
        rows.append(
            (f"`{target}`, none", base.seconds, *[_NONE] * 4, base.peak_mb, base.later_mb, _NONE, base.slowest_ms)
        )
        figures.append(Figure(f"memory after start, {target}", base.later_mb, "MB"))
    columns = (
        "target, bindings",
        "until ready, s",
        "bare download, s",
        "SDK's download, s",
        "against bare",
        "against the SDK's",
        "peak, MB",
        "3 s later, MB",
        "KiB a binding",
        "slowest `/livez`, ms",
    )
    note = (
        "The ratios are of what bindings add: the time until ready less that of an instance without any. What a "
        "binding takes is told against the size with the fewest, and there against an instance without any."
    )
    sizes = [each.bindings for each in filled]
    series = {target: [(each.bindings, each.boots[target].seconds) for each in filled] for target in targets}
    series["bare download"] = list(zip(sizes, [each.bare_s for each in filled], strict=True))
    series["SDK's download"] = list(zip(sizes, [each.sdk_s for each in filled], strict=True))
    plot = Plot("", "From start until ready", "bindings", "seconds", series, "line", log_x=True)
    return Results("boot", command, (Table("A fresh instance", columns, tuple(rows), note),), figures, (plot,))


def _kib_of_one(many: Measured, few: Measured, target: str) -> float:
    """What one binding takes: what the first ones take is mostly code and connections that all share."""
    return (many.boots[target].later_mb - few.boots[target].later_mb) * _MIB / (many.bindings - few.bindings)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def main() -> int:
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
