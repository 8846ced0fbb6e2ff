"""The history of an upload: entered into its row with what it tells of, written to table `history` from there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.state.history import MAX_PAST, HistoryEntry, HistoryKind

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from shared.state.records import UploadRecord


def entry_about(
    about: UploadRecord,
    kind: HistoryKind,
    *,
    at: datetime,
    entry_id: str,
    seconds: float | None = None,
    reason: str | None = None,
    instance: str = "",
) -> HistoryEntry:
    """Make an entry about an upload.

    Args:
        about: Its row, as it is told; or as it describes another certificate of it, that in place.
        kind: What became of it.
        at: When.
        entry_id: Names the entry.
        seconds: How long it took.
        reason: Why; None takes what the row says.
        instance: Where.
    """
    return HistoryEntry(
        id=entry_id,
        at=at,
        kind=kind,
        name=about.name,
        version=about.source_etag,
        hosts=about.hosts,
        port=about.port,
        subject=about.subject,
        fingerprint_sha256=about.fingerprint_sha256,
        not_after=about.not_after,
        seconds=seconds,
        reason=_reason(about) if reason is None else reason,
        instance=instance,
        traceparent=about.traceparent,
    )


def _reason(about: UploadRecord) -> str:
    return about.reason or "; ".join(f"{each.code.value}: {each.detail}" for each in about.violations)


def with_entry(record: UploadRecord, entry: HistoryEntry) -> UploadRecord:
    """Enter an entry into its upload's row, after those that wait there, unless it waits there."""
    if any(known.place == entry.place for known in record.past):
        return record
    last = record.past[-1].at if record.past else entry.at
    # Two of one write have one moment, and their order is to show.
    after = entry if entry.at > last or not record.past else replace(entry, at=last + timedelta(microseconds=1))
    return replace(record, past=(*record.past, after)[-MAX_PAST:])


def without_entries(record: UploadRecord, written: Collection[HistoryEntry]) -> UploadRecord:
    """Take entries that stand in the table out of their upload's row."""
    if not written:
        return record
    places = {entry.place for entry in written}
    return replace(record, past=tuple(entry for entry in record.past if entry.place not in places))
