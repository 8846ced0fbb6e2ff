"""How far an upload is served, derived from the desired rows and the instances' reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, concerns
from shared.messages import InstallOutcome
from shared.phrasing import listed
from shared.state.reasons import reason_for_live, reason_for_some, reason_for_superseded
from shared.state.records import (
    ASIDE,
    BEHIND,
    JOINED,
    MAX_APART,
    InstallationRecord,
    UploadRecord,
    UploadStatus,
    is_awaited,
)
from shared.state.tags import untagged

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

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
        apart: With which instances it is otherwise than with those that were told and have proved it.
        won: Hosts and ports that it is served for; None where that is not known.
        remark: What an instance said of what it proved.
        drifted_at: When something else than certcast was last seen to have changed that.
        drifted_on: The instance where that was.
    """

    status: UploadStatus
    live: int
    total: int
    reason: str = ""
    apart: Mapping[str, str] = field(default_factory=dict)
    won: int | None = None
    remark: str = ""
    drifted_at: datetime | None = None
    drifted_on: str = ""


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
        return _removal_standing(record, rows, reports, instances, now)
    return _upload_standing(record, rows, reports, instances, now)


def _awaited(record: UploadRecord, instances: Instances, now: datetime) -> set[str]:
    return {name for name in record.expected if name in instances and is_awaited(instances[name], now)}


def _removal_standing(
    record: UploadRecord, rows: Sequence[DesiredBinding], reports: Reports, instances: Instances, now: datetime
) -> Standing:
    """Count the instances that have not yet shown that they stopped serving a removed upload."""
    awaited = _awaited(record, instances, now)
    behind = [name for name in sorted(awaited) if _holds_on(rows, reports, name, instances)]
    # One that is not waited for may serve it on: where it never had it, there is nothing to say.
    had = {name for row in rows for name in reports[row.key] if name in instances and name not in awaited}
    away = [name for name in sorted(had) if _holds_on(rows, reports, name, instances, told=False)]
    reasons = [r for row in rows if (r := next(iter(_failures(row, reports[row.key], behind)), ""))]
    return Standing(
        status=UploadStatus.REMOVED,
        live=len(behind),
        total=len(awaited),
        reason=reasons[0] if reasons else "",
        apart=dict.fromkeys((*behind, *away), BEHIND),
        won=0,
    )


def _holds_on(
    rows: Sequence[DesiredBinding], reports: Reports, name: str, instances: Instances, *, told: bool = True
) -> bool:
    """Whether an instance may serve a removed upload still.

    Args:
        rows: The rows it had a claim on.
        reports: By row, then by instance.
        name: The instance.
        instances: The registered ones by id.
        told: Whether it is taken to have had it where it never reported that.
    """
    return any(
        not _let_go_of(row, report)
        for row in rows
        if concerns(row.role, instances[name].value.role)
        and ((report := reports[row.key].get(name)) is not None or told)
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
    live, failed, pending, apart = _sorted_out(record, won, reports, instances, now)
    reason = next((r for row in won for r in _failures(row, reports[row.key], failed)), "")
    if pending and _is_overdue(record, won, now):
        minutes = GIVE_UP_AFTER.total_seconds() / 60
        who = f"instance {pending[0]} has" if len(pending) == 1 else f"instances {listed(pending)} have"
        reason = reason or f"{who} reported nothing within {minutes:.0f} minutes; see its agent's log"
        failed, pending = failed + pending, []
    elif not (live or failed or pending):
        reason = _why_none(record, won, reports, instances, now)
    status = _status(live=len(live), failed=len(failed), pending=len(pending))
    is_live = status in {UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE}
    others = reason_for_live(record.name, rows, now) if is_live else reason_for_some(record.name, rows)
    remark, drifted_at, drifted_on = _remark(won, reports, live)
    undone = len(failed) + len(pending)  # with all told among them, it is as any row is read that says no more
    is_plain = undone == len(record.expected) and apart == dict.fromkeys(record.expected, BEHIND)
    return Standing(
        status=status,
        live=len(live),
        total=len(live) + len(failed) + len(pending),
        reason=reason or others,
        apart={} if is_plain else apart,
        won=None if is_plain else len(won),
        remark=remark,
        drifted_at=drifted_at,
        drifted_on=drifted_on,
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
    record: UploadRecord, won: Sequence[DesiredBinding], reports: Reports, instances: Instances, now: datetime
) -> tuple[list[str], list[str], list[str], Mapping[str, str]]:
    """The instances that have proved all of these rows, those that failed, those that are waited for, who is apart."""
    live: list[str] = []
    failed: list[str] = []
    pending: list[str] = []
    told = {name for name in record.expected if name in instances}
    apart = {name: ASIDE for name in record.expected if name not in told}
    awaited = _awaited(record, instances, now)
    known = {*told, *(n for row in won for n in reports[row.key] if n in instances)}
    # Where none runs, what each said last stands.
    heard = awaited if any(is_awaited(instances[name], now) for name in known) else told
    for name in sorted(known):
        role = instances[name].value.role
        all_mine = [(row, reports[row.key].get(name)) for row in won if concerns(row.role, role)]
        mine = [(row, report) for row, report in all_mine if not _overridden(row, report)]
        if not mine:
            apart[name] = ASIDE
        elif all(_caught_up(row, report) and not _failed(report) for row, report in mine):
            live.append(name)
            apart |= {} if name in told else {name: JOINED}
        else:
            apart[name] = BEHIND  # not counted unless told and running: it joined later, or went silent
            failing = any(shows_failure(row, report) for row, report in mine)
            if failing and name in heard:
                failed.append(name)
            elif name in awaited:
                pending.append(name)
    return live, failed, pending, apart


def _remark(won: Sequence[DesiredBinding], reports: Reports, live: Collection[str]) -> tuple[str, datetime | None, str]:
    """What an instance said of what it proved, when that was changed behind certcast's back, and where.

    It is what was said of the last such change, else the first that anyone said.
    """
    said = [
        (report, f"instance {name}, {row.key.phrased}: {report.told}")
        for row in won
        for name in live
        if (report := reports[row.key].get(name)) is not None and report.told
    ]
    drifts = [(report.drifted_at, text, report.instance) for report, text in said if report.drifted_at is not None]
    if drifts:
        at, text, instance = max(drifts)
        return text, at, instance
    if not said:
        return "", None, ""
    more = len(said) - 1
    return said[0][1] + (f" (and {more} more like it)" if more else ""), None, ""


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
        f"instance {name}, {row.key.phrased}: {report.told or report.outcome.value}"
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
        apart={},
        won=None,
        remark="",
        drifted_at=None,
        live_at=None,
        counted_from=counted_from,
        fanned_out_at=now,
        resent=False,
    )
    return untagged(record, again)


def settled(record: UploadRecord, standing: Standing, now: datetime) -> UploadRecord:
    """Enter a standing into an upload's row; the moment it became live is kept while it stays so."""
    is_told = len(standing.apart) <= MAX_APART
    follows = replace(
        record,
        status=standing.status,
        live=standing.live,
        total=standing.total,
        reason=standing.reason,
        apart=standing.apart if is_told else {},
        won=standing.won if is_told else None,
        remark=standing.remark,
        drifted_at=standing.drifted_at,
        live_at=(record.live_at or now) if standing.status is UploadStatus.LIVE else record.live_at,
    )
    return untagged(record, follows)
