"""How long it takes to see 10,000 uploads on 100 instances: the status command, the dashboard's pages.

Needs Azurite alone; about two minutes, half of them to write the rows.

The rows are written into the local cloud's tables as they are once everything was proved, with a few uploads that are
rejected, superseded, partially live or about to end. No sweep runs, as there are no blobs to them. Every instance's
heart beats each 15 seconds. The Functions host is the local one, which was asked for its health before; each page is
fetched over HTTP, one after the other. "While rows change" has uploads renewed five times a second.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import _results
import aiohttp
from _results import CannotRunError, Figure, Results, Table
from _tenants import Tenants

from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, PlatformSettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

UPLOADS, INSTANCES, PAGES, COMMANDS = 10_000, 100, 20, 3
PAGE_MS = 300
"""What a page is to take at most, in the median."""
REPORTED = 20
_NEVER = "0 0 0 1 1 *"
_WHOLE_IN_S = 120
_BEAT_S, _RENEW_S, _BETWEEN_S = 15, 0.2, 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer.

    Attributes:
        ms: By the clock on the wall.
        status: HTTP status code.
        text: What it says.
        tag: Its ETag.
    """

    ms: float
    status: int
    text: str
    tag: str


class Looking:
    """Somebody who looks at the dashboard."""

    def __init__(self, cloud: LocalPlatform, session: aiohttp.ClientSession) -> None:
        self._base, _, self._key = cloud.dashboard_url.partition("?code=")
        self._session = session

    async def healthz(self) -> None:
        """Ask whether the app is well, as load balancers do: it has opened its account by then."""
        async with self._session.get(self._base.replace("/dashboard", "/healthz")) as answer:
            answer.raise_for_status()

    async def page(self, path: str = "", tag: str = "", **query: str) -> Page:
        """Fetch a page whole."""
        began = time.perf_counter()
        async with self._session.get(
            f"{self._base}{path}",
            params={"code": self._key, **query},
            headers={"If-None-Match": tag} if tag else {},
        ) as answer:
            text = await answer.text()
        ms = (time.perf_counter() - began) * 1000
        return Page(ms=ms, status=answer.status, text=text, tag=answer.headers.get("ETag", ""))


async def measure(uploads: int, instances: int, pages: int, commands: int) -> dict[str, list[float]]:
    """Milliseconds of each of what was measured."""
    names = [f"web-{number:02}" for number in range(instances)]
    settings = PlatformSettings(agents=0, ports=FREE_PORTS, function_environment={"CERTCAST_SWEEP_SCHEDULE": _NEVER})
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(LocalPlatform(settings))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        tenants = Tenants(
            connection_string=cloud.connection_string, uploads=uploads, instances=names, now=datetime.now(UTC)
        )
        _tell(f"writing {uploads:,} uploads")
        await tenants.write(reported=min(REPORTED, uploads))
        await stack.enter_async_context(_repeated(_BEAT_S, lambda: tenants.beat(datetime.now(UTC))))
        found = await _commands(cloud, commands)
        found |= await _pages(Looking(cloud, session), tenants, pages)
    return found


async def _commands(cloud: LocalPlatform, times: int) -> dict[str, list[float]]:
    """The status command as a person runs it, a process each."""
    _tell("running the command")
    return {
        f"`certcast status{options}`": [await _command(cloud, *options.split()) for _ in range(times)]
        for options in ("", " --failed --json")
    }


async def _command(cloud: LocalPlatform, *options: str) -> float:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operator_cli", "status", *options),
        env={"CERTCAST_STORAGE": cloud.connection_string, "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    if not out:
        raise CannotRunError(f"certcast status {' '.join(options)} printed nothing: {errors.decode()}")
    return (time.perf_counter() - began) * 1000


async def _pages(looking: Looking, tenants: Tenants, times: int) -> dict[str, list[float]]:
    _tell("looking at the dashboard")
    await looking.healthz()
    began = time.perf_counter()
    found = {"fleet page, the very first: what was read by then": [(await looking.page()).ms]}
    await _until_whole(looking)
    found["from then until all uploads had been read"] = [(time.perf_counter() - began) * 1000]
    asked: Mapping[str, Mapping[str, str]] = {
        "fleet page": {},
        "fleet page, failed ones": {"failed": "true"},
        "fleet page, one host": {"host": tenants.record(tenants.uploads // 2).hosts[0]},
        "fleet page, by end, the tenth hundred": {"sort": "-expiry", "offset": "900"},
    }
    for what, query in asked.items():
        found[what] = [await _shown(looking, **query) for _ in range(times)]
    found["live update, nothing changed"] = await _unchanged(looking, times)
    name = tenants.record(5).name
    found["certificate page"] = [await _shown(looking, "/certificate", name=name) for _ in range(times)]
    async with _repeated(_RENEW_S, _renewals(tenants)):
        found["fleet page, while rows change"] = [await _shown(looking) for _ in range(2 * times)]
    return found


async def _until_whole(looking: Looking) -> None:
    async with asyncio.timeout(_WHOLE_IN_S):
        while True:
            if "the uploads are being read" not in (await looking.page()).text:
                return
            await asyncio.sleep(_BETWEEN_S)


async def _shown(looking: Looking, path: str = "", **query: str) -> float:
    """A page that was not just shown; a moment after the last one."""
    await asyncio.sleep(_BETWEEN_S)
    page = await looking.page(path, **query)
    if page.status != 200:
        raise CannotRunError(f"the dashboard answered {page.status} to {path or 'the fleet page'} {query}")
    return page.ms


async def _unchanged(looking: Looking, times: int) -> list[float]:
    """The answers that say so; pages that tell times are sent again every quarter of a minute."""
    found: list[float] = []
    tag = ""
    for _ in range(10 * times):
        await asyncio.sleep(_BETWEEN_S)
        page = await looking.page(tag=tag)
        tag = page.tag
        if page.status == 304:
            found.append(page.ms)
        if len(found) == times:
            return found
    raise CannotRunError("the fleet page changed all the time, though nothing did")


def _renewals(tenants: Tenants) -> Callable[[], Awaitable[None]]:
    numbers = iter(range(5, tenants.uploads, 7))

    async def renew() -> None:
        await tenants.renew(next(numbers), datetime.now(UTC))

    return renew


@asynccontextmanager
async def _repeated(every_s: float, act: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async def repeat() -> None:
        while True:
            await act()
            await asyncio.sleep(every_s)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--uploads", type=int, help=f"how many (default {UPLOADS:,})")
    parser.add_argument("--instances", type=int, help=f"how many (default {INSTANCES})")


def run(chosen: argparse.Namespace) -> Results:
    """Measure; raises CannotRunError where a page is not shown."""
    uploads = chosen.uploads or (100 if chosen.quick else UPLOADS)
    instances = chosen.instances or (5 if chosen.quick else INSTANCES)
    pages, commands = (3, 1) if chosen.quick else (PAGES, COMMANDS)
    found = asyncio.run(measure(uploads, instances, pages, commands))
    held = {what: ms for what, ms in found.items() if what.startswith(("fleet page", "live", "certificate"))}
    return Results(
        name="overview",
        command=_results.command("overview", chosen),
        tables=[
            Table(
                f"Milliseconds, {uploads:,} uploads on {instances} instances",
                ("what", "median", "longest", "times"),
                tuple((what, statistics.median(ms), max(ms), len(ms)) for what, ms in found.items()),
                note="A page is fetched whole over HTTP from the local Functions host; the command is a process each.",
            )
        ],
        figures=[
            Figure(f"{what}, {uploads:,} uploads", statistics.median(found[what]), "ms")
            for what in ("fleet page", "fleet page, while rows change", "live update, nothing changed")
        ],
        missed=[
            f"{what} took {statistics.median(ms):.0f} ms, and is to take {PAGE_MS} ms at most"
            for what, ms in held.items()
            if statistics.median(ms) > PAGE_MS and not chosen.quick
        ],
    )


def _tell(doing: str) -> None:
    print(f"overview: {doing}", file=sys.stderr, flush=True)


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
