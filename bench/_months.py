"""What a month of certcast costs in requests, from what `bench cost` measured and what sweeps and reconciles read.

`python3 bench/_months.py` prints the table of docs/operations.md. Measured figures are read from docs/benchmarks.md;
what grows with certificates beyond them is counted in pages, as the services give them: 1,000 rows or 5,000 blobs.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from _prices import HOURS_A_MONTH, PRICES

CERTIFICATES, INSTANCES = (100, 1_000, 10_000), (4, 20, 100)
RENEWALS_A_MONTH = 0.5
"""Of each certificate: one that lasts 90 days is renewed after 60."""
WAIT_MS = 1_000
HISTORY_ENTRIES = 2
"""Of an upload that becomes live; the table is younger than the figures of `bench cost`."""
KEY_OPERATION_USD = 0.15 / 10_000
"""An unwrap under an RSA key of 3,072 bits; docs/operations.md, Key Vault, has the source."""
ROWS, BLOBS = 1_000, 5_000
_SWEEPS_AN_HOUR, _RECONCILES_AN_HOUR, _NOTES_AN_HOUR = 60, 12, 12
_BENCHMARKS = Path(__file__).parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What `bench cost` found.

    Attributes:
        agent, function: Requests of an idle hour, and US dollars of an idle month.
        once, each: Of an upload, once and for each instance: requests, and US dollars of a thousand.
    """

    agent: tuple[float, float]
    function: tuple[float, float]
    once: tuple[float, float]
    each: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """One month.

    Attributes:
        requests: To the storage account.
        usd: What they cost.
        unwraps: Operations of the vault's key, where it is one of a vault.
    """

    requests: float
    usd: float
    unwraps: float


def measured(page: str) -> Measured:
    """Read the tables of the page of benchmarks."""

    def cells(row: str) -> list[float]:
        [found] = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", page, re.MULTILINE)
        return [float(cell.strip().replace(",", "")) for cell in found.split("|")]

    agent, function = cells(f"an agent that waits {WAIT_MS:,} ms at most"), cells("the Function, once")
    upload = cells("all of it")
    return Measured(
        agent=(agent[0], agent[3]),
        function=(function[0], function[3]),
        once=(upload[0], upload[2]),
        each=(upload[1], upload[3]),
    )


def month(certificates: int, instances: int, found: Measured) -> Month:
    """Add up a month of so many certificates on so many instances."""
    uploads = certificates * RENEWALS_A_MONTH
    more_rows, more_blobs = math.ceil(certificates / ROWS) - 1, math.ceil(certificates / BLOBS) - 1
    sweeps = HOURS_A_MONTH * _SWEEPS_AN_HOUR
    reads: float = 2 * more_rows * sweeps
    reads += HOURS_A_MONTH * math.ceil(certificates * instances / ROWS)
    reads += 2 * more_rows * instances * HOURS_A_MONTH * _RECONCILES_AN_HOUR
    reads += HISTORY_ENTRIES * uploads
    lists = more_blobs * (sweeps + HOURS_A_MONTH)
    notes = HOURS_A_MONTH * _NOTES_AN_HOUR
    idle = HOURS_A_MONTH * (found.function[0] + instances * found.agent[0])
    usd = found.function[1] + instances * found.agent[1]
    usd += uploads / 1_000 * (found.once[1] + instances * found.each[1])
    usd += (reads * PRICES["table"].usd + lists * PRICES["blob list"].usd + notes * PRICES["blob write"].usd) / 10_000
    asked = uploads * (found.once[0] + instances * found.each[0])
    return Month(requests=idle + asked + reads + lists + notes, usd=usd, unwraps=uploads * instances)


def table() -> str:
    """The table as Markdown."""
    found = measured(_BENCHMARKS.read_text(encoding="utf-8"))
    lines = [
        "| certificates | instances | requests, millions | of them for renewals | requests, USD | key, USD |",
        "| --: | --: | --: | --: | --: | --: |",
    ]
    for certificates in CERTIFICATES:
        for instances in INSTANCES:
            whole = month(certificates, instances, found)
            changed = certificates * RENEWALS_A_MONTH * (found.once[0] + instances * found.each[0] + HISTORY_ENTRIES)
            share = f"{changed / whole.requests:.1%}"
            lines.append(
                f"| {certificates:,} | {instances} | {whole.requests / 1e6:.1f} | {share} | {whole.usd:.2f} "
                f"| {whole.unwraps * KEY_OPERATION_USD:.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
