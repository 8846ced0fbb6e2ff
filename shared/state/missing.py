"""Which instances do not serve an upload, by name, and how many do: derived as it is read, from the instances' rows.

What an upload's row says of instances is as of their reports. Since then some may have stopped, vanished, started
again or been reaped, which no upload's row is written for: a fleet that is updated would have each of thousands written
at every step. Who reads an upload's row together with the instances is told how things are now.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.binding import concerns
from shared.phrasing import LISTED_NAMES, listed, shown
from shared.state.presence import Presence, ago, presence_of, presence_text
from shared.state.records import BEHIND, JOINED, InstanceRecord, UploadRecord, UploadStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from datetime import datetime

    from shared.state.presence import Instances

MAX_MISSING = 100
"""Ids of instances told of one upload."""
REMARKED_FOR = timedelta(days=1)
"""That something else had changed what is served is told for so long after it was last seen."""
UNSAID_FOR = timedelta(seconds=3)
"""From being told to proof an instance usually takes less; until then none that runs is named."""
TROUBLE_CHARS = 200
"""Of an instance's trouble, in an upload's reason; beside the instance all of it is shown."""
NONE_LEFT = "no instance that proved it is registered any more"
"""Why none is live of what was proved, where none of those instances can be named."""

_COUNTED = frozenset({UploadStatus.ACCEPTED, UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED})
_SERVED = frozenset({UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE})


def proved_by(record: UploadRecord) -> Collection[str]:
    """The instances that proved all of an upload, as its row tells; empty where it does not."""
    if record.won is None:  # written by an earlier version, which tells only where it is as it should be
        return record.expected if record.live == record.total == len(record.expected) else ()
    told = [name for name in record.expected if name not in record.apart]
    found = told + [name for name, part in record.apart.items() if part == JOINED]
    return found if len(found) == record.live else ()


def behind_of(record: UploadRecord) -> Collection[str]:
    """The instances that have not done what they were told of an upload, as its row tells."""
    if record.won is not None:
        return [name for name, part in record.apart.items() if part == BEHIND]
    undone = record.live if record.status is UploadStatus.REMOVED else record.total - record.live
    return record.expected if undone == len(record.expected) else ()


def served_by_each(uploads: Iterable[UploadRecord]) -> tuple[Counter[str], bool]:
    """How many hosts and ports of these uploads each instance has proved, and whether the rows tell of all that did."""
    served: Counter[str] = Counter()
    is_whole = True
    for record in uploads:
        if record.status in _COUNTED:
            proved = proved_by(record)
            is_whole = is_whole and bool(proved or not record.live)
            served.update(dict.fromkeys(proved, len(record.claims) if record.won is None else record.won))
    return served, is_whole


class Roll:
    """The registered instances as of one moment, to be held against many uploads.

    Args:
        instances: By id.
        now: The moment, by the service's clock.
    """

    def __init__(self, instances: Instances, now: datetime) -> None:
        self._instances = instances
        self._now = now
        self._running = {name for name, known in instances.items() if presence_of(known, now) is Presence.RUNNING}
        self._odd = sorted(name for name, known in instances.items() if self._is_odd(name, known.value))

    def _is_odd(self, name: str, record: InstanceRecord) -> bool:
        return name not in self._running or not record.ready or bool(record.trouble)

    def as_seen(self, record: UploadRecord) -> UploadRecord:
        """An upload's row with the counts and the reason that are true now."""
        if record.status is UploadStatus.REMOVED:
            return self._removed(record)
        if record.status not in _COUNTED:
            return record
        proved, behind = proved_by(record), behind_of(record)
        lost = {name for name in proved if not self._vouches(name, record)}
        live = max(0, record.live - len(lost))
        if record.status is UploadStatus.LIVE:
            total = live
        elif behind:
            total = live + sum(name in self._running and name in record.expected for name in behind)
        else:
            total = max(live, record.total - len(lost))
        names = [*self._missing(record, behind, lost)]
        said = self._said(names, record, behind, lost) or (NONE_LEFT if lost and not live else "")
        reason = "; ".join(filter(None, [record.reason, self._remark(record) if live else "", said]))
        # What reported a failure, or was told a moment ago, is missing too, and needs no clause.
        missing = tuple(dict.fromkeys([*(name for name in behind if name in self._instances), *names]))
        if not missing and (live, total, reason) == (record.live, record.total, record.reason):
            return record
        return replace(record, live=live, total=total, reason=reason, missing=missing[:MAX_MISSING])

    def _vouches(self, name: str, record: UploadRecord) -> bool:
        """Whether an instance that proved an upload can still be taken to serve it."""
        if name not in self._running:
            return False
        instance = self._instances[name].value
        # Started after it was told, and not through with what it serves: its proof may be from before.
        return instance.ready or record.fanned_out_at is None or instance.started_at <= record.fanned_out_at

    def _removed(self, record: UploadRecord) -> UploadRecord:
        behind = behind_of(record)
        if not behind:
            return record
        known = [name for name in behind if name in self._instances]
        here = [name for name in known if name in self._running and record.live]
        away = [name for name in known if name not in self._running]
        clauses = [(name, f"has not shown that it serves it no more{self._since(name, record)}") for name in here]
        clauses += [(name, f"{self._seen(name)} and had not shown that it serves it no more") for name in away]
        said = listed([f"{shown(name)} {clause}" for name, clause in clauses], "; ")
        # What was reaped counts no more, though no row was written for it yet.
        reason = "; ".join(filter(None, [record.reason, said]))
        return replace(record, live=len(here), reason=reason, missing=(*here, *away)[:MAX_MISSING])

    def _remark(self, record: UploadRecord) -> str:
        """What an instance said of what it proved, while it is worth telling."""
        if record.status not in _SERVED:
            return ""
        is_over = record.drifted_at is not None and self._now - record.drifted_at >= REMARKED_FOR
        return "" if is_over else record.remark

    def _said(self, names: Sequence[str], record: UploadRecord, behind: Collection[str], lost: Collection[str]) -> str:
        """The instances that do not serve an upload, each with a clause."""
        said = [f"{shown(name)} {self._clause(name, record, behind, lost)}" for name in names[:LISTED_NAMES]]
        return listed([*said, *names[LISTED_NAMES:]], "; ")

    def _missing(self, record: UploadRecord, behind: Collection[str], lost: Collection[str]) -> Iterator[str]:
        """The instances that do not serve an upload and are to be named: first those that are waited for."""
        fresh = record.fanned_out_at is not None and self._now - record.fanned_out_at < UNSAID_FOR
        for name in behind:
            if name not in self._running or f"instance {name}, " in record.reason:
                continue  # named below, or with what it reported
            if not fresh or self._instances[name].value.trouble:
                yield name
        is_told = record.won is not None or bool(behind)
        for name in self._odd:
            runs = name in self._running
            if not concerns(record.role, self._instances[name].value.role) or (runs and name in behind):
                continue
            if name in lost or name in behind or (name not in record.expected and name not in record.apart):
                yield name
            elif not (runs or is_told or lost):
                yield name  # of which the row, by an earlier version, does not tell whether it proved the upload

    def _clause(self, name: str, record: UploadRecord, behind: Collection[str], lost: Collection[str]) -> str:
        instance = self._instances[name].value
        if name not in self._running:
            return self._away(name, record, behind, lost)
        if name in lost:
            why = f": {shown(instance.trouble, TROUBLE_CHARS)}" if instance.trouble else ""
            return f"started {ago(instance.started_at, self._now)} and is not through with what it serves{why}"
        if instance.trouble:
            return f"has not proved it: {shown(instance.trouble, TROUBLE_CHARS)}{self._since(name, record)}"
        if name in record.expected:
            return f"has not proved it{self._since(name, record)}"
        return "registered after the others were told, and has not proved it"

    def _away(self, name: str, record: UploadRecord, behind: Collection[str], lost: Collection[str]) -> str:
        seen = self._seen(name)
        if name in lost:
            return f"{seen} and had proved it before"
        if name in behind:
            return f"{seen} and had not proved it"
        return seen if name in record.expected else f"{seen} and had not been told"

    def _since(self, name: str, record: UploadRecord) -> str:
        if record.fanned_out_at is None or name not in record.expected:
            return f" ({self._seen(name)})"
        told = "could not be told yet" if name in record.untold else f"told {ago(record.fanned_out_at, self._now)}"
        return f" ({told}, {self._seen(name)})"

    def _seen(self, name: str) -> str:
        return presence_text(self._instances[name], self._now)
