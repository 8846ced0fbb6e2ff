"""Uploads of which nothing is served, or not yet: rejected, waiting for their metadata, or scheduled.

A certificate that was accepted before under the name stays in place, where the policy still allows it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bounded import gather_bounded
from shared.function.announcing import announced_once
from shared.function.claiming import release, withdraw
from shared.function.finishing import complete, finish
from shared.function.judging import verdict_on, warnings_on
from shared.function.keeping import write_down
from shared.function.outbox import new_event_id
from shared.function.recheck import ask_for_a_look, send_recheck, send_when_due
from shared.function.reclaiming import refused
from shared.function.restoring import enter_again
from shared.function.scrubbing import Scrubbed
from shared.phrasing import logger
from shared.ports import BlobContent
from shared.state.reasons import reason_for_kept
from shared.state.records import UploadRecord, UploadStatus
from shared.state.tags import untagged
from shared.upload import parse_metadata
from shared.validation.judged import Judged
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from shared.binding import BindingKey
    from shared.errors import HeldError
    from shared.function.blob_event import Notice
    from shared.function.cloud import Cloud
    from shared.function.turn import Change, Turn
    from shared.ports import BlobVersion, CertificateSource

log = logger(__name__)


async def turn_down_unread(
    cloud: Cloud, turn: Turn, notice: Notice, source: CertificateSource, error: HeldError
) -> UploadRecord:
    """Turn down what was put where it cannot be read, as blobs in the archive tier cannot."""
    mine, now = turn.record, cloud.now()
    version = await source.version(notice.name)
    if version is None:
        return await withdraw(cloud, turn)
    metadata, noted = parse_metadata(version.metadata)
    unread = Violation(code=VerdictCode.UNREADABLE_BUNDLE, detail=f"The blob cannot be read: {error}.")
    judgement = Judged(
        violations=(*noted, unread),
        hosts=(),
        port=metadata.port,
        role=metadata.role,
        site=metadata.site,
        default=metadata.default,
        bundle=None,
        warnings=warnings_on(version),
    )
    found = BlobContent(version=version, content=b"")
    verdict = verdict_on(mine, found, notice, metadata, judgement, noticed_at=now, judged_at=now)
    return await turn_down(cloud, turn, mine, verdict, version, waits=False)


async def turn_down(
    cloud: Cloud, turn: Turn, mine: UploadRecord, judged: Change, version: BlobVersion, *, waits: bool
) -> UploadRecord:
    """Enter a verdict by which an upload is rejected, or waits for its password.

    Args:
        cloud: What to act on.
        turn: The look's turn at the upload.
        mine: Its row as it was when the look began.
        judged: Puts the verdict into the row.
        version: What was looked at: of a scrubbed upload a later one than its uploader knows.
        waits: Whether it only lacks its password.
    """
    status = UploadStatus.WAITING_FOR_METADATA if waits else UploadStatus.REJECTED
    fresh = judged(mine)
    codes = ", ".join(violation.code.value for violation in fresh.violations)
    claims = await _allowed_claims(cloud, mine)
    rows = await gather_bounded(cloud.state.bindings.get(key) for key in claims)
    reason = reason_for_kept(fresh, filter(None, rows), cloud.now())
    await turn.write(_unserved(cloud, judged, status, reason, claims))
    log.info("upload %s: %s (%s)", mine.name, status.value, codes)
    if waits:
        await ask_for_a_look(mine, send_recheck(cloud, mine.name, attempt=0, traceparent=mine.traceparent))

    async def nothing() -> Scrubbed:
        return Scrubbed(etag=version.etag)

    return await finish(cloud, turn, nothing())


async def _allowed_claims(cloud: Cloud, mine: UploadRecord) -> tuple[BindingKey, ...]:
    """The claims that stay in place, of a certificate accepted before; those that the policy refuses are released."""
    claims = mine.claims
    if not claims and mine.status is UploadStatus.RECEIVED:
        claims = await enter_again(cloud, mine)  # it is new, or its row was lost
    if not claims:
        return ()
    policy = await cloud.rules.current()
    rows = await gather_bounded(cloud.state.bindings.get(key) for key in claims)
    forbidden = {row.key for row in rows if row is not None and mine.name in refused(row, policy)}
    if forbidden:
        await release(cloud, mine, forbidden)
    await write_down(cloud, mine.name, (row for row in rows if row is not None and row.key not in forbidden))
    return tuple(key for key in claims if key not in forbidden)


async def schedule(cloud: Cloud, turn: Turn, judged: Change, version: BlobVersion) -> UploadRecord:
    """Keep a certificate that is not yet valid until it is; what the upload claimed before stays served meanwhile."""
    mine = turn.record
    start = judged(mine).not_before or cloud.now()
    reason = f"valid from {start:%Y-%m-%d %H:%M} UTC, installed then"
    claims = await _allowed_claims(cloud, mine)
    record = await turn.write(_unserved(cloud, judged, UploadStatus.SCHEDULED, reason, claims))
    await ask_for_a_look(record, send_when_due(cloud, record))
    log.info("upload %s: scheduled for %s", mine.name, f"{start:%Y-%m-%dT%H:%M:%SZ}")
    return await complete(cloud, turn, version)


def _unserved(
    cloud: Cloud, judged: Change, status: UploadStatus, reason: str, claims: tuple[BindingKey, ...]
) -> Change:
    """What enters a verdict by which nothing of this version is served, with event and entry that it calls for."""
    now, event_id = cloud.now(), new_event_id()

    def change(before: UploadRecord) -> UploadRecord:
        record = replace(judged(before), status=status, etag="", reason=reason, live=0, total=0, live_at=None)
        record = untagged(before, replace(record, claims=claims))
        return announced_once(before, record, at=now, event_id=event_id, outgoing=cloud.tells_others)

    return change
