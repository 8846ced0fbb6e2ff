"""From the agents' reports to an upload's status: folding reports in, and deriving who serves what.

Deriving a status reads every report on its bindings, so with N instances it must not happen N times. One run at a time
holds the upload's settling mark; whoever comes meanwhile leaves word (`settle_again`) and the holder looks once more.
"""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, BindingKey
from shared.bounded import gather_bounded
from shared.errors import CertcastError
from shared.function.announcing import announce
from shared.function.standing import GIVE_UP_AFTER, Standing, removal_standing, settled, upload_standing
from shared.state.records import (
    SETTLEABLE,
    InstallationRecord,
    UploadRecord,
    UploadStatus,
    installation_partition,
    is_awaited,
)
from shared.upload import BLOB_SCHEME, scheme_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud
    from shared.messages import BindingReport, InstallReport

log = logging.getLogger(__name__)

SETTLING = timedelta(seconds=10)
"""How long one run may hold the settling mark; after that it is taken for dead."""
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


async def fold(cloud: Cloud, report: InstallReport) -> None:
    """Enter one instance's report and bring the status of every upload it concerns up to date."""
    await gather_bounded(_enter(cloud, report.instance, item) for item in report.reports)
    for name in sorted({item.source for item in report.reports} - {""}):
        await settle(cloud, name)
    withdrawn, overridden = await _no_longer_obeyed(cloud, report)
    for name in sorted(overridden):
        await settle(cloud, name)
    await _settle_removed(cloud, withdrawn)


async def settle(cloud: Cloud, name: str) -> None:
    """Derive the upload's status from the reports there are, unless somebody is at it; then they look once more.

    What was reported of its bindings also says how many still serve the removed uploads that had them before.
    """
    await _settle_removed(cloud, await _settle(cloud, name))


async def _settle(cloud: Cloud, name: str) -> set[str]:
    """Settle one upload, and name those that withdrew their claims to the same hosts and ports."""
    withdrawn: set[str] = set()
    mark, known = await _begin(cloud, name)
    if mark is None:
        # A rejected re-upload has no status to derive, and what was accepted before under its name is served still.
        if known is not None and known.status not in SETTLEABLE:
            withdrawn = _withdrawn(await _rows(cloud, known)) - {name}
        return withdrawn
    try:
        for _ in range(SETTLE_ROUNDS):
            record = await cloud.state.uploads.get(name)
            if record is None:
                return withdrawn
            rows = await _rows(cloud, record)
            withdrawn = _withdrawn(rows) - {name}
            mark = await _conclude(cloud, record, await _standing(cloud, record, rows), mark)
            if mark is None:
                break
    except Exception:
        # Whoever tries again must not find the mark of a run that has ended.
        with contextlib.suppress(CertcastError):
            await _let_go(cloud, name, mark)
        raise
    await tell(cloud, name)
    return withdrawn


async def _settle_removed(cloud: Cloud, names: Collection[str]) -> None:
    for name in sorted(names):
        record = await cloud.state.uploads.get(name)
        if record is not None and record.status is UploadStatus.REMOVED and record.live:
            await _settle(cloud, name)


async def _no_longer_obeyed(cloud: Cloud, report: InstallReport) -> tuple[set[str], set[str]]:
    """Name the uploads that an instance may have stopped serving: nothing is served now, or the row of another role.

    Returns:
        Those that withdrew their claims, and those for every role that are served by the others only.
    """
    unserved = [BindingKey(role=i.role, host=i.host, port=i.port) for i in report.reports if not i.source]
    instance = await cloud.state.instances.get(report.instance)
    if instance is not None and instance.role != ANY_ROLE:
        unserved += [
            BindingKey(role=instance.role if i.role == ANY_ROLE else ANY_ROLE, host=i.host, port=i.port)
            for i in report.reports
        ]
    rows = [row for row in await gather_bounded(cloud.state.bindings.get(key) for key in unserved) if row is not None]
    return _withdrawn(rows), {row.source for row in rows if row.present and row.role == ANY_ROLE}


def _withdrawn(rows: Sequence[DesiredBinding]) -> set[str]:
    return {claim.source for row in rows for claim in row.claims if claim.withdrawn_at is not None}


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
        tags[REASON_TAG] = " ".join(_NOT_IN_TAGS.sub(" ", reason).split())[:TAG_VALUE_CHARS].strip()
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


async def _rows(cloud: Cloud, record: UploadRecord) -> list[DesiredBinding]:
    return [row for row in await gather_bounded(cloud.state.bindings.get(key) for key in record.claims) if row]


async def _begin(cloud: Cloud, name: str) -> tuple[datetime | None, UploadRecord | None]:
    """Take the settling mark; none when there is nothing to settle or somebody else holds it and was left word."""
    mark: datetime | None = None
    known: UploadRecord | None = None
    now = cloud.now()

    def change(record: UploadRecord | None) -> UploadRecord | None:
        nonlocal mark, known
        mark, known = None, record
        if record is None or record.status not in SETTLEABLE:
            return None
        if record.settling_until is not None and record.settling_until > now:
            return replace(record, settle_again=True)
        mark = now + SETTLING
        return replace(record, settling_until=mark, settle_again=False)

    await cloud.state.uploads.update(name, change)
    return mark, known


async def _conclude(cloud: Cloud, seen: UploadRecord, standing: Standing, mark: datetime) -> datetime | None:
    """Write what was derived and let go of the mark; a new mark when it must be derived once more."""
    again: datetime | None = None
    now = cloud.now()

    def change(record: UploadRecord | None) -> UploadRecord | None:
        nonlocal again
        again = None
        if record is None or record.settling_until != mark:
            return None  # this run took too long, and whoever took the mark since knows better
        if record.status not in SETTLEABLE:
            return replace(record, settling_until=None, settle_again=False)
        if record.settle_again or _told_what(record) != _told_what(seen):
            again = now + SETTLING
            return replace(record, settle_again=False, settling_until=again)
        return replace(settled(record, standing, now), settling_until=None)

    await cloud.state.uploads.update(seen.name, change)
    return again


async def _let_go(cloud: Cloud, name: str, mark: datetime | None) -> None:
    def change(record: UploadRecord | None) -> UploadRecord | None:
        if record is None or record.settling_until != mark:
            return None
        return replace(record, settling_until=None, settle_again=False)

    await cloud.state.uploads.update(name, change)


def _told_what(record: UploadRecord) -> tuple[object, ...]:
    """What the instances were told last: a standing derived from an earlier telling says nothing about this one."""
    return (record.revision, record.claims, record.expected, record.fanned_out_at)


async def _standing(cloud: Cloud, record: UploadRecord, rows: Sequence[DesiredBinding]) -> Standing:
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
    roles = {name: known.value.role for name, known in instances.items()}
    if record.status is UploadStatus.REMOVED:
        return removal_standing(rows, reports, awaited, roles)
    overdue = record.fanned_out_at is not None and now - record.fanned_out_at >= GIVE_UP_AFTER
    return upload_standing(record, rows, reports, awaited, roles, overdue=overdue)


async def _reports(cloud: Cloud, row: DesiredBinding) -> dict[str, InstallationRecord]:
    partition = installation_partition(row.host, row.port)
    return {known.value.instance: known.value async for known in cloud.state.installations.all(partition)}
