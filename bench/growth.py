"""What the 10,001st certificate costs, against the 10th: the whole path, the status page, each sweep.

Needs Azurite and 2 GB of memory; about 15 minutes, most of them to have 10,000 certificates there.

One upload after the other goes its way in this process, step by step and without a wait: the Function looks at it and
tells the instance, the agent takes the hint, installs, proves on a listener of its own and reports, the Function enters
the report and settles the upload. Every request goes to Azurite; what Azurite itself needs longer for where its tables
are large, the same reads show bare.

A sweep reads all there is, so that its time grows; its memory is to grow with the uploads alone, and not with the
reports, of which there are as many as certificates times instances.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import _results
from _growth_platform import DOMAIN, PHASES, Platform, platform
from _results import CannotRunError, Figure, Plot, Results, Table

from shared.binding import ANY_ROLE, BindingKey
from shared.function.status_api import certificate, certificates
from shared.function.sweep import sweep

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Sequence

SIZES = (10, 10_000)
INSTANCES, UPLOADS, READS, SWEEPS = 20, 20, 20, 3
PAGE = "10"

_WHOLE = "one more, whole path"
_LISTED = "status page: ten uploads"
_NAMED = "status page: one upload"
_SWEEP = "a sweep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What there is to say of one size.

    Attributes:
        size: Certificates that are there.
        took_ms: Median milliseconds by what took them.
        sweep_mb: Memory of a sweep at its peak.
    """

    size: int
    took_ms: dict[str, float]
    sweep_mb: float


async def measure(sizes: Sequence[int], *, instances: int, uploads: int, reads: int, sweeps: int) -> list[Measured]:
    """All sizes, smallest first, in one account that grows."""
    found = []
    async with platform(instances) as running:
        for size in sizes:
            _tell(f"growing to {size:,} certificates")
            await running.grow(size)
            _tell(f"measuring at {size:,}")
            took_ms = await _one_more(running, uploads) | await _reads(running, reads)
            took_ms[_SWEEP], sweep_mb = await _sweeps(running, sweeps)
            found.append(Measured(size=size, took_ms=took_ms, sweep_mb=sweep_mb))
    return found


async def _one_more(running: Platform, uploads: int) -> dict[str, float]:
    await running.one_more()  # connections and imports are warm
    taken = [await running.one_more() for _ in range(uploads)]
    phases = {name: statistics.median(phase) for name, phase in zip(PHASES, zip(*taken, strict=True), strict=True)}
    return {_WHOLE: statistics.median(map(sum, taken)), **phases}


async def _reads(running: Platform, reads: int) -> dict[str, float]:
    state, host = running.account.state, f"copy-0.{DOMAIN}"
    key = BindingKey(role=ANY_ROLE, host=host, port=443)
    page = await certificates(running.cloud, limit=PAGE)
    middle = page.document["next"]
    work: dict[str, Callable[[], Awaitable[object]]] = {
        "bare: a binding's row": lambda: state.bindings.get(key),
        "bare: the reports on one host": lambda: state.reports_on(host, 443),
        _LISTED: lambda: certificates(running.cloud, limit=PAGE, after=middle),
        _NAMED: lambda: certificate(running.cloud, "copy-0.pfx"),
    }
    return {what: statistics.median([await _ms(read) for _ in range(reads)]) for what, read in work.items()}


async def _sweeps(running: Platform, sweeps: int) -> tuple[float, float]:
    """How long a sweep takes that finds nothing to do, and its memory, which is counted in a sweep of its own."""

    async def once() -> None:
        report = await sweep(running.cloud)
        if report.looked_at or report.settled or report.forgotten or report.problems:
            raise CannotRunError(f"a sweep found something to do: {report}")

    await running.beat()
    await once()  # lists the bundles, as the first of an hour does
    took_ms = statistics.median([await _ms(once) for _ in range(sweeps)])
    await running.beat()
    tracemalloc.start()
    await once()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return took_ms, peak / 1e6


async def _ms(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, help=f"certificates in the end (default {SIZES[-1]:,})")
    parser.add_argument("--instances", type=int, help=f"that have reported on each (default {INSTANCES})")
    parser.add_argument("--uploads", type=int, help=f"measured at each size (default {UPLOADS})")


def run(chosen: argparse.Namespace) -> Results:
    """Measure; raises CannotRunError where an upload does not become live, or a sweep finds something to do."""
    sizes = (SIZES[0], chosen.size or (40 if chosen.quick else SIZES[-1]))
    instances, uploads = chosen.instances or (2 if chosen.quick else INSTANCES), chosen.uploads or UPLOADS
    few, many = asyncio.run(
        measure(sizes, instances=instances, uploads=2 if chosen.quick else uploads, reads=READS, sweeps=SWEEPS)
    )
    ratios = {what: many.took_ms[what] / few.took_ms[what] for what in few.took_ms}
    at = f"at {few.size:,}"
    grown_kb = (many.sweep_mb - few.sweep_mb) * 1000 / (many.size - few.size)
    each = [measured.took_ms[_SWEEP] / measured.size for measured in (few, many)]
    return Results(
        name="growth",
        command=_results.command("growth", chosen),
        tables=[
            Table(
                f"Milliseconds, median, {instances} instances have reported on each certificate",
                ("what", f"at {few.size:,}", f"at {many.size:,}", "ratio"),
                (
                    *((what, few.took_ms[what], many.took_ms[what], ratio) for what, ratio in ratios.items()),
                    ("a sweep, for each certificate", *each, each[1] / each[0]),
                ),
                note=f"A sweep's memory at its peak: {few.sweep_mb:.1f} MB {at}, {many.sweep_mb:.1f} MB at "
                f"{many.size:,}; "
                f"{grown_kb:.1f} KB for each certificate, however many instances there are.",
            )
        ],
        figures=[
            *(Figure(what, many.took_ms[what], "ms", ratios[what], at) for what in (_WHOLE, *PHASES, _LISTED, _NAMED)),
            Figure(_SWEEP, many.took_ms[_SWEEP] / 1000, "s", ratios[_SWEEP], at),
            Figure("a sweep's memory", many.sweep_mb, "MB", many.sweep_mb / few.sweep_mb, at),
        ],
        plots=[
            Plot(
                name="",
                title=f"One more certificate beside {few.size:,} and {many.size:,}",
                x=" · ".join(f"{number} = {what}" for number, what in enumerate((_WHOLE, *PHASES, _LISTED), 1)),
                y="milliseconds, median",
                series={
                    f"at {measured.size:,}": [
                        (number, measured.took_ms[what]) for number, what in enumerate((_WHOLE, *PHASES, _LISTED), 1)
                    ]
                    for measured in (few, many)
                },
                kind="bar",
            )
        ],
    )


def _tell(doing: str) -> None:
    print(f"growth: {doing}", file=sys.stderr, flush=True)


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
