"""The history of an upload: entered into its row with what it tells of, written to table `history` from there.

An entry leaves the row only once it stands in the table. Its place there is its own, so that one which is written
again, as a process ended in between or two were at it, stands there once. While there is no such table, entries wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.bounded import gather_bounded
from shared.codec import instant_text
from shared.errors import CertcastError, NotSetUpError
from shared.phrasing import listed, logger, shown
from shared.state.history import MAX_PAST, HistoryEntry, HistoryKind
from shared.state.records import HISTORY_TABLE, UploadRecord, UploadStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud
    from shared.state.rows import Update

log = logger(__name__)

ANSWERED_S = 5.0
"""How long an upload's own work may wait for the table; what takes longer is the sweep's."""
LEFT_AFTER = timedelta(seconds=30)
"""Entries that stand in a row for so long were left there by a process that ended, or by a table that took none."""

_SERVED = frozenset({UploadStatus.ACCEPTED, UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED})


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


def entry_on_verdict(
    before: UploadRecord,
    after: UploadRecord,
    kind: HistoryKind,
    *,
    at: datetime,
    entry_id: str,
    reason: str | None = None,
) -> HistoryEntry:
    """Make the entry on what was judged, with the time that this took from the upload on.

    Args:
        before: The row as the look found it.
        after: The row with the verdict.
        kind: What came of it.
        at: When.
        entry_id: Names the entry.
        reason: As for `entry_about`.
    """
    is_new = after.source_etag != before.source_etag
    if kind is HistoryKind.REJECTED and is_new and after.fingerprint_sha256 == before.fingerprint_sha256:
        # Where no certificate could be read, the row describes the one before.
        after = replace(after, subject="", fingerprint_sha256="", not_after=None)
    since = after.uploaded_at if kind is HistoryKind.SCHEDULED else after.counted_from
    known = is_new and since is not None and after.judged_at is not None
    seconds = (after.judged_at - since).total_seconds() if known else None  # type: ignore[operator]  # none is None
    return entry_about(after, kind, at=at, entry_id=entry_id, seconds=seconds, reason=reason)


def entry_on_acceptance(
    before: UploadRecord,
    after: UploadRecord,
    changes: Collection[Update[DesiredBinding]],
    losers: Collection[str],
    *,
    at: datetime,
    entry_id: str,
) -> HistoryEntry:
    """Make the entry on an upload that was accepted: renewed, where it is served in place of another certificate.

    Args:
        before: The row as the look found it; it tells of the certificate before also where a look that was cut short
            has changed the rows already.
        after: The row with the verdict.
        changes: What was done to the desired rows.
        losers: The uploads that lost a host and port by it.
        at: When.
        entry_id: Names the entry.
    """
    rows = [change.before for change in changes if change.after is not None and change.after.source == after.name]
    replaced = [row for row in rows if row is not None and row.source == after.name]
    ends = [row.not_after for row in replaced if row.fingerprint_sha256 != after.fingerprint_sha256 and row.not_after]
    if before.status in _SERVED and before.fingerprint_sha256 != after.fingerprint_sha256 and before.not_after:
        ends.append(before.not_after)
    told = [f"in place of {listed([shown(name) for name in sorted(losers)])}"] if losers else []
    told += [f"in place of the certificate valid until {min(ends):%Y-%m-%d %H:%M} UTC"] if ends else []
    kind = HistoryKind.RENEWED if told else HistoryKind.ACCEPTED
    return entry_on_verdict(before, after, kind, at=at, entry_id=entry_id, reason="; ".join(told))


def with_drift(before: UploadRecord, after: UploadRecord, *, instance: str) -> UploadRecord:
    """Enter a change behind certcast's back that was put right, unless the row knew of it.

    Its entry follows from what is told of it, so that one which is derived again stands in the table once.

    Args:
        before: The upload's row as it was.
        after: As it is derived now.
        instance: Where that was.
    """
    at = after.drifted_at
    if at is None or (before.drifted_at is not None and at <= before.drifted_at):
        return after
    named = json.dumps([after.name, instance, instant_text(at)])
    entry_id = hashlib.sha256(named.encode()).hexdigest()[:32]
    kind = HistoryKind.DRIFT_REPAIRED
    return with_entry(after, entry_about(after, kind, at=at, entry_id=entry_id, reason=after.remark, instance=instance))


def with_entry(record: UploadRecord, entry: HistoryEntry) -> UploadRecord:
    """Enter an entry into its upload's row, unless it waits there."""
    if any(known.place == entry.place for known in record.past):
        return record
    taken = {known.at for known in record.past}
    while entry.at in taken:  # two of one write have one moment, and their order is to show
        entry = replace(entry, at=entry.at + timedelta(microseconds=1))
    return replace(record, past=(*record.past, entry)[-MAX_PAST:])


def without_entries(record: UploadRecord, written: Collection[HistoryEntry]) -> UploadRecord:
    """Take entries that stand in the table out of their upload's row."""
    if not written:
        return record
    places = {entry.place for entry in written}
    return replace(record, past=tuple(entry for entry in record.past if entry.place not in places))


def is_to_be_kept(cloud: Cloud, record: UploadRecord) -> bool:
    """Whether entries wait in an upload's row, and the table may take them now."""
    return bool(record.past) and cloud.history_trouble.is_over(cloud.now())


def was_left(record: UploadRecord, now: datetime) -> bool:
    """Whether the sweep should write an upload's entries."""
    return bool(record.past) and now - record.past[0].at >= LEFT_AFTER


async def keep(cloud: Cloud, record: UploadRecord) -> Sequence[HistoryEntry]:
    """Write the entries that stand in an upload's row to the table; those that stand there now."""
    if not is_to_be_kept(cloud, record):
        return ()
    entries = [replace(entry, name=record.name) for entry in record.past]
    try:
        async with asyncio.timeout(ANSWERED_S):
            await gather_bounded(cloud.state.history.overwrite((each.at, each.id), each) for each in entries)
    except (CertcastError, TimeoutError) as error:
        _not_taken(cloud, record, error)
        return ()
    cloud.history_trouble.passed()
    return record.past


def _not_taken(cloud: Cloud, record: UploadRecord, error: CertcastError | TimeoutError) -> None:
    """Leave the entries to the sweep, and say why once."""
    if not cloud.history_trouble.met(type(error).__name__, cloud.now()):
        return
    if isinstance(error, NotSetUpError):
        log.warning(
            "history: table %s is not there: create it (az storage table create, docs/history.md). Until then the last "
            "%d entries of each upload wait in its row",
            *(HISTORY_TABLE, MAX_PAST),
        )
        return
    why = str(error) or f"no answer in {ANSWERED_S:g} s"
    log.warning("history: entries of %s wait in its row, the sweep writes them: %s", record.name, why)
