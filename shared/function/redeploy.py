"""Installing an accepted upload once more on every instance, after something was changed by hand on a machine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bounded import gather_bounded
from shared.bundle import CertificateBundle
from shared.errors import BrokenBundleError, CertcastError, MissingError
from shared.function.announcing import announced, to_be_told_again
from shared.function.deadlines import LOOK_S
from shared.function.election import redeployed
from shared.function.fanout import notify, read_fleet, recipients
from shared.function.history import entry_about
from shared.function.keeping import seal_again
from shared.function.outbox import new_event_id
from shared.function.recheck import send_again
from shared.function.settling import settle
from shared.function.standing import started_over
from shared.messages import new_traceparent, trace_of
from shared.phrasing import logger
from shared.state.history import HistoryKind
from shared.state.records import SETTLEABLE, UploadRecord, UploadStatus

if TYPE_CHECKING:
    from shared.binding import BindingKey, DesiredBinding
    from shared.function.cloud import Cloud
    from shared.messages import RecheckUpload

log = logger(__name__)


async def redeploy_as_asked(cloud: Cloud, message: RecheckUpload) -> None:
    """Redeploy what a message asks for; what cannot be done now is put off, as a look at an upload is."""
    try:
        async with asyncio.timeout(LOOK_S):
            keys = await redeploy(cloud, message.name, traceparent=message.traceparent)
    except (CertcastError, TimeoutError) as error:
        if isinstance(error, CertcastError) and not error.retriable:
            raise
        why = str(error) or f"not done in {LOOK_S:g} s"
        log.warning("upload %s: installing it once more is put off: %s", message.name, why)
        await send_again(cloud, message)
        return
    if not keys:
        log.warning("upload %s: it was asked to be installed once more, and serves no host", message.name)


async def redeploy(cloud: Cloud, name: str, *, traceparent: str = "") -> tuple[BindingKey, ...]:
    """Seal again what the upload serves, raise the generation of every row it won, and tell the instances.

    Sealing again puts its bundles, those that wait behind another upload's too, under the key that seals now.

    Args:
        cloud: What is acted on.
        name: The upload.
        traceparent: W3C trace context of the wish; empty begins one. What was done of it already, by a message that
            comes twice or a process that ended, is not done again, and the instances are told in any case.

    Returns:
        The rows; empty when the upload is unknown or serves nothing.
    """
    record = await cloud.state.uploads.get(name)
    if record is None or record.status is UploadStatus.REMOVED:
        return ()
    await _seal_again(cloud, record)
    if record.status not in SETTLEABLE:
        return ()
    if not trace_of(traceparent):
        traceparent = new_traceparent()
    keys = await _raised(cloud, record, traceparent)
    if keys:
        await _told(cloud, name, keys, traceparent)
    return keys


async def _raised(cloud: Cloud, record: UploadRecord, traceparent: str) -> tuple[BindingKey, ...]:
    """Raise the generation of every row that an upload won, once for a trace."""
    now = cloud.now()

    def again(row: DesiredBinding | None) -> DesiredBinding | None:
        if row is None or row.source != record.name or trace_of(row.traceparent) == trace_of(traceparent):
            return None
        return redeployed(row, now=now, traceparent=traceparent)

    updates = await gather_bounded(cloud.state.bindings.update(key, again) for key in record.claims)
    cloud.recent.see_changes(updates)
    return tuple(
        update.after.key for update in updates if update.after is not None and update.after.source == record.name
    )


async def _told(cloud: Cloud, name: str, keys: tuple[BindingKey, ...], traceparent: str) -> None:
    """Let the upload's status start over, once for a trace, and tell the instances."""
    fleet, now, event_id = await read_fleet(cloud), cloud.now(), new_event_id()
    instances = recipients(fleet, keys)

    def start_over(current: UploadRecord | None) -> UploadRecord | None:
        if current is None or current.status not in SETTLEABLE or current.status is UploadStatus.REMOVED:
            return None
        if trace_of(current.traceparent) == trace_of(traceparent):
            return None
        told = [instance.id for instance in instances]
        again = started_over(current, UploadStatus.ACCEPTED, told, now=now, counted_from=now)
        again = to_be_told_again(replace(again, untold=(), traceparent=traceparent))
        entry = entry_about(again, HistoryKind.REDEPLOYED, at=now, entry_id=event_id, reason="")
        return announced(again, at=now, event_id=event_id, outgoing=cloud.tells_others, entry=entry)

    await cloud.state.uploads.update(name, start_over)
    untold = await notify(cloud, instances, keys, traceparent=traceparent)
    if untold:
        await cloud.state.uploads.update(name, lambda current: current and replace(current, untold=untold))
    await settle(cloud, name, fleet=fleet)


async def _seal_again(cloud: Cloud, record: UploadRecord) -> None:
    # The row's own bundle may wait for its first day while the rows still serve an earlier one.
    rows = await gather_bounded(cloud.state.bindings.get(key) for key in record.claims)
    claims = [claim for row in rows if row and (claim := row.claim_of(record.name)) and claim.withdrawn_at is None]
    for bundle_id in sorted({record.bundle_id, *(claim.bundle_id for claim in claims)} - {""}):
        try:
            pem = await cloud.bundles.open(bundle_id)
            CertificateBundle.from_sealed(pem, bundle_id)
        except (MissingError, BrokenBundleError) as error:
            # The agent that is to serve it will say so too. Sealed again, a stranger's copy would look like ours.
            log.warning("upload %s: not sealed again: %s", record.name, error)
            continue
        await cloud.bundles.seal(bundle_id, pem)
    await seal_again(cloud, record)
