"""What the 10,001st certificate costs, against the 10th: the whole path, the status page, each sweep.

Needs Azurite and 2 GB of memory; about 15 minutes, most of them to have 10,000 certificates there.

One upload after the other goes its way in this process, step by step and without a wait: the Function looks at it and
tells the instance, the agent takes the hint, installs, proves on a listener of its own and reports, the Function enters
the report and settles the upload. Every request goes to Azurite, which looks through a table for each of them: beside
the time by the clock stands the processor time of this process alone, and bare reads show what Azurite needs.

A sweep reads all uploads and bindings, so that its time grows; all reports, as many as certificates times instances, it
reads once an hour, and its memory is not to grow with them.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import _results
from _growth_platform import DOMAIN, PHASES, Platform, Took, platform, took
from _results import CannotRunError, Figure, Plot, Results, Table

from shared.binding import ANY_ROLE, BindingKey
from shared.function.status_api import certificate, certificates
from shared.function.sweep import sweep

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Sequence

SIZES = (10, 10_000)
INSTANCES, UPLOADS, READS, SWEEPS = 20, 20, 20, 3
WARMING = 5
PAGE = "10"

_WHOLE = "one more, whole path"
_LISTED = "status page: ten uploads"
_NAMED = "status page: one upload"
_SWEEP = "a sweep"
_SWEEP_OF_ALL = "a sweep, once an hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What there is to say of one size.

    Attributes:
        size: Certificates that are there.
        medians: By what took so long.
        sweep_mb: Memory of a sweep at its peak, all reports seen.
    """

    size: int
    medians: dict[str, Took]
    sweep_mb: float


async def measure(sizes: Sequence[int], *, instances: int, uploads: int) -> list[Measured]:
    """All sizes, smallest first, in one account that grows."""
    found = []
    async with platform(instances) as running:
        for size in sizes:
            _tell(f"growing to {size:,} certificates")
            await running.grow(size)
            _tell(f"measuring at {size:,}")
            medians = await _one_more(running, uploads) | await _reads(running) | await _sweeps(running)
            found.append(Measured(size=size, medians=medians, sweep_mb=await _memory_mb(running)))
    return found


async def _one_more(running: Platform, uploads: int) -> dict[str, Took]:
    for _ in range(WARMING):
        await running.one_more()
    taken = [await running.one_more() for _ in range(uploads)]
    phases = {name: _median(phase) for name, phase in zip(PHASES, zip(*taken, strict=True), strict=True)}
    whole = [Took(sum(each.ms for each in one), sum(each.own_ms for each in one)) for one in taken]
    return {_WHOLE: _median(whole), **phases}


async def _reads(running: Platform) -> dict[str, Took]:
    state, host = running.account.state, f"copy-0.{DOMAIN}"
    key = BindingKey(role=ANY_ROLE, host=host, port=443)
    middle = (await certificates(running.cloud, limit=PAGE)).document["next"]
    work: dict[str, Callable[[], Awaitable[object]]] = {
        "bare: a binding's row": lambda: state.bindings.get(key),
        "bare: the reports on one host": lambda: state.reports_on(host, 443),
        _LISTED: lambda: certificates(running.cloud, limit=PAGE, after=middle),
        _NAMED: lambda: certificate(running.cloud, "copy-0.pfx"),
    }
    return {what: _median([await took(read) for _ in range(READS)]) for what, read in work.items()}


async def _sweeps(running: Platform) -> dict[str, Took]:
    """Sweeps that find nothing to do: the first of an hour, and others."""
    await running.beat()
    running.cloud.last_done.clear()
    of_all = await took(lambda: _sweep(running))
    return {_SWEEP: _median([await took(lambda: _sweep(running)) for _ in range(SWEEPS)]), _SWEEP_OF_ALL: of_all}


async def _memory_mb(running: Platform) -> float:
    """Counted in a sweep of its own, as counting takes time."""
    await running.beat()
    running.cloud.last_done.clear()
    tracemalloc.start()
    await _sweep(running)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


async def _sweep(running: Platform) -> None:
    report = await sweep(running.cloud)
    if report.looked_at or report.settled or report.forgotten or report.problems:
        raise CannotRunError(f"a sweep found something to do: {report}")


def _median(taken: Sequence[Took]) -> Took:
    return Took(statistics.median(each.ms for each in taken), statistics.median(each.own_ms for each in taken))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, help=f"certificates in the end (default {SIZES[-1]:,})")
    parser.add_argument("--instances", type=int, help=f"that have reported on each (default {INSTANCES})")
    parser.add_argument("--uploads", type=int, help=f"measured at each size (default {UPLOADS})")


def run(chosen: argparse.Namespace) -> Results:
    """Measure; raises CannotRunError where an upload does not become live, or a sweep finds something to do."""
    sizes = (SIZES[0], chosen.size or (40 if chosen.quick else SIZES[-1]))
    instances, uploads = chosen.instances or (1 if chosen.quick else INSTANCES), chosen.uploads or UPLOADS
    few, many = asyncio.run(measure(sizes, instances=instances, uploads=2 if chosen.quick else uploads))
    at = f"at {few.size:,}"
    shown = (_WHOLE, *PHASES, _LISTED)
    return Results(
        name="growth",
        command=_results.command("growth", chosen),
        tables=[_table(few, many, instances)],
        figures=[
            *(_figure(what, few, many) for what in (*shown, _NAMED, _SWEEP, _SWEEP_OF_ALL)),
            Figure("a sweep's memory", many.sweep_mb, "MB", many.sweep_mb / few.sweep_mb, at),
        ],
        plots=[
            Plot(
                name="",
                title=f"One more certificate {at} and {many.size:,}",
                x=" · ".join(f"{number} = {what}" for number, what in enumerate(shown, 1)),
                y="milliseconds of processor time, median",
                series={
                    f"at {measured.size:,}": [
                        (number, measured.medians[what].own_ms) for number, what in enumerate(shown, 1)
                    ]
                    for measured in (few, many)
                },
                kind="bar",
            )
        ],
    )


def _figure(what: str, few: Measured, many: Measured) -> Figure:
    before, after = few.medians[what], many.medians[what]
    return Figure(f"{what}, processor time", after.own_ms, "ms", after.own_ms / before.own_ms, f"at {few.size:,}")


def _table(few: Measured, many: Measured, instances: int) -> Table:
    few_at, many_at = f"at {few.size:,}", f"at {many.size:,}"
    grown_kb = (many.sweep_mb - few.sweep_mb) * 1000 / (many.size - few.size)
    return Table(
        f"Milliseconds, median, {instances} instances have reported on each certificate",
        ("what", few_at, many_at, "ratio", f"own {few_at}", f"own {many_at}", "own ratio"),
        tuple(
            (what, before.ms, after.ms, after.ms / before.ms, before.own_ms, after.own_ms, after.own_ms / before.own_ms)
            for what, before in few.medians.items()
            for after in [many.medians[what]]
        ),
        note="Own is processor time of Function and agent, without Azurite. The memory of a sweep that sees all "
        f"reports is {few.sweep_mb:.1f} MB {few_at} and {many.sweep_mb:.1f} MB {many_at}, {grown_kb:.1f} KB for each "
        "certificate.",
    )


def _tell(doing: str) -> None:
    print(f"growth: {doing}", file=sys.stderr, flush=True)


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
