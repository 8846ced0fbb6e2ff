"""Forgetting what nothing needs any more: marks of removals, rows of removed uploads, bundles that no row names.

Each function yields, for everything it found, whether that was deleted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.binding import BindingKey
from shared.errors import ConflictError
from shared.phrasing import logger
from shared.state.keys import installation_partition
from shared.state.records import DELETED, UploadStatus
from shared.upload import SEALED_BUNDLE_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from shared.function.cloud import Cloud
    from shared.state.rows import UnreadableRow

log = logger(__name__)

ABSENT_KEEP = timedelta(days=30)
"""How long a removed binding is remembered, so that an instance that was off learns of it."""
REPORT_KEEP = timedelta(hours=1)
BUNDLE_KEEP = timedelta(days=1)
"""A bundle sealed more recently may belong to an upload whose rows are being written."""


async def unless_changed(deletion: Awaitable[None]) -> bool:
    """Delete what was listed; False where it was written since."""
    try:
        await deletion
    except ConflictError:
        return False  # it is in use again; the next sweep sees it as it is then
    return True


async def forget_bindings(cloud: Cloud) -> AsyncIterator[bool]:
    """Delete removal marks older than 30 days, with what the instances reported about them."""
    now = cloud.now()
    async for known in cloud.state.bindings.all():
        row = known.value
        if row.present or now - row.changed_at < ABSENT_KEEP:
            continue
        async for entry in cloud.state.installations.all(installation_partition(row.host, row.port)):
            if entry.value.role == row.role:
                key = (row.host, row.port, entry.value.instance)
                await unless_changed(cloud.state.installations.remove(key, entry))
        yield await unless_changed(cloud.state.bindings.remove(row.key, known))


async def forget_uploads(cloud: Cloud) -> AsyncIterator[bool]:
    """Delete the rows of uploads that were removed more than 30 days ago."""
    now = cloud.now()
    async for known in cloud.state.uploads.all():
        record = known.value
        over = record.status is UploadStatus.REMOVED and record.etag == DELETED
        if over and now - (record.fanned_out_at or now) >= ABSENT_KEEP:
            yield await unless_changed(cloud.state.uploads.remove(record.name, known))


async def forget_installations(cloud: Cloud) -> AsyncIterator[bool]:
    """Delete reports that belong to nothing: to no instance, to no row, or to a generation that never was.

    One that was written within the hour may be of an instance, or of a row, that is newer than what was read here.
    """
    now = cloud.now()
    old = [known async for known in cloud.state.installations.all() if now - known.written_at >= REPORT_KEEP]
    if not old:
        return
    unreadable: list[UnreadableRow] = []
    instances = {known.value.id async for known in cloud.state.instances.all(unreadable=unreadable)}
    rows = {known.value.key: known.value async for known in cloud.state.bindings.all(unreadable=unreadable)}
    if unreadable:
        return  # what seems to belong to nothing may belong to one of these
    for entry in old:
        report = entry.value
        row = rows.get(BindingKey(role=report.role, host=report.host, port=report.port))
        if row is None or report.instance not in instances or report.generation > row.generation:
            key = (report.host, report.port, report.instance)
            yield await unless_changed(cloud.state.installations.remove(key, entry))


async def forget_bundles(cloud: Cloud) -> AsyncIterator[bool]:
    """Delete bundles that no claim and no upload names, and that were not sealed within the last day."""
    now = cloud.now()
    # Listed before what refers to them is read: a bundle that is claimed in between is either younger or sealed again.
    old = [bundle async for bundle in cloud.bundles.each() if now - bundle.stored_at >= BUNDLE_KEEP]
    if not old:
        return
    named: set[str] = set()
    unreadable: list[UnreadableRow] = []
    async for known in cloud.state.bindings.all(unreadable=unreadable):
        row = known.value
        named |= {claim.bundle_id for claim in row.claims}
        named.add(row.bundle_id)
    async for upload in cloud.state.uploads.all(unreadable=unreadable):
        if upload.value.status is not UploadStatus.REMOVED:
            named.add(upload.value.bundle_id)
    if unreadable:
        log.warning("sweep: no bundle is deleted while %d row(s) cannot be read, which may name it", len(unreadable))
        return
    async for blob in cloud.uploads.each():
        # A scrubbed upload without a row (tables lost, say) can be opened only through the bundle its marker names.
        named |= {value for key, value in blob.metadata.items() if key.lower() == SEALED_BUNDLE_KEY}
    for bundle in old:
        if bundle.bundle_id not in named:
            yield await unless_changed(cloud.bundles.delete(bundle))
