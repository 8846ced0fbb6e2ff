"""What bench/burst.py measured, and the tables that tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from _results import Figure, Plot, Table

from local_azure.proxy.counting import FUNCTION, Counts

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARTIES = ("Function", "agents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Uploads that were sent at once.

    Attributes:
        instances: How many there were.
        sent_s: When the last upload request was answered, in seconds from the start.
        live_s: When each was live, in order, in seconds from the start.
        ceiling: Azurite's requests a second; None where it was not measured.
        counts: Useful requests; empty where they were not counted.
    """

    instances: int
    sent_s: float
    live_s: Sequence[float]
    ceiling: float | None = None
    counts: Counts = field(default_factory=Counts)

    @property
    def name(self) -> str:
        """It in words."""
        return f"{len(self.live_s):,} uploads, {self.instances} instances"

    @property
    def per_second(self) -> float:
        """Uploads that became live in a second, from the first request to the last one live."""
        return len(self.live_s) / self.live_s[-1]

    @property
    def requests(self) -> float:
        """Useful requests of one upload."""
        return self.counts.total() / len(self.live_s)

    @property
    def conflicts(self) -> float:
        """Those of them that met another writer."""
        return sum(count for kind, count in self.counts.items() if kind.outcome == "conflict") / len(self.live_s)


def _share(burst: Burst, counted: Burst) -> float:
    """Useful requests a second, as a share of what Azurite answers at most."""
    assert burst.ceiling is not None
    return burst.per_second * counted.requests / burst.ceiling


def overview(pairs: Sequence[tuple[Burst, Burst]]) -> Table:
    columns = ("", "sent, s", "half live, s", "all live, s", "uploads/s", "requests each", "conflicts", "share")
    rows = tuple(
        (
            burst.name,
            burst.sent_s,
            burst.live_s[len(burst.live_s) // 2],
            burst.live_s[-1],
            burst.per_second,
            counted.requests,
            counted.conflicts,
            _share(burst, counted),
        )
        for burst, counted in pairs
    )
    note = (
        "Requests each: those of one upload, polls and heartbeats apart, from the counted run; conflicts: of these. "
        "Share: useful requests a second against Azurite's ceiling, "
        + ", ".join(f"{burst.ceiling:,.0f}/s with {burst.instances} instances" for burst, _ in pairs)
        + "."
    )
    return Table("Uploads at once", columns, rows, note)


def kinds(counted: Burst) -> Table:
    """Requests of one upload by kind and by the party that asks."""
    by_kind: Counter[tuple[str, str, str]] = Counter()
    for kind, number in counted.counts.items():
        party = "Function" if kind.caller == FUNCTION else "agents"
        resource = "" if kind.resource.startswith("cert-agent-") else f" {kind.resource}"
        by_kind[kind.service, f"{kind.operation}{resource}", party] += number
    total = len(counted.live_s)
    rows = tuple(
        (f"{operation} ({service})", *(_each(by_kind, (service, operation), party, total) for party in _PARTIES))
        for service, operation in sorted({(service, operation) for service, operation, _ in by_kind})
    )
    return Table(f"Requests of one upload, {counted.name}", ("", *_PARTIES), rows)


def _each(counts: Mapping[tuple[str, str, str], int], kind: tuple[str, str], party: str, total: int) -> str | float:
    number = counts.get((*kind, party), 0)
    return number / total if number else ""


def figures(burst: Burst, counted: Burst) -> list[Figure]:
    assert burst.ceiling is not None
    bare_s = counted.requests * len(burst.live_s) / burst.ceiling
    return [
        Figure(f"{burst.name}: until all are live", burst.live_s[-1], "s", burst.live_s[-1] / bare_s, "the bare time"),
        Figure(f"{burst.name}: a second", burst.per_second, "uploads", _share(burst, counted), "Azurite's ceiling"),
        Figure(f"{counted.name}: requests of one", counted.requests, "requests"),
    ]


def plot(burst: Burst, counted: Burst) -> Plot:
    assert burst.ceiling is not None
    total = len(burst.live_s)
    series = {
        "live on every instance": [(0.0, 0.0), *((seconds, number) for number, seconds in enumerate(burst.live_s, 1))],
        "Azurite's ceiling for these requests": [(0.0, 0.0), (counted.requests * total / burst.ceiling, float(total))],
    }
    name = f"{burst.instances}-instances"
    return Plot(name, burst.name, "seconds from the first request", "uploads", series, "line")
