"""Forgetting what nothing needs any more: instances, marks of removals, rows of removed uploads, reports, bundles.

What a snapshot says is read again first. The iterators yield, for everything they found, its name and what deletes it
and tells whether that was done; a sweep does that one by one, so that what cannot be deleted stops nothing else.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.binding import BindingKey, phrased
from shared.errors import ConflictError
from shared.function.keeping import places_needed
from shared.function.snapshot import BUNDLES
from shared.function.sweep_report import in_turn
from shared.messages import poison_queue_of, queue_of
from shared.phrasing import logger
from shared.state.keys import installation_partition
from shared.state.records import BINDINGS_TABLE, DELETED, INSTANCES_TABLE, REAP_AFTER, UPLOADS_TABLE, UploadStatus
from shared.state.wholeness import WHOLENESS
from shared.upload import BLOB_SCHEME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterator, Sequence
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud
    from shared.function.snapshot import Snapshot
    from shared.ports import StoredBundle
    from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord
    from shared.state.rows import Versioned

    Deletions = Iterator[tuple[str, Coroutine[Any, Any, bool]]]

log = logger(__name__)

ABSENT_KEEP = timedelta(days=30)
"""How long a removed binding is remembered, so that an instance that was off learns of it."""
REPORT_KEEP = timedelta(hours=1)


async def unless_changed(deletion: Awaitable[None]) -> bool:
    """Delete what was listed; False where it was written since."""
    try:
        await deletion
    except ConflictError:
        return False  # it is in use again; the next sweep sees it as it is then
    return True


def is_silent_for_good(known: Versioned[InstanceRecord], now: datetime) -> bool:
    """Whether an instance is taken for scaled in."""
    return now - known.written_at >= REAP_AFTER


async def forget_instance(cloud: Cloud, instance: str) -> bool:
    """Delete queues and row of an instance if it is silent still; an agent that returns registers and reconciles."""
    known = await cloud.state.instances.find(instance)
    if known is None or not is_silent_for_good(known, cloud.now()):
        return False
    # The row last: a sweep that ends in between is repeated, and an agent whose queue is gone registers again.
    await cloud.queues.delete(queue_of(instance))
    await cloud.queues.delete(poison_queue_of(instance))
    await unless_changed(cloud.state.instances.remove(instance, known))
    log.info("sweep: instance %s, silent since %s, is taken for scaled in", instance, known.written_at)
    return True


def forget_bindings(cloud: Cloud, seen: Snapshot) -> Deletions:
    """Delete removal marks older than 30 days, with what the instances reported about them."""
    keys = [key for key, row in (seen.bindings or {}).items() if _is_over(row, seen.taken_at)]
    for key in in_turn(keys, seen.taken_at):
        yield f"row of {key.phrased}", _forget_binding(cloud, key, seen.taken_at)


async def _forget_binding(cloud: Cloud, key: BindingKey, now: datetime) -> bool:
    known = await cloud.state.bindings.find(key)
    if known is None or not _is_over(known.value, now):
        return False
    async for entry in cloud.state.installations.all(installation_partition(key.host, key.port)):
        if entry.value.role == key.role:
            await unless_changed(cloud.state.installations.remove((key.host, key.port, entry.value.instance), entry))
    return await unless_changed(cloud.state.bindings.remove(key, known))


def _is_over(row: DesiredBinding, now: datetime) -> bool:
    return not row.present and now - row.changed_at >= ABSENT_KEEP


def forget_uploads(cloud: Cloud, seen: Snapshot) -> Deletions:
    """Delete the rows of uploads that were removed more than 30 days ago."""
    names = [name for name, record in (seen.uploads or {}).items() if _is_gone(record, seen.taken_at)]
    for name in in_turn(names, seen.taken_at):
        yield f"row of upload {name}", _forget_upload(cloud, name, seen.taken_at)


async def _forget_upload(cloud: Cloud, name: str, now: datetime) -> bool:
    known = await cloud.state.uploads.find(name)
    if known is None or not _is_gone(known.value, now):
        return False
    return await unless_changed(cloud.state.uploads.remove(name, known))


def _is_gone(record: UploadRecord, now: datetime) -> bool:
    over = record.status is UploadStatus.REMOVED and record.etag == DELETED
    return over and now - (record.fanned_out_at or now) >= ABSENT_KEEP


def is_stray(entry: Versioned[InstallationRecord], seen: Snapshot) -> bool:
    """Whether a report belongs to nothing: to no instance, to no row, or to a generation that never was.

    One that was written within the hour may be of an instance, or of a row, that is newer than what was read here.
    """
    if seen.bindings is None or seen.instances is None or seen.unreadable & {BINDINGS_TABLE, INSTANCES_TABLE}:
        return False  # what seems to belong to nothing may belong to what could not be read
    if seen.taken_at - entry.written_at < REPORT_KEEP:
        return False
    report = entry.value
    row = seen.bindings.get(BindingKey(role=report.role, host=report.host, port=report.port))
    return row is None or report.instance not in seen.instances or report.generation > row.generation


def forget_strays(cloud: Cloud, seen: Snapshot, strays: Sequence[Versioned[InstallationRecord]]) -> Deletions:
    """Delete reports that belong to nothing, but for those of an instance that returned since."""
    returned: dict[str, bool] = {}

    async def forget(entry: Versioned[InstallationRecord]) -> bool:
        report = entry.value
        if report.instance not in returned and report.instance not in (seen.instances or {}):
            returned[report.instance] = await cloud.state.instances.find(report.instance) is not None
        if returned.get(report.instance):
            return False
        return await unless_changed(
            cloud.state.installations.remove((report.host, report.port, report.instance), entry)
        )

    for entry in in_turn(strays, seen.taken_at):
        report = entry.value
        yield f"report of {report.instance} on {phrased(report.host, report.port)}", forget(entry)


def forget_bundles(cloud: Cloud, seen: Snapshot) -> Deletions:
    """Delete bundles that no claim and no upload names, and that were not sealed within the last day."""
    if seen.bundles is None or seen.bindings is None or seen.uploads is None or BLOB_SCHEME not in seen.answered:
        return
    if seen.bundles and seen.unreadable & {BINDINGS_TABLE, UPLOADS_TABLE}:
        log.warning("sweep: no bundle is deleted while rows that may name it cannot be read; the log names them above")
        cloud.last_done[BUNDLES] = seen.taken_at
        return
    named = set(seen.marked)
    for row in seen.bindings.values():
        named |= {row.bundle_id, *(claim.bundle_id for claim in row.claims)}
    named |= {record.bundle_id for record in seen.uploads.values() if record.status is not UploadStatus.REMOVED}
    named |= {WHOLENESS, *places_needed(seen.uploads.values())}
    for bundle in in_turn([bundle for bundle in seen.bundles if bundle.bundle_id not in named], seen.taken_at):
        yield f"bundle {bundle.bundle_id}", _forget_bundle(cloud, bundle)
    cloud.last_done[BUNDLES] = seen.taken_at


def forget_canaries(cloud: Cloud, seen: Snapshot) -> Deletions:
    """Delete canaries that a `certcast doctor` left behind which ended before it could."""
    for name in in_turn(sorted(seen.canaries), seen.taken_at):
        yield f"canary {name}", cloud.uploads.delete(name)


async def _forget_bundle(cloud: Cloud, bundle: StoredBundle) -> bool:
    return await unless_changed(cloud.bundles.delete(bundle))
