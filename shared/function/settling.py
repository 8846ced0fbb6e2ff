"""Settling an upload: its status derived from what the instances reported, by one run at a time.

Deriving a status reads every report on its bindings, so with N instances it must not happen N times. One run at a time
holds the upload's settling mark; one that comes meanwhile leaves word (`settle_again`) and the holder looks once more.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.bounded import ROWS_AT_ONCE, gather_bounded
from shared.errors import CertcastError
from shared.function.announcing import tell
from shared.function.standing import Standing, settled, standing_of
from shared.state.records import SETTLEABLE, InstallationRecord, UploadRecord, UploadStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud

SETTLING = timedelta(seconds=10)
"""How long one run may hold the settling mark; after that it is taken for dead."""
SETTLE_ROUNDS = 20


async def settle(cloud: Cloud, name: str) -> None:
    """Derive the upload's status from the reports there are, unless another run is at it; then that looks once more.

    What was reported of its bindings also says how many still serve the removed uploads that had them before.
    """
    await settle_removed(cloud, await _settle(cloud, name))


async def settle_removed(cloud: Cloud, names: Collection[str]) -> None:
    """Settle those of these uploads that were removed and are served somewhere still."""
    for name in sorted(names):
        record = await cloud.state.uploads.get(name)
        if record is not None and record.status is UploadStatus.REMOVED and record.live:
            await _settle(cloud, name)


def withdrawn_from(rows: Sequence[DesiredBinding]) -> set[str]:
    """Name the uploads that withdrew their claims to these hosts and ports."""
    return {claim.source for row in rows for claim in row.claims if claim.withdrawn_at is not None}


async def _settle(cloud: Cloud, name: str) -> set[str]:
    """Settle one upload, and name those that withdrew their claims to the same hosts and ports."""
    now = cloud.now()
    begun = await cloud.state.uploads.update(name, lambda record: _begun(record, now))
    if not _may_begin(begun.before, now):
        # A rejected re-upload has no status to derive, and what was accepted before under its name is served still.
        if begun.before is None or begun.before.status in SETTLEABLE:
            return set()
        return withdrawn_from(await _rows(cloud, begun.before)) - {name}
    mark: datetime | None = now + SETTLING
    withdrawn: set[str] = set()
    try:
        for _ in range(SETTLE_ROUNDS):
            record = await cloud.state.uploads.get(name)
            if record is None:
                return withdrawn
            rows = await _rows(cloud, record)
            withdrawn = withdrawn_from(rows) - {name}
            mark = await _conclude(cloud, record, await _standing(cloud, record, rows), mark)
            if mark is None:
                break
    except Exception:
        # The next try must not find the mark of a run that has ended.
        with contextlib.suppress(CertcastError):
            await cloud.state.uploads.update(name, lambda record: _let_go(record, mark))
        raise
    await tell(cloud, name)
    return withdrawn


def _may_begin(record: UploadRecord | None, now: datetime) -> bool:
    """Whether there is a status to derive and no other run is at it."""
    if record is None or record.status not in SETTLEABLE:
        return False
    return record.settling_until is None or record.settling_until <= now


def _begun(record: UploadRecord | None, now: datetime) -> UploadRecord | None:
    """Take the settling mark, or leave word with the run that holds it."""
    if record is None or record.status not in SETTLEABLE:
        return None
    if not _may_begin(record, now):
        return replace(record, settle_again=True)
    return replace(record, settling_until=now + SETTLING, settle_again=False)


async def _conclude(cloud: Cloud, seen: UploadRecord, standing: Standing, mark: datetime | None) -> datetime | None:
    """Write what was derived and let go of the mark; a new mark when it must be derived once more."""
    now = cloud.now()

    def change(record: UploadRecord | None) -> UploadRecord | None:
        if record is None or record.settling_until != mark:
            return None  # this run took too long, and the one that took the mark since knows better
        if record.status not in SETTLEABLE:
            return replace(record, settling_until=None, settle_again=False)
        if record.settle_again or _told_what(record) != _told_what(seen):
            return replace(record, settle_again=False, settling_until=now + SETTLING)
        return replace(settled(record, standing, now), settling_until=None)

    concluded = await cloud.state.uploads.update(seen.name, change)
    if concluded.before is None or concluded.before.settling_until != mark or concluded.after is None:
        return None
    return concluded.after.settling_until


def _let_go(record: UploadRecord | None, mark: datetime | None) -> UploadRecord | None:
    if record is None or record.settling_until != mark:
        return None
    return replace(record, settling_until=None, settle_again=False)


def _told_what(record: UploadRecord) -> tuple[object, ...]:
    """What the instances were told last: a standing derived from an earlier telling says nothing about this one."""
    # By the status too: a deletion may come in the moment of the telling before it, as clocks have it.
    removed = record.status is UploadStatus.REMOVED
    return (record.revision, record.claims, record.expected, record.fanned_out_at, removed)


async def _rows(cloud: Cloud, record: UploadRecord) -> list[DesiredBinding]:
    return [
        row
        for row in await gather_bounded((cloud.state.bindings.get(key) for key in record.claims), limit=ROWS_AT_ONCE)
        if row
    ]


async def _standing(cloud: Cloud, record: UploadRecord, rows: Sequence[DesiredBinding]) -> Standing:
    instances = {known.value.id: known async for known in cloud.state.instances.all()}
    reports = dict(
        zip(
            (row.key for row in rows),
            await gather_bounded((_reports(cloud, row) for row in rows), limit=ROWS_AT_ONCE),
            strict=True,
        )
    )
    return standing_of(record, rows, reports, instances, cloud.now())


async def _reports(cloud: Cloud, row: DesiredBinding) -> dict[str, InstallationRecord]:
    return {report.instance: report for report in await cloud.state.reports_on(row.host, row.port)}
