"""What the uploads' rows, and the container, tell of uploads that wait for something which does not come."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.phrasing import day, listed, shown
from shared.state.findings import Finding, Seen, Severity, bounded
from shared.state.presence import since
from shared.state.records import UploadStatus
from shared.state.waiting import waiting_for
from shared.upload import SEALED_BUNDLE_KEY, is_certificate_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from shared.ports import BlobVersion
    from shared.state.records import UploadRecord
    from shared.state.rows import Versioned

WAITS_LONG = timedelta(minutes=10)
"""Longer than anything takes that goes on by itself within seconds; a sweep comes each minute."""
NOTICED_WITHIN = timedelta(minutes=3)
"""A sweep finds each minute what no event told of, and may take two."""

_SERVED = frozenset({UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED, UploadStatus.ACCEPTED})


def uploads_seen(rows: Sequence[Versioned[UploadRecord]], now: datetime) -> Seen:
    """Judge the uploads' rows.

    Args:
        rows: The rows.
        now: The time by the service's clock.
    """
    records = [known.value for known in rows]
    findings = [finding for record in records for finding in _about(record, now)]
    present = sum(record.status is not UploadStatus.REMOVED for record in records)
    return Seen(remark=f"{present} known", findings=bounded(findings))


def _about(record: UploadRecord, now: datetime) -> list[Finding]:
    about = f"upload {record.name}"
    findings = []
    if record.status in _SERVED and record.won != 0 and record.not_after is not None and record.not_after <= now:
        detail = f"its certificate ended at {day(record.not_after)} and nothing else covers its hosts: upload a new one"
        findings.append(Finding(code="ended", about=about, detail=detail))
    for code, detail in _warnings(record, now):
        findings.append(Finding(code=code, about=about, detail=detail, severity=Severity.WARNING))
    return findings


def _warnings(record: UploadRecord, now: datetime) -> list[tuple[str, str]]:
    told = []
    waiting = waiting_for(record)
    by_itself = record.status is UploadStatus.SCHEDULED and not record.held_up
    if waiting is not None and waiting.since is not None and now - waiting.since >= WAITS_LONG and not by_itself:
        told.append(("waiting", f"it has waited since {since(waiting.since, now)} for {waiting.what}"))
    if record.due and now - record.due[0].at >= WAITS_LONG:
        detail = (
            f"{len(record.due)} event(s) about it have waited since {since(record.due[0].at, now)} for the topic to "
            "take them: see the Function's log for why, and that it has the role 'EventGrid Data Sender' there"
        )
        told.append(("events_waiting", detail))
    if record.password_left:
        told.append(("password_left", f"its password is still in its metadata: {record.password_left}"))
    if record.tags_refused:
        told.append(("tags_refused", f"its tags do not show its status: {record.tags_refused}"))
    return told


def noticed_seen(found: Sequence[BlobVersion], records: Mapping[str, UploadRecord], now: datetime) -> Seen:
    """Compare the container with what is known: what neither an event nor a sweep came to shows that neither runs.

    Args:
        found: The container's blobs, listed before the rows were read.
        records: The rows by name.
        now: The time by the service's clock.
    """
    uploads = [version for version in found if is_certificate_name(version.name)]
    lost = sorted(version.name for version in uploads if version.name not in records and _was_done_with(version))
    if lost:
        detail = (
            f"{len(lost)} upload(s) that were done with have no row, {listed(list(map(shown, lost)))}: table uploads "
            "lost them; the sweeps make them again, and nothing stops being served meanwhile"
        )
        return Seen(findings=(Finding(code="rows_lost", about="table uploads", detail=detail),))
    waiting = [version for version in uploads if _is_unnoticed(version, records.get(version.name), now)]
    if not waiting:
        return Seen(remark=f"{len(uploads)} in the container")
    oldest = min(version.last_modified for version in waiting)
    names = listed([shown(version.name) for version in sorted(waiting, key=lambda version: version.last_modified)])
    detail = (
        f"nothing has looked at {len(waiting)} upload(s), {names}, since {since(oldest, now)}, though a sweep comes "
        "each minute: see that the Functions app runs, lists its functions, and is set for this account"
    )
    return Seen(findings=(Finding(code="not_noticed", about="container certificates", detail=detail),))


def _was_done_with(version: BlobVersion) -> bool:
    """Whether its password was taken out, which is done at the end; a copy made just now looks the same."""
    return any(key.lower() == SEALED_BUNDLE_KEY for key in version.metadata)


def _is_unnoticed(version: BlobVersion, record: UploadRecord | None, now: datetime) -> bool:
    if now - version.last_modified < NOTICED_WITHIN:
        return False
    known = () if record is None else (record.etag, record.source_etag, record.judging)
    return version.etag not in known and (record is None or not record.held_up)
