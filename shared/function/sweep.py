"""The safety net under the events: missed uploads and deletions, statuses that cannot complete, instances gone away.

Everything here is found by comparing, so it may run twice at once and end anywhere; the next run finds what is left.
One listing of the container and one of each table decide what needs a look: unchanged uploads cost no request each.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.bounded import gather_bounded
from shared.errors import BusyError, CertcastError
from shared.function.announcing import announce, is_announced
from shared.function.blob_event import Notice
from shared.function.expiry import Desired, rows_in_place, warn, warning_due
from shared.function.fanout import notify
from shared.function.forgetting import (
    forget_bindings,
    forget_bundles,
    forget_installations,
    forget_uploads,
    unless_changed,
)
from shared.function.intake import falls_due, look_at
from shared.function.outbox import is_overdue, send_overdue
from shared.function.reclaiming import amiss, claim_again, orphans, ruled_otherwise, withdraw_orphan
from shared.function.settling import settle
from shared.messages import poison_queue_of, queue_of
from shared.phrasing import logger
from shared.state.records import DELETED, REAP_AFTER, UploadRecord, UploadStatus
from shared.upload import BLOB_SCHEME, is_certificate_name, scheme_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping

    from shared.function.cloud import Cloud
    from shared.ports import BlobVersion
    from shared.state.records import InstanceRecord
    from shared.state.rows import Versioned

    _Step = Callable[[Cloud, "SweepReport"], Awaitable[None]]

log = logger(__name__)

LOOKS_AT_ONCE = 8
RESEND_AFTER = timedelta(minutes=2)
"""Instances that have not reported by then are told once more."""

_UNFINISHED = frozenset({UploadStatus.ACCEPTED, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED})


@dataclass(slots=True)
class SweepReport:
    """What one sweep did.

    Attributes:
        looked_at: Uploads that were looked at again.
        settled: Uploads whose status was derived again.
        warned: Uploads whose end was warned of.
        reaped: Instances taken for scaled in.
        forgotten: Rows and bundles deleted because nothing needs them any more.
        problems: What could not be done; the next sweep tries again.
    """

    looked_at: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    reaped: list[str] = field(default_factory=list)
    forgotten: int = 0
    problems: list[str] = field(default_factory=list)


async def sweep(cloud: Cloud) -> SweepReport:
    """Bring everything in line once; what fails is reported, stops nothing else, and is left to the next sweep."""
    report = SweepReport()
    for step in _STEPS:
        await _apart(report, step.__name__.strip("_").replace("_", " "), step(cloud, report))
    if report.looked_at or report.reaped or report.problems:
        log.info(
            "sweep: looked at %d upload(s), settled %d, reaped %d instance(s), %d problem(s)",
            *(len(report.looked_at), len(report.settled), len(report.reaped), len(report.problems)),
        )
    return report


async def _apart(report: SweepReport, what: str, work: Awaitable[object]) -> bool:
    """Do one thing of many, so that its failure is its own; whether it was done."""
    try:
        await work
    except BusyError as error:
        log.info("sweep: %s: %s", what, error)
    except CertcastError as error:
        report.problems.append(f"{what}: {error}")
        log.warning("sweep: %s: %s; the next sweep tries again", what, error)
    except Exception as error:
        report.problems.append(f"{what}: {type(error).__name__}")
        log.exception("sweep: %s: unexpected trouble; the next sweep tries again", what)
    else:
        return True
    return False


async def _find_missed(cloud: Cloud, report: SweepReport) -> None:
    # Rows first: an upload that is processed between the two readings must not look deleted.
    records = {known.value.name: known.value async for known in cloud.state.uploads.all()}
    found = {blob.name: blob async for blob in cloud.uploads.each() if is_certificate_name(blob.name)}
    answered = {BLOB_SCHEME}
    for scheme, source in cloud.sources.items():
        try:
            found |= {version.name: version async for version in source.each()}
        except CertcastError as error:
            report.problems.append(f"certificate source {scheme}: {error}")
            log.warning("sweep: certificate source %s: %s; the next sweep tries again", scheme, error)
        else:
            answered.add(scheme)

    async def look(name: str) -> None:
        version = found.get(name)
        notice = Notice(name=name, etag=version.etag if version is not None else "")
        if await _apart(report, f"upload {name}", look_at(cloud, notice)):
            report.looked_at.append(name)

    await gather_bounded((look(name) for name in missed(found, records, cloud.now(), answered)), limit=LOOKS_AT_ONCE)


def missed(
    found: Mapping[str, BlobVersion], records: Mapping[str, UploadRecord], now: datetime, answered: Collection[str]
) -> list[str]:
    """Name the uploads whose version differs from the processed one, and the processed ones that are gone.

    Args:
        found: What the sources hold.
        records: What was processed.
        now: The time, for scheduled ones that fall due.
        answered: Sources that were listed; what another one holds is not taken for gone.
    """
    changed = [
        name
        for name, version in found.items()
        if name not in records or records[name].etag != version.etag or falls_due(records[name], now)
    ]
    gone = [
        name
        for name, record in records.items()
        if name not in found and record.etag != DELETED and scheme_of(name) in answered
    ]
    return sorted(changed + gone)


async def _reap(cloud: Cloud, report: SweepReport) -> None:
    """Delete queue and row of instances silent for half an hour; an agent that returns registers and reconciles."""
    now = cloud.now()
    async for known in cloud.state.instances.all():
        if now - known.written_at < REAP_AFTER:
            continue
        instance = known.value.id
        if await _apart(report, f"instance {instance}", _forget_instance(cloud, known)):
            report.reaped.append(instance)
            log.info("sweep: instance %s, silent since %s, is taken for scaled in", instance, known.written_at)


async def _forget_instance(cloud: Cloud, known: Versioned[InstanceRecord]) -> None:
    # The row last: a sweep that ends in between is repeated, and an agent whose queue is gone registers again.
    await cloud.queues.delete(queue_of(known.value.id))
    await cloud.queues.delete(poison_queue_of(known.value.id))
    await unless_changed(cloud.state.instances.remove(known.value.id, known))


async def _apply_policy(cloud: Cloud, report: SweepReport) -> None:
    """Look again at uploads that the policy refuses or allows now and did not when they were judged."""
    policy = await cloud.rules.current()
    if policy.rules is None:
        return
    records = [known.value async for known in cloud.state.uploads.all()]
    rows = [known.value async for known in cloud.state.bindings.all()]
    for name in ruled_otherwise(records, rows, policy):
        if await _apart(report, f"upload {name}", look_at(cloud, Notice(name=name, again=True))):
            report.looked_at.append(name)


async def _put_claims_right(cloud: Cloud, report: SweepReport) -> None:
    """Elect again where a row lost a claim, or a claim its upload."""
    records = {known.value.name: known.value async for known in cloud.state.uploads.all()}
    rows = {known.value.key: known.value async for known in cloud.state.bindings.all()}
    for record in records.values():
        if (found := amiss(record, rows, cloud.now())) is not None:
            await _apart(report, f"upload {record.name}", claim_again(cloud, found))
    for key, name, revision in orphans(records, rows):
        await _apart(report, f"upload {name}", withdraw_orphan(cloud, key, name, revision))


async def _find_unsettled(cloud: Cloud, report: SweepReport) -> None:
    """Settle what still waits for an instance, and tell those that have not reported once more."""
    now = cloud.now()
    waiting = [
        known.value
        async for known in cloud.state.uploads.all()
        if known.value.etag and (known.value.status in _UNFINISHED or _still_bound(known.value))
    ]
    for record in waiting:
        if await _apart(report, f"upload {record.name}", _pursue(cloud, record, now)):
            report.settled.append(record.name)


async def _pursue(cloud: Cloud, record: UploadRecord, now: datetime) -> None:
    if now - (record.fanned_out_at or now) >= RESEND_AFTER and not record.resent:
        await _tell_again(cloud, record)
    await settle(cloud, record.name)


async def _warn_and_announce(cloud: Cloud, report: SweepReport) -> None:
    """Warn of certificates that end soon, and announce what a crash kept from being announced."""
    now = cloud.now()
    records = [known.value async for known in cloud.state.uploads.all()]
    rows = await rows_in_place(cloud, records)
    for record in records:
        if warning_due(record, now, rows) is not None:
            await _apart(report, f"upload {record.name}", _warned(cloud, record, rows, report))
        if cloud.topic is not None and record.etag and not is_announced(record):
            await _apart(report, f"upload {record.name}", announce(cloud, record))
        elif is_overdue(record, now):
            await _apart(report, f"upload {record.name}", send_overdue(cloud, record))


async def _warned(cloud: Cloud, record: UploadRecord, rows: Desired, report: SweepReport) -> None:
    if await warn(cloud, record, rows):
        report.warned.append(record.name)


def _still_bound(record: UploadRecord) -> bool:
    return record.status is UploadStatus.REMOVED and record.live > 0


async def _tell_again(cloud: Cloud, record: UploadRecord) -> None:
    expected = set(record.expected)
    instances = [
        known.value
        async for known in cloud.state.instances.all()
        if known.value.id in expected and not known.value.stopped
    ]
    await notify(cloud, instances, record.claims, traceparent=record.traceparent)

    def change(current: UploadRecord | None) -> UploadRecord | None:
        if current is None or current.revision != record.revision:
            return None
        return replace(current, resent=True)

    await cloud.state.uploads.update(record.name, change)


def _forgetting(forget: Callable[[Cloud], AsyncIterator[bool]]) -> _Step:
    async def step(cloud: Cloud, report: SweepReport) -> None:
        async for done in forget(cloud):
            report.forgotten += done

    step.__name__ = forget.__name__
    return step


_STEPS = (
    _find_missed,
    _reap,
    _apply_policy,
    _put_claims_right,
    _find_unsettled,
    _warn_and_announce,
    _forgetting(forget_bindings),
    _forgetting(forget_uploads),
    _forgetting(forget_installations),
    _forgetting(forget_bundles),
)
