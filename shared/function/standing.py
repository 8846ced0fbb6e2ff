"""How far an upload is served, derived from the desired rows and the instances' reports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, concerns
from shared.messages import InstallOutcome
from shared.state.reasons import reason_for_live, reason_for_some, reason_for_superseded
from shared.state.records import InstallationRecord, UploadRecord, UploadStatus, is_awaited
from shared.state.tags import untagged

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from shared.binding import BindingKey, DesiredBinding
    from shared.state.records import InstanceRecord
    from shared.state.rows import Versioned

    Reports = Mapping[BindingKey, Mapping[str, InstallationRecord]]
    Instances = Mapping[str, Versioned[InstanceRecord]]

GIVE_UP_AFTER = timedelta(minutes=10)
"""An instance that has not reported by then is counted as failed until it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far an upload is served, as the reports have it.

    Attributes:
        status: The status that follows.
        live: Instances that serve all of it.
        total: Instances that are waited for.
        reason: The first failure, or why no instance serves it.
    """

    status: UploadStatus
    live: int
    total: int
    reason: str = ""


def standing_of(
    record: UploadRecord,
    rows: Sequence[DesiredBinding],
    reports: Reports,
    instances: Instances,
    now: datetime,
) -> Standing:
    """Derive the standing of an upload, accepted or removed.

    Args:
        record: The upload.
        rows: The desired rows it claims, or had a claim on.
        reports: By row, then by instance; of rows that it has not won, they are needed only once it is removed.
        instances: The registered ones by id.
        now: The time; instances that are silent are not waited for.
    """
    if record.status is UploadStatus.REMOVED:
        return _removal_standing(rows, reports, _awaited(record, instances, now), instances)
    return _upload_standing(record, rows, reports, instances, now)


def _awaited(record: UploadRecord, instances: Instances, now: datetime) -> set[str]:
    return {name for name in record.expected if name in instances and is_awaited(instances[name], now)}


def _removal_standing(
    rows: Sequence[DesiredBinding], reports: Reports, awaited: Collection[str], instances: Instances
) -> Standing:
    """Count the instances that have not yet shown that they stopped serving a removed upload."""
    behind = [
        name
        for name in sorted(awaited)
        if any(
            not _let_go_of(row, reports[row.key].get(name))
            for row in rows
            if concerns(row.role, instances[name].value.role)
        )
    ]
    reasons = [r for row in rows if (r := next(iter(_failures(row, reports[row.key], behind)), ""))]
    return Standing(
        status=UploadStatus.REMOVED, live=len(behind), total=len(awaited), reason=reasons[0] if reasons else ""
    )


def _upload_standing(
    record: UploadRecord,
    rows: Sequence[DesiredBinding],
    reports: Reports,
    instances: Instances,
    now: datetime,
) -> Standing:
    """Derive the status of an accepted upload from what it won and what the instances proved."""
    won = [row for row in rows if row.source == record.name]
    if not won:
        reason = reason_for_superseded(record, rows, now) if rows else "no host and port is claimed"
        return Standing(status=UploadStatus.SUPERSEDED, live=0, total=0, reason=reason)
    live, failed, pending = _sorted_out(won, reports, _awaited(record, instances, now), instances)
    reason = next((r for row in won for r in _failures(row, reports[row.key], failed)), "")
    if pending and _is_overdue(record, won, now):
        minutes = GIVE_UP_AFTER.total_seconds() / 60
        reason = (
            reason or f"instance {pending[0]} has reported nothing within {minutes:.0f} minutes; see its agent's log"
        )
        failed, pending = failed + pending, []
    elif not (live or failed or pending):
        reason = _why_none(record, won, reports, instances, now)
    status = _status(live=len(live), failed=len(failed), pending=len(pending))
    is_live = status in {UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE}
    others = reason_for_live(record.name, rows, now) if is_live else reason_for_some(record.name, rows)
    return Standing(
        status=status,
        live=len(live),
        total=len(live) + len(failed) + len(pending),
        reason=reason or others,
    )


def _is_overdue(record: UploadRecord, won: Sequence[DesiredBinding], now: datetime) -> bool:
    """Whether instances that have not reported had the time to, also on the row that changed last."""
    if record.fanned_out_at is None:
        return False
    return now - max(record.fanned_out_at, *(row.changed_at for row in won)) >= GIVE_UP_AFTER


def _why_none(
    record: UploadRecord, won: Sequence[DesiredBinding], reports: Reports, instances: Instances, now: datetime
) -> str:
    """Why no instance counts: none is there, or those that are registered after the others were told."""
    joined = [
        name
        for name, known in sorted(instances.items())
        if is_awaited(known, now)
        and any(
            concerns(row.role, known.value.role) and not _overridden(row, reports[row.key].get(name)) for row in won
        )
    ]
    if joined:
        return f"instance {joined[0]} registered after the others were told, and had not proved it yet"
    return (
        f"no running instance was registered for role {record.role} when this was last looked at; it is installed when "
        "one registers"
    )


def _sorted_out(
    won: Sequence[DesiredBinding], reports: Reports, awaited: Collection[str], instances: Instances
) -> tuple[list[str], list[str], list[str]]:
    """The instances that have proved all of these rows, those that failed, and those that are waited for."""
    live: list[str] = []
    failed: list[str] = []
    pending: list[str] = []
    for name in sorted({*awaited, *(n for row in won for n in reports[row.key] if n in instances)}):
        role = instances[name].value.role
        all_mine = [(row, reports[row.key].get(name)) for row in won if concerns(row.role, role)]
        mine = [(row, report) for row, report in all_mine if not _overridden(row, report)]
        if not mine:
            continue
        if all(_caught_up(row, report) and not _failed(report) for row, report in mine):
            live.append(name)
        elif name not in awaited:
            continue  # it joined later or went silent: counted once it has proved everything, waited for never
        elif any(shows_failure(row, report) for row, report in mine):
            failed.append(name)
        else:
            pending.append(name)
    return live, failed, pending


def _status(*, live: int, failed: int, pending: int) -> UploadStatus:
    if pending or not (live or failed):
        return UploadStatus.ACCEPTED
    if not failed:
        return UploadStatus.LIVE
    return UploadStatus.PARTIALLY_LIVE if live else UploadStatus.FAILED


def shows_failure(row: DesiredBinding, report: InstallationRecord | None) -> bool:
    """Whether an instance reported that it failed at the row as it is now."""
    return _caught_up(row, report) and _failed(report)


def _caught_up(row: DesiredBinding, report: InstallationRecord | None) -> bool:
    return report is not None and report.role == row.role and report.generation >= row.generation


def _overridden(row: DesiredBinding, report: InstallationRecord | None) -> bool:
    """Whether the instance obeys the row of its own role for this host and port instead of the one for every role."""
    return report is not None and row.role == ANY_ROLE and report.role != ANY_ROLE


def _let_go_of(row: DesiredBinding, report: InstallationRecord | None) -> bool:
    """Whether the instance has acted on the row as it is now, or obeys another one."""
    if report is None or _failed(report):
        return False
    return report.role != row.role or report.generation >= row.generation


def _failed(report: InstallationRecord | None) -> bool:
    return report is not None and report.outcome not in {InstallOutcome.LIVE, InstallOutcome.REMOVED}


def _failures(row: DesiredBinding, reports: Mapping[str, InstallationRecord], names: Collection[str]) -> Sequence[str]:
    return [
        f"instance {name}, {row.key.phrased}: {report.reason or report.outcome.value}"
        for name in names
        if (report := reports.get(name)) is not None and _failed(report)
    ]


def started_over(
    record: UploadRecord, status: UploadStatus, told: Sequence[str], *, now: datetime, counted_from: datetime | None
) -> UploadRecord:
    """Let an upload's status start over: the instances are told what is to be done.

    Args:
        record: The upload.
        status: `accepted`, or `removed`, where `live` counts down from all that were told.
        told: Ids of the instances.
        now: When they are told.
        counted_from: What `seconds_to_live` counts from.
    """
    again = replace(
        record,
        status=status,
        expected=tuple(told),
        live=len(told) if status is UploadStatus.REMOVED else 0,
        total=len(told),
        live_at=None,
        counted_from=counted_from,
        fanned_out_at=now,
        resent=False,
    )
    return untagged(record, again)


def settled(record: UploadRecord, standing: Standing, now: datetime) -> UploadRecord:
    """Enter a standing into an upload's row; the moment it became live is kept while it stays so."""
    follows = replace(
        record,
        status=standing.status,
        live=standing.live,
        total=standing.total,
        reason=standing.reason,
        live_at=(record.live_at or now) if standing.status is UploadStatus.LIVE else record.live_at,
    )
    return untagged(record, follows)
