"""Handling an upload or a deletion, from event to fan-out; event, recheck and sweep take the same steps.

Whatever an event says, what is acted on is the blob as it is now. Overlapping looks at one upload are put in order by
its row's `revision`: a look first takes the next revision, then reads the blob, and every later write of it gives way
to a higher one. Since the blob is read after the revision was taken, the highest revision has read the newest blob.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.binding import StaleRevisionError
from shared.bounded import gather_bounded
from shared.bundle import bundle_id
from shared.errors import CertcastError
from shared.function.announcing import tell
from shared.function.blob_event import Notice
from shared.function.claiming import accept, complete, with_verdict, withdraw
from shared.function.judging import judge, lacks_password
from shared.function.recheck import send_recheck, send_when_due
from shared.function.turn import take_turn, write
from shared.messages import RecheckUpload, new_traceparent
from shared.state.records import DELETED, UploadRecord, UploadStatus

if TYPE_CHECKING:
    from datetime import datetime

    from shared.function.cloud import Cloud
    from shared.ports import BlobContent, CertificateSource
    from shared.upload import UploadMetadata
    from shared.validation.judge import Judgement

log = logging.getLogger(__name__)

EVENT_BELONGS = timedelta(seconds=5)
"""An event's time is taken for the upload's, being finer, when it is this close to the blob's own."""

_JUST_ENOUGH_TO_SEE_IT_IS_TOO_LARGE = 1


async def look_at(cloud: Cloud, notice: Notice) -> UploadRecord | None:
    """Bring certcast's state in line with one blob as it is now.

    Returns:
        The upload's row; None when there is nothing to know about it.

    Raises:
        UnavailableError: A service did not answer; looking again later goes on where it ended.
    """
    known = await cloud.state.uploads.get(notice.name)
    if known is None and notice.deletion:
        return None
    source = cloud.source_of(notice.name)
    if source is None:
        log.warning("upload %s: left as it is, its certificate source is not set up here", notice.name)
        return known
    if known is None and not notice.etag and await source.version(notice.name) is None:
        return None
    if known is not None and await _is_done(known, notice, source, cloud.now()):
        return known
    try:
        mine = await take_turn(cloud, notice.name, traceparent=notice.traceparent or new_traceparent())
        return await _look(cloud, mine, notice, source)
    except StaleRevisionError:
        log.info("upload %s: a later look at it is under way and finishes the work", notice.name)
        return await cloud.state.uploads.get(notice.name)


async def handle_notice(cloud: Cloud, notice: Notice) -> UploadRecord | None:
    """Handle one event so that it need not come again: what cannot be done now is put on `certificate-recheck`.

    Event Grid holds back an endpoint's new events when old ones keep failing, so a failure is answered only when
    neither the work nor the reminder could be done (learn.microsoft.com, "Event Grid message delivery and retry").

    Raises:
        CertcastError: Neither could be done.
    """
    try:
        return await look_at(cloud, notice)
    except Exception as error:
        if isinstance(error, CertcastError):
            log.warning("upload %s: put off, it could not be handled now: %s", notice.name, error)
        else:
            log.exception("upload %s: put off, handling it failed unexpectedly", notice.name)
        await send_recheck(cloud, notice.name, attempt=0, traceparent=notice.traceparent)
        return None


async def recheck(cloud: Cloud, message: RecheckUpload) -> UploadRecord | None:
    """Look again at an upload that waited or could not be handled, and ask for the next look if need be."""
    before = await cloud.state.uploads.get(message.name)
    record = await look_at(cloud, Notice(name=message.name, traceparent=message.traceparent))
    still_waiting = record is not None and record.status is UploadStatus.WAITING_FOR_METADATA
    if still_waiting and before is not None and before.etag == (record.etag if record else ""):
        await send_recheck(cloud, message.name, attempt=message.attempt + 1, traceparent=message.traceparent)
    elif record is not None and record.status is UploadStatus.SCHEDULED and before and before.etag == record.etag:
        await send_when_due(cloud, record)
    return record


async def _is_done(known: UploadRecord, notice: Notice, source: CertificateSource, now: datetime) -> bool:
    if not known.etag or falls_due(known, now):
        return False
    if notice.etag and not notice.deletion:
        return notice.etag in {known.etag, known.source_etag}
    version = await source.version(notice.name)
    return known.etag == (DELETED if version is None else version.etag)


def falls_due(known: UploadRecord, now: datetime) -> bool:
    """Whether a scheduled certificate has become valid."""
    return known.status is UploadStatus.SCHEDULED and known.not_before is not None and known.not_before <= now


async def _look(cloud: Cloud, mine: UploadRecord, notice: Notice, source: CertificateSource) -> UploadRecord:
    noticed_at = cloud.now()
    limit = cloud.policy.max_pfx_bytes + _JUST_ENOUGH_TO_SEE_IT_IS_TOO_LARGE
    found = await source.read(notice.name, max_bytes=limit)
    if found is None:
        return await withdraw(cloud, mine)
    if found.version.etag == mine.etag and not falls_due(mine, noticed_at):
        return mine
    metadata, judgement = await judge(cloud, found)
    bundle = judgement.bundle
    fresh = replace(
        _judged(mine, found, notice, judgement),
        source_etag=_judged_version(mine, found, metadata, judgement),
        noticed_at=noticed_at,
        judged_at=cloud.now(),
    )
    if bundle is None or not judgement.accepted:
        return await _turn_down(cloud, fresh, waits=lacks_password(metadata, judgement))
    fresh = replace(fresh, bundle_id=bundle_id(bundle, found.content))
    await cloud.bundles.seal(fresh.bundle_id, bundle.to_pem())
    if judgement.scheduled:
        return await _schedule(cloud, fresh, found, metadata)
    return await accept(cloud, mine, fresh, found, metadata)


def _judged(mine: UploadRecord, found: BlobContent, notice: Notice, judgement: Judgement) -> UploadRecord:
    """The row with what the verdict says, and of the certificate where there is one."""
    uploaded_at = _upload_time(mine, found, notice)
    counted_from = _counted_from(mine, found, uploaded_at)
    judged = replace(
        mine,
        violations=judgement.violations,
        reason="",
        hosts=judgement.hosts,
        port=judgement.port,
        role=judgement.role,
        site=judgement.site,
        uploaded_at=uploaded_at,
        counted_from=counted_from,
    )
    bundle = judgement.bundle
    if bundle is None:
        return judged
    return replace(
        judged,
        subject=bundle.subject,
        issuer=bundle.issuer,
        dns_names=bundle.dns_names,
        fingerprint_sha256=bundle.fingerprint_sha256,
        thumbprint_sha1=bundle.thumbprint_sha1,
        not_before=bundle.not_before,
        not_after=bundle.not_after,
        counted_from=max(counted_from, bundle.not_before),
    )


def _judged_version(mine: UploadRecord, found: BlobContent, metadata: UploadMetadata, judgement: Judgement) -> str:
    """The version the verdict is about: of a scrubbed upload the one before, which is the one its uploader knows."""
    ours = not mine.etag and metadata.password is None and metadata.sealed_bundle == mine.bundle_id
    asked = (judgement.hosts, judgement.port, judgement.role, judgement.site)
    same = asked == (mine.hosts, mine.port, mine.role, mine.site)
    return mine.source_etag if ours and same and _is_known(mine, found) else found.version.etag


def _upload_time(mine: UploadRecord, found: BlobContent, notice: Notice) -> datetime:
    """When this content was uploaded: editing metadata is not uploading, and must not win an election."""
    if _is_known(mine, found) and mine.uploaded_at is not None:
        return mine.uploaded_at
    modified = found.version.last_modified
    if notice.at is not None and notice.etag == found.version.etag and abs(notice.at - modified) < EVENT_BELONGS:
        return notice.at
    return modified


def _counted_from(mine: UploadRecord, found: BlobContent, uploaded_at: datetime) -> datetime:
    """What `seconds_to_live` counts from: the upload, or the edit of the metadata of what had been done with."""
    if not _is_known(mine, found):
        return uploaded_at
    return found.version.last_modified if mine.etag else mine.counted_from or uploaded_at


def _is_known(mine: UploadRecord, found: BlobContent) -> bool:
    """Whether the content is that which was accepted last."""
    same = mine.bundle_id.endswith(f"/{hashlib.sha256(found.content).hexdigest()}")
    return same and mine.status is not UploadStatus.REMOVED


async def _turn_down(cloud: Cloud, fresh: UploadRecord, *, waits: bool) -> UploadRecord:
    status = UploadStatus.WAITING_FOR_METADATA if waits else UploadStatus.REJECTED
    reason = ""
    rows = await gather_bounded(cloud.state.bindings.get(key) for key in fresh.claims)
    if any(row is not None and row.source == fresh.name for row in rows):
        codes = ", ".join(violation.code.value for violation in fresh.violations)
        reason = f"{codes}; the certificate accepted before under this name stays in place"

    def turned_down(record: UploadRecord) -> UploadRecord:
        return replace(
            with_verdict(record, fresh), status=status, etag="", reason=reason, live=0, total=0, live_at=None
        )

    record = await write(cloud, fresh, turned_down)
    log.info("upload %s: %s (%s)", fresh.name, status.value, ", ".join(v.code.value for v in fresh.violations))
    if waits:
        await send_recheck(cloud, fresh.name, attempt=0, traceparent=fresh.traceparent)
    await tell(cloud, fresh.name)
    return await write(cloud, record, lambda current: replace(current, etag=fresh.source_etag))


async def _schedule(cloud: Cloud, fresh: UploadRecord, found: BlobContent, metadata: UploadMetadata) -> UploadRecord:
    """Keep a certificate that is not yet valid until it is; what the upload claimed before stays served meanwhile."""
    start = fresh.not_before or cloud.now()

    def scheduled(record: UploadRecord) -> UploadRecord:
        return replace(
            with_verdict(record, fresh),
            status=UploadStatus.SCHEDULED,
            etag="",
            reason=f"valid from {start:%Y-%m-%d %H:%M} UTC, installed then",
            live=0,
            total=0,
            live_at=None,
            bundle_id=fresh.bundle_id,
        )

    record = await write(cloud, fresh, scheduled)
    await send_when_due(cloud, fresh)
    log.info("upload %s: scheduled for %s", fresh.name, f"{start:%Y-%m-%dT%H:%M:%SZ}")
    await tell(cloud, fresh.name)
    return await complete(cloud, record, found, metadata)
