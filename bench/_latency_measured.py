"""What bench/latency.py measured, stage by stage and against the floor, and the tables that tell it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from _fleet import Noted
from _floor import Floor
from _results import Figure, Plot, Table, distribution

from shared.state.records import InstallationRecord, UploadRecord

if TYPE_CHECKING:
    from collections.abc import Callable

AGENTS_WAIT, FUNCTIONS_WAIT = "wait for the agent's look", "wait for the Function's look, entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One measured upload, in milliseconds from the start of its request.

    Attributes:
        began: When that was.
        answered_ms: When the request was answered.
        served_ms: When the last instance served it.
        tagged_ms: When the tags were seen to say live.
        record: Its row.
        last: What the agent reported that finished last.
        noted: What that agent's process noted.
    """

    began: datetime
    answered_ms: float
    served_ms: float
    tagged_ms: float
    record: UploadRecord
    last: InstallationRecord
    noted: Noted

    def stages(self) -> dict[str, float]:
        """Where the time went; the agents' part is that of the one that finished last."""
        record, last = self.record, self.last
        noticed, judged = self._ms(record.noticed_at), self._ms(record.judged_at)
        told, live = self._ms(record.fanned_out_at), self._ms(record.live_at)
        looked, finished = self._ms_of(self.noted.looked_at), self._ms(last.finished_at)
        sent, entered = self._ms_of(self.noted.reported_at), self._ms(last.reported_at)
        return {
            "upload request": self.answered_ms,
            "event delivery": noticed - self.answered_ms,
            "reading and validation": judged - noticed,
            "bundle, rows, telling": told - judged,
            AGENTS_WAIT: max(0.0, looked - told),
            "hint, row": finished - sum(last.stages_ms.values()) - max(looked, told),
            **{f"agent: {stage}": ms for stage, ms in last.stages_ms.items()},
            "report on its queue": sent - finished,
            FUNCTIONS_WAIT: entered - sent,
            "settling": live - entered,
            "tags, and seeing them": self.tagged_ms - live,
        }

    def _ms(self, at: datetime | None) -> float:
        assert at is not None
        return self._ms_of(at.timestamp())

    def _ms_of(self, at: float) -> float:
        return (at - self.began.timestamp()) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Uploads with one gap to one number of instances, and the floor there."""

    instances: int
    gap_s: float
    uploads: Sequence[Upload]
    floors: Sequence[Floor]

    @property
    def name(self) -> str:
        """Its gap in words."""
        return f"{self.gap_s:g} s gap" if self.gap_s else "no gap"

    def served(self) -> list[float]:
        """Milliseconds until the last instance served it."""
        return [upload.served_ms for upload in self.uploads]

    def tagged(self) -> list[float]:
        """Milliseconds until the tags said live."""
        return [upload.tagged_ms for upload in self.uploads]

    def floor_ms(self, of: Callable[[Floor], float]) -> float:
        """The floor's median."""
        return statistics.median(map(of, self.floors))

    def served_logic(self) -> list[float]:
        """Served without the agent's wait."""
        return [upload.served_ms - upload.stages()[AGENTS_WAIT] for upload in self.uploads]

    def tagged_logic(self) -> list[float]:
        """Tags without both waits; entering a report is no wait, and takes at least what it takes bare."""
        entry_ms = self.floor_ms(lambda floor: floor.entry_ms)
        stages = [upload.stages() for upload in self.uploads]
        waits = [each[AGENTS_WAIT] + max(0.0, each[FUNCTIONS_WAIT] - entry_ms) for each in stages]
        return [upload.tagged_ms - wait for upload, wait in zip(self.uploads, waits, strict=True)]


def overview(found: Sequence[Series]) -> Table:
    columns = ["gap, instances", "uploads"]
    columns += [f"{what}: {level}" for what in ("served", "tags") for level in ("median", "p90", "worst")]
    rows: list[tuple[str | float, ...]] = [
        (f"{each.name}, {each.instances}", len(each.uploads), *_levels(each.served()), *_levels(each.tagged()))
        for each in found
    ]
    note = "served: by every instance; tags: until the blob's tags say live."
    return Table("From the upload's first byte, milliseconds", tuple(columns), tuple(rows), note)


def against_floor(found: Sequence[Series]) -> Table:
    columns = ("gap, instances", "served: floor", "without wait", "ratio", "tags: floor", "without waits", "ratio")
    rows: list[tuple[str | float, ...]] = []
    for each in found:
        served_ms, live_ms = each.floor_ms(lambda floor: floor.served_ms), each.floor_ms(lambda floor: floor.live_ms)
        served, tagged = statistics.median(each.served_logic()), statistics.median(each.tagged_logic())
        name = f"{each.name}, {each.instances}"
        rows.append((name, served_ms, served, served / served_ms, live_ms, tagged, tagged / live_ms))
    note = (
        "Floor: the same requests bare, in the same order, and one handshake for each instance. Medians, milliseconds."
    )
    return Table("Without the waits, against the floor", columns, tuple(rows), note)


def stages_table(found: Sequence[Series]) -> Table:
    columns = ["stage", *(f"{each.name}: {level}" for each in found for level in ("median", "p90", "worst"))]
    by_series = [[upload.stages() for upload in each.uploads] for each in found]
    rows: list[tuple[str | float, ...]] = [
        (stage, *(level for stages in by_series for level in _levels([each[stage] for each in stages])))
        for stage in by_series[0][0]
    ]
    title = f"Where the time goes with {found[0].instances} instances, milliseconds"
    return Table(title, tuple(columns), tuple(rows), "Of the instance that finished last, by the gap between uploads.")


def figures(series: Series) -> list[Figure]:
    served, live = series.floor_ms(lambda floor: floor.served_ms), series.floor_ms(lambda floor: floor.live_ms)
    return [
        Figure(f"{series.name}, {what}{level}", value, "ms", value / floor, "the floor")
        for what, values, floor in (("served", series.served(), served), ("live", series.tagged(), live))
        for level, value in (("", statistics.median(values)), (", worst", max(values)))
    ]


def plot(found: Sequence[Series]) -> Plot:
    series = {
        f"{what}, {each.name}": distribution(values)
        for each in found
        for what, values in (("served", each.served()), ("live", each.tagged()))
    }
    title = f"From upload to served and to live, {found[0].instances} instances"
    return Plot("", title, "milliseconds from the upload's first byte", "share of uploads", series, "cdf")


def _levels(values: Sequence[float]) -> tuple[float, float, float]:
    ninth = statistics.quantiles(values, n=10, method="inclusive")[8] if len(values) > 1 else values[0]
    return statistics.median(values), ninth, max(values)
