"""How many uploaded files a second are judged, against parsing them bare.

Needs nothing beside certcast; about a minute.

Bare is `cryptography` opening the file in this process: no look at what it costs, no checks, no bounds. Verdicts come
from the processes that the Function judges in, two at a time, as a crowd of uploads has them; one that has to wait for
no other says what a verdict adds to the parsing.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import _results
from _results import CannotRunError, Figure, Plot, Results, Table
from cryptography.hazmat.primitives.serialization import pkcs12

from shared.upload import USUAL_PORTS, parse_metadata
from shared.validation.judge import ValidationPolicy
from shared.validation.tasks import Task
from shared.validation.trust import Trust
from shared.validation.workers import Workers
from tests.rigs.certificates import KeyKind, authority

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

PASSWORD = "correct horse"  # noqa: S105 - of files that are made here
AT_ONCE = 8
"""No more may wait for the process that judges what takes long."""
FOR_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file.

    Attributes:
        name: What it holds.
        key: Its key.
        iterations: Of the derivation for each of its two encrypted layers.
    """

    name: str
    key: KeyKind
    iterations: int


KINDS = (
    Kind(name="ECDSA P-256, 2,000 iterations", key="ec", iterations=2_000),
    Kind(name="RSA-2048, 2,000 iterations", key="rsa", iterations=2_000),
    Kind(name="RSA-2048, 600,000 iterations", key="rsa", iterations=600_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One kind of file.

    Attributes:
        kind: Which.
        bare_ms: Parsing one, median.
        alone_ms: A verdict on one with nothing else to do, median.
        in_a_crowd: Verdicts a second, many at once.
    """

    kind: Kind
    bare_ms: float
    alone_ms: float
    in_a_crowd: float

    @property
    def bare_rate(self) -> float:
        """Files parsed a second, one after the other."""
        return 1000 / self.bare_ms

    @property
    def ratio(self) -> float:
        """Verdicts in the time that parsing one takes."""
        return self.in_a_crowd / self.bare_rate


async def measure(kind: Kind, for_s: float) -> Measured:
    """Parse, judge one by one, judge many at once, for so many seconds each."""
    content = authority().issue("shop.certcast.example", key=kind.key).pfx(PASSWORD, iterations=kind.iterations)
    metadata, _ = parse_metadata({"CertificatePassword": PASSWORD})
    workers = Workers(ValidationPolicy(trust=Trust.from_setting("off"), ports=USUAL_PORTS))

    async def judge() -> None:
        task = Task.of_pfx(content, metadata, [PASSWORD.encode()], now=datetime.now(UTC))
        judged = (await workers.judge(task)).judged
        if judged is None or judged.bundle is None or judged.violations:
            raise CannotRunError(f"a sound file is rejected: {judged and judged.violations}")

    async def parse() -> None:
        pkcs12.load_pkcs12(content, PASSWORD.encode())

    try:
        await asyncio.gather(*(judge() for _ in range(AT_ONCE)))  # the processes have started
        bare, alone = await _took_ms(parse, for_s), await _took_ms(judge, for_s)
        began = time.perf_counter()
        crowd = await asyncio.gather(*(_took_ms(judge, for_s) for _ in range(AT_ONCE)))
        took_s = time.perf_counter() - began
    finally:
        await workers.close()
    return Measured(
        kind=kind,
        bare_ms=statistics.median(bare),
        alone_ms=statistics.median(alone),
        in_a_crowd=sum(map(len, crowd)) / took_s,
    )


async def _took_ms(work: Callable[[], Awaitable[None]], for_s: float) -> list[float]:
    took: list[float] = []
    end = time.perf_counter() + for_s
    while (before := time.perf_counter()) < end or not took:
        await work()
        took.append((time.perf_counter() - before) * 1000)
    return took


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--for-s", type=float, help=f"seconds for each measurement (default {FOR_S:g})")


def run(chosen: argparse.Namespace) -> Results:
    """Measure; raises CannotRunError where a sound file is rejected."""
    for_s = chosen.for_s or (0.3 if chosen.quick else FOR_S)
    found = [asyncio.run(measure(kind, for_s)) for kind in KINDS]
    return Results(
        name="intake",
        command=_results.command("intake", chosen),
        tables=[
            Table(
                "Files a second",
                ("file", "parsed bare, one process", "verdicts", "ratio", "parsed, ms", "verdict on one alone, ms"),
                tuple(
                    (each.kind.name, each.bare_rate, each.in_a_crowd, each.ratio, each.bare_ms, each.alone_ms)
                    for each in found
                ),
                note="Files that take long are judged one at a time, after a first look has put them aside.",
            )
        ],
        figures=[
            Figure(
                f"verdicts: {each.kind.name}", each.in_a_crowd, "1/s", each.in_a_crowd / each.bare_rate, "parsing bare"
            )
            for each in found
        ],
        plots=[
            Plot(
                name="",
                title="Files a second",
                x=" · ".join(f"{number} = {each.kind.name}" for number, each in enumerate(found, 1)),
                y="files a second",
                series={
                    "parsed bare": [(number, each.bare_rate) for number, each in enumerate(found, 1)],
                    "verdicts": [(number, each.in_a_crowd) for number, each in enumerate(found, 1)],
                },
                kind="bar",
            )
        ],
    )


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
