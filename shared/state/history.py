"""What became of uploads, entry by entry: table `history` keeps them for 90 days.

An entry is entered into its upload's row (`UploadRecord.past`) in the same write as the change it tells of, so that no
crash loses one, and written to the table from there. Its place there follows from its moment and its id, so that one
which is written twice stands there once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.codec import Word, instant_text
from shared.messages import EventType
from shared.phrasing import day, shown
from shared.state.keys import history_key

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT_FOR = timedelta(days=90)
"""Entries of days that are longer past are deleted."""
MAX_PAST = 20
"""Entries of one upload that wait to be written to the table; beyond it the oldest are dropped."""

HOSTS_CHARS = 2_000
"""Of all hosts in one entry: 20 entries are to leave an upload's row small."""
_SUBJECT_CHARS = 200
_REASON_CHARS = 300
_NAME_CHARS = 200
"""Of an instance's id and of a version."""
_ID_CHARS = 64


class HistoryKind(Word):
    """What became of an upload; with `accepted`, what is served may be new or return, `renewed` replaces another."""

    ACCEPTED = "accepted"
    RENEWED = "renewed"
    SCHEDULED = "scheduled"
    REJECTED = "rejected"
    LIVE = "live"
    PARTIALLY_LIVE = "partially_live"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    REMOVED = "removed"
    EXPIRING = "expiring"
    REDEPLOYED = "redeployed"
    DRIFT_REPAIRED = "drift_repaired"

    @property
    def event_type(self) -> EventType | None:
        """The type of the outgoing event about the same; None where there is none."""
        return _EVENT_TYPES.get(self)


_EVENT_TYPES = {
    HistoryKind.ACCEPTED: EventType.ACCEPTED,
    HistoryKind.RENEWED: EventType.ACCEPTED,
    HistoryKind.SCHEDULED: EventType.ACCEPTED,
    HistoryKind.REDEPLOYED: EventType.ACCEPTED,
    HistoryKind.REJECTED: EventType.REJECTED,
    HistoryKind.LIVE: EventType.LIVE,
    HistoryKind.PARTIALLY_LIVE: EventType.PARTIALLY_LIVE,
    HistoryKind.FAILED: EventType.INSTALL_FAILED,
    HistoryKind.SUPERSEDED: EventType.SUPERSEDED,
    HistoryKind.REMOVED: EventType.REMOVED,
    HistoryKind.EXPIRING: EventType.EXPIRING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One thing that became of an upload; bounded, whatever the upload holds.

    Attributes:
        id: Names it; also the id of the outgoing event about the same, where there is one.
        at: When it was.
        kind: What it was.
        name: The upload.
        version: The ETag that was judged.
        hosts: What the upload asked for, as many as fit into 2,000 characters.
        hosts_total: How many hosts these were.
        port: With them.
        subject: Of the certificate, as what follows; empty where none was read.
        fingerprint_sha256: Lower-case hex.
        not_after: Its end.
        seconds: How long it took: to a verdict, to live and to failure from the upload (or the change that made it take
            over), of a removal until no instance served it; None where that is not known.
        reason: Why, in a sentence.
        instance: Where it was, of a drift.
        traceparent: W3C trace context of the look or the change.
    """

    id: str
    at: datetime
    kind: HistoryKind
    name: str
    version: str = ""
    hosts: tuple[str, ...] = ()
    hosts_total: int = 0
    port: int = 443
    subject: str = ""
    fingerprint_sha256: str = ""
    not_after: datetime | None = None
    seconds: float | None = None
    reason: str = ""
    instance: str = ""
    traceparent: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hosts_total", max(self.hosts_total, len(self.hosts)))
        object.__setattr__(self, "hosts", tuple(_fitting(self.hosts)))
        for name, most in _BOUNDS.items():
            object.__setattr__(self, name, shown(getattr(self, name), most))
        if self.seconds is not None:
            object.__setattr__(self, "seconds", round(max(0.0, self.seconds), 3))

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands in the table."""
        return history_key((self.at, self.id))


_BOUNDS = {
    "id": _ID_CHARS,
    "version": _NAME_CHARS,
    "subject": _SUBJECT_CHARS,
    "fingerprint_sha256": _ID_CHARS,
    "reason": _REASON_CHARS,
    "instance": _NAME_CHARS,
    "traceparent": _ID_CHARS,
}


def _fitting(hosts: tuple[str, ...]) -> Iterator[str]:
    room = HOSTS_CHARS
    for host in hosts:
        room -= len(host)
        if room < 0:
            return
        yield host


def days_back(newest: datetime, oldest: datetime) -> Iterator[str]:
    """The table's partitions from one moment back to another, newest first: the days in UTC."""
    found, last = newest.astimezone(UTC).date(), oldest.astimezone(UTC).date()
    while found >= last:
        yield found.isoformat()
        found -= timedelta(days=1)


def first_day_kept(now: datetime) -> date:
    """The oldest day whose entries are kept."""
    return (now - KEPT_FOR).astimezone(UTC).date()


def history_document(entry: HistoryEntry) -> dict[str, Any]:
    """Describe an entry."""
    kind = entry.kind.event_type
    return {
        "id": entry.id,
        "at": instant_text(entry.at),
        "kind": entry.kind.value,
        "event_type": None if kind is None else kind.value,
        "name": entry.name,
        "version": entry.version or None,
        "hosts": list(entry.hosts),
        "hosts_total": entry.hosts_total,
        "port": entry.port,
        "subject": entry.subject or None,
        "fingerprint_sha256": entry.fingerprint_sha256 or None,
        "not_after": None if entry.not_after is None else day(entry.not_after),
        "seconds": entry.seconds,
        "reason": entry.reason,
        "instance": entry.instance or None,
        "traceparent": entry.traceparent or None,
    }
