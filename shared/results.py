"""From the agents' reports to an upload's status: folding reports in, and deriving who serves what.

Deriving a status reads every report on its bindings, so with N instances it must not happen N times. One run at a time
holds the upload's settling mark; whoever comes meanwhile leaves word (`settle_again`) and the holder looks once more.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.announcing import announce
from shared.bounded import gather_bounded
from shared.messages import BindingReport, InstallOutcome, InstallReport
from shared.state import (
    SETTLEABLE,
    InstallationRecord,
    UploadRecord,
    UploadStatus,
    installation_partition,
    is_awaited,
)
from shared.upload import BLOB_SCHEME, scheme_of
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from shared.binding import BindingKey, DesiredBinding
    from shared.cloud import Cloud

log = logging.getLogger(__name__)

SETTLING = timedelta(seconds=10)
"""How long one run may hold the settling mark; after that it is taken for dead."""
GIVE_UP_AFTER = timedelta(minutes=10)
"""An instance that has not reported by then is counted as failed until it does."""
SETTLE_ROUNDS = 20
TAG_ROUNDS = 10
TAG_VALUE_CHARS = 256
"""Longest tag value (learn.microsoft.com, "Set Blob Tags")."""

STATUS_TAG = "certcast_status"
LIVE_TAG = "certcast_live"
REASON_TAG = "certcast_reason"
VERSION_TAG = "certcast_version"
"""The ETag of the version that the other tags are about: content uploaded since may not have been looked at yet."""

_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9 +\-./:=_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far an upload is served, as the reports have it.

    Attributes:
        status: The status that follows.
        live: Instances that serve all of it.
        total: Instances that are waited for.
        reason: The first failure, or why nobody serves it.
    """

    status: UploadStatus
    live: int
    total: int
    reason: str = ""


async def fold(cloud: Cloud, report: InstallReport) -> None:
    """Enter one instance's report and bring the status of every upload it concerns up to date."""
    await gather_bounded(_enter(cloud, report.instance, item) for item in report.reports)
    for name in sorted({item.source for item in report.reports} - {""}):
        await settle(cloud, name)
    for name in sorted({item.replaced for item in report.reports} - {""}):
        record = await cloud.state.uploads.get(name)
        if record is not None and record.status is UploadStatus.REMOVED:
            await settle(cloud, name)


async def settle(cloud: Cloud, name: str) -> None:
    """Derive the upload's status from the reports there are, unless somebody is at it; then they look once more."""
    if not await _begin(cloud, name):
        return
    for _ in range(SETTLE_ROUNDS):
        record = await cloud.state.uploads.get(name)
        if record is None:
            return
        standing = await _standing(cloud, record)
        if await _conclude(cloud, record, standing):
            break
    await tell(cloud, name)


async def tell(cloud: Cloud, name: str) -> None:
    """Tell uploader and other services what the upload's row says now."""
    await tag(cloud, name)
    record = await cloud.state.uploads.get(name)
    if record is not None:
        await announce(cloud, record)


async def tag(cloud: Cloud, name: str) -> None:
    """Write the status where an uploader sees it: on the blob. Looks again afterwards, in case it changed meanwhile."""
    for _ in range(TAG_ROUNDS):
        record = await cloud.state.uploads.get(name)
        if record is None or record.status in {UploadStatus.REMOVED, UploadStatus.RECEIVED}:
            return
        wanted = status_tags(record)
        if scheme_of(name) != BLOB_SCHEME or not await cloud.uploads.set_tags(name, wanted):
            return
        again = await cloud.state.uploads.get(name)
        if again is None or status_tags(again) == wanted:
            return


def status_tags(record: UploadRecord) -> dict[str, str]:
    """Put a status into the characters that tag values may have (learn.microsoft.com, "Set Blob Tags")."""
    tags = {STATUS_TAG: record.status.value, LIVE_TAG: f"{record.live}/{record.total}"}
    reason = record.reason or "; ".join(f"{v.code.value}: {v.detail}" for v in record.violations)
    if record.source_etag:
        tags[VERSION_TAG] = _NOT_IN_TAGS.sub(" ", record.source_etag)[:TAG_VALUE_CHARS]
    if reason:
        tags[REASON_TAG] = _NOT_IN_TAGS.sub(" ", reason)[:TAG_VALUE_CHARS].strip()
    return tags


async def _enter(cloud: Cloud, instance: str, item: BindingReport) -> None:
    now = cloud.now()
    entry = InstallationRecord(
        host=item.host,
        port=item.port,
        instance=instance,
        role=item.role,
        generation=item.generation,
        source=item.source,
        outcome=item.outcome,
        finished_at=item.finished_at,
        reported_at=now,
        reason=item.reason,
        fingerprint_sha256=item.fingerprint_sha256,
        stages_ms=item.stages_ms,
    )

    def change(known: InstallationRecord | None) -> InstallationRecord | None:
        if known is None or known.role != entry.role:
            return entry if known is None or known.finished_at <= entry.finished_at else known
        late = (known.generation, known.finished_at) >= (entry.generation, entry.finished_at)
        return known if late else entry

    await cloud.state.installations.update((item.host, item.port, instance), change)


async def _begin(cloud: Cloud, name: str) -> bool:
    """Take the settling mark; False when there is nothing to settle or somebody else holds it and was left word."""
    taken = False
    now = cloud.now()

    def change(record: UploadRecord | None) -> UploadRecord | None:
        nonlocal taken
        taken = False
        if record is None or record.status not in SETTLEABLE:
            return None
        if record.settling_until is not None and record.settling_until > now:
            return replace(record, settle_again=True)
        taken = True
        return replace(record, settling_until=now + SETTLING, settle_again=False)

    await cloud.state.uploads.update(name, change)
    return taken


async def _conclude(cloud: Cloud, seen: UploadRecord, standing: Standing) -> bool:
    """Write what was derived and let go of the mark; False when it must be derived once more."""
    finished = True
    now = cloud.now()

    def change(record: UploadRecord | None) -> UploadRecord | None:
        nonlocal finished
        finished = True
        if record is None or record.status not in SETTLEABLE:
            return None if record is None else replace(record, settling_until=None, settle_again=False)
        moved_on = (record.revision, record.claims, record.expected) != (seen.revision, seen.claims, seen.expected)
        if record.settle_again or moved_on:
            finished = False
            return replace(record, settle_again=False, settling_until=now + SETTLING)
        return replace(settled(record, standing, now), settling_until=None)

    await cloud.state.uploads.update(seen.name, change)
    return finished


def settled(record: UploadRecord, standing: Standing, now: datetime) -> UploadRecord:
    """Enter a standing into an upload's row; the moment it became live is kept while it stays so."""
    is_live = standing.status is UploadStatus.LIVE
    served = is_live or standing.status is UploadStatus.PARTIALLY_LIVE
    return replace(
        record,
        status=standing.status,
        live=standing.live,
        total=standing.total,
        reason=_expired(record, now) if served and not standing.reason else standing.reason,
        live_at=(record.live_at or now) if is_live else record.live_at,
    )


def _expired(record: UploadRecord, now: datetime) -> str:
    if record.not_after is None or record.not_after > now:
        return ""
    return f"expired on {record.not_after:%Y-%m-%d %H:%M} UTC and still served, for want of a renewal: upload one"


async def _standing(cloud: Cloud, record: UploadRecord) -> Standing:
    rows = [row for row in await gather_bounded(cloud.state.bindings.get(key) for key in record.claims) if row]
    instances = {known.value.id: known async for known in cloud.state.instances.all()}
    reports = dict(
        zip(
            (row.key for row in rows),
            await gather_bounded(_reports(cloud, row) for row in rows),
            strict=True,
        )
    )
    now = cloud.now()
    awaited = {name for name in record.expected if name in instances and is_awaited(instances[name], now)}
    if record.status is UploadStatus.REMOVED:
        return removal_standing(rows, reports, awaited)
    overdue = record.fanned_out_at is not None and now - record.fanned_out_at >= GIVE_UP_AFTER
    return upload_standing(record, rows, reports, awaited, instances, overdue=overdue)


async def _reports(cloud: Cloud, row: DesiredBinding) -> dict[str, InstallationRecord]:
    partition = installation_partition(row.host, row.port)
    return {known.value.instance: known.value async for known in cloud.state.installations.all(partition)}


def removal_standing(
    rows: Sequence[DesiredBinding],
    reports: Mapping[BindingKey, Mapping[str, InstallationRecord]],
    awaited: Collection[str],
) -> Standing:
    """Count the instances that have not yet shown that they stopped serving a removed upload."""
    behind = [
        name
        for name in sorted(awaited)
        if any(not _caught_up(row, reports[row.key].get(name)) or _failed(reports[row.key].get(name)) for row in rows)
    ]
    reasons = [r for row in rows if (r := next(iter(_failures(row, reports[row.key], behind)), ""))]
    return Standing(
        status=UploadStatus.REMOVED, live=len(behind), total=len(awaited), reason=reasons[0] if reasons else ""
    )


def upload_standing(
    record: UploadRecord,
    rows: Sequence[DesiredBinding],
    reports: Mapping[BindingKey, Mapping[str, InstallationRecord]],
    awaited: Collection[str],
    instances: Collection[str],
    *,
    overdue: bool = False,
) -> Standing:
    """Derive the status of an accepted upload from what it won and what the instances proved."""
    won = [row for row in rows if row.source == record.name]
    if not won:
        return Standing(status=UploadStatus.SUPERSEDED, live=0, total=0, reason=_superseded_by(rows))
    live: list[str] = []
    failed: list[str] = []
    pending: list[str] = []
    for name in sorted({*awaited, *(n for row in won for n in reports[row.key] if n in instances)}):
        relevant = [row for row in won if not _overridden(row, reports[row.key].get(name))]
        if not relevant:
            continue
        mine = [(row, reports[row.key].get(name)) for row in relevant]
        if all(_caught_up(row, report) and not _failed(report) for row, report in mine):
            live.append(name)
        elif name not in awaited:
            continue  # it joined later or went silent: counted once it has proved everything, waited for never
        elif any(_caught_up(row, report) and _failed(report) for row, report in mine):
            failed.append(name)
        else:
            pending.append(name)
    reason = next((r for row in won for r in _failures(row, reports[row.key], failed)), "")
    if overdue and pending:
        minutes = GIVE_UP_AFTER.total_seconds() / 60
        reason = reason or f"instance {pending[0]} has reported nothing for {minutes:.0f} minutes; see its agent's log"
        failed, pending = failed + pending, []
    elif not (live or failed or pending):
        reason = f"no running instance is registered for role {record.role}; it is installed when one registers"
    return Standing(
        status=_status(live=len(live), failed=len(failed), pending=len(pending)),
        live=len(live),
        total=len(live) + len(failed) + len(pending),
        reason=reason,
    )


def _status(*, live: int, failed: int, pending: int) -> UploadStatus:
    if pending or not (live or failed):
        return UploadStatus.ACCEPTED
    if not failed:
        return UploadStatus.LIVE
    return UploadStatus.PARTIALLY_LIVE if live else UploadStatus.FAILED


def _caught_up(row: DesiredBinding, report: InstallationRecord | None) -> bool:
    return report is not None and (report.role != row.role or report.generation >= row.generation)


def _overridden(row: DesiredBinding, report: InstallationRecord | None) -> bool:
    """Whether the instance obeys the row of its own role for this host and port instead of this one."""
    return report is not None and report.role != row.role


def _failed(report: InstallationRecord | None) -> bool:
    return report is not None and report.outcome not in {InstallOutcome.LIVE, InstallOutcome.REMOVED}


def _failures(row: DesiredBinding, reports: Mapping[str, InstallationRecord], names: Collection[str]) -> Sequence[str]:
    return [
        f"instance {name}, {row.key.host_port}: {report.reason or report.outcome.value}"
        for name in names
        if (report := reports.get(name)) is not None and _failed(report)
    ]


def _superseded_by(rows: Sequence[DesiredBinding]) -> str:
    winners = sorted({row.source for row in rows if row.source})
    return f"superseded by {', '.join(winners[:3])}" if winners else "no host and port is claimed"


def older_than_live(name: str, rows: Sequence[DesiredBinding]) -> Violation | None:
    """Explain to whoever uploaded last year's file why it is not served."""
    for row in rows:
        mine = row.claim_of(name)
        winner = row.claim_of(row.source) if row.source else None
        if mine is None or winner is None or winner.source == name or winner.not_before <= mine.not_before:
            continue
        return Violation(
            code=VerdictCode.OLDER_THAN_LIVE,
            detail=f"{row.key.host_port} is served from {winner.source}, valid from {winner.not_before:%Y-%m-%d}; "
            f"this certificate is older, valid from {mine.not_before:%Y-%m-%d}. Delete {winner.source} if this one is "
            "really meant to be served.",
        )
    return None
