"""Handling an upload or a deletion, from event to fan-out; event, recheck and sweep take the same steps.

Whatever an event says, what is acted on is the blob as it is now. Overlapping looks at one upload are put in order by
its row's `revision`: a look first takes the next revision, then reads the blob, and every later write of it gives way
to a higher one. Since the blob is read after the revision was taken, the highest revision has read the newest blob.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from logging import INFO, WARNING
from typing import TYPE_CHECKING

from shared.errors import BusyError, CertcastError, HeldError
from shared.function.blob_event import Notice
from shared.function.canary import remove_canary
from shared.function.claiming import accept, places_of, withdraw
from shared.function.deadlines import EVENT_S, GIVE_UP_S, LOOK_S
from shared.function.election import MAX_CLAIMS, StaleRevisionError, TooManyClaimsError
from shared.function.judging import verdict_on, waits_for_password
from shared.function.recheck import send_recheck, send_when_due
from shared.function.redeploy import redeploy_as_asked
from shared.function.ruling import judge_by_rules
from shared.function.sending import publish
from shared.function.turn import take_turn
from shared.function.unserved import schedule, turn_down, turn_down_unread
from shared.messages import RECHECK_QUEUE, RecheckUpload, new_traceparent
from shared.phrasing import logger, shown
from shared.state.records import DELETED, UploadRecord, UploadStatus
from shared.telemetry import names
from shared.telemetry.names import Kind, Stage
from shared.telemetry.spans import note, span
from shared.upload import is_canary, is_upload_name, scheme_of
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from datetime import datetime

    from shared.binding import BindingKey
    from shared.function.cloud import Cloud
    from shared.function.turn import Turn
    from shared.ports import BlobContent, CertificateSource
    from shared.state.rows import Held

log = logger(__name__)

_JUST_ENOUGH_TO_SEE_IT_IS_TOO_LARGE = 1
_TURNS = 2
"""A second one is taken where an upload's row was lost and a claim of it knows a later revision."""
JUDGING = timedelta(minutes=3)
"""How long others leave a version to the look that judges it; after that it is taken for dead."""


async def look_at(cloud: Cloud, notice: Notice) -> UploadRecord | None:
    """Bring certcast's state in line with one blob as it is now.

    Returns:
        The upload's row; None when there is nothing to know about it.

    Raises:
        BusyError: Too much of its kind is being done.
        UnavailableError: A service did not answer; looking again later goes on where it ended.
    """
    held = await cloud.state.uploads.read(notice.name)
    known = held.value
    if known is None and notice.deletion:
        return None
    source = cloud.source_of(notice.name)
    if source is None:
        log.warning("upload %s: left as it is, its certificate source is not set up here", notice.name)
        return known
    if known is None and not notice.etag and await source.version(notice.name) is None:
        return None
    if known is not None and await _is_done(known, notice, source, cloud.now()):
        # An event may be about an earlier version; what came without one was compared with the blob as it is.
        return await _held_up_no_more(cloud, known) if notice.at is None else known
    if known is not None and known.status is UploadStatus.RECEIVED and cloud.lanes.are_full(places_of(known)):
        raise BusyError(f"upload {notice.name} is for a host at which many wait already; it is looked at later")
    version = (notice.name, notice.etag)
    if notice.etag and version in cloud.under_way:
        log.info("upload %s: this version of it is being looked at already", notice.name)
        return known
    cloud.under_way.add(version)
    try:
        return await _looked_at(cloud, notice, source, held)
    finally:
        cloud.under_way.discard(version)


async def _looked_at(
    cloud: Cloud, notice: Notice, source: CertificateSource, held: Held[UploadRecord] | None
) -> UploadRecord | None:
    with span(Stage.LOOK, of=notice.traceparent, upload=notice.name) as looking:
        notice = replace(notice, traceparent=looking.traceparent or new_traceparent())
        record = await _in_turns(cloud, notice, source, held)
        if record is not None:
            codes = " ".join(violation.code.value for violation in record.violations)
            note({names.STATUS: record.status.value, names.VERDICT: codes})
        return record


async def _in_turns(
    cloud: Cloud, notice: Notice, source: CertificateSource, held: Held[UploadRecord] | None
) -> UploadRecord | None:
    above = 0
    for _ in range(_TURNS):
        turn = await take_turn(cloud, notice.name, traceparent=notice.traceparent, above=above, held=held)
        mine = turn.record
        try:
            return await _look(cloud, turn, notice, source)
        except StaleRevisionError as error:
            held = await cloud.state.uploads.read(notice.name)
            if held.value is None or held.value.revision != mine.revision or error.revision <= mine.revision:
                log.info("upload %s: a later look at it is under way and finishes the work", notice.name)
                return held.value
            above = error.revision
        except (Exception, asyncio.CancelledError) as error:
            await _give_up(cloud, turn, notice, error)
            raise
    return held.value if held is not None else None


async def _give_up(cloud: Cloud, turn: Turn, notice: Notice, error: BaseException) -> None:
    """Leave the version to the next look, which must not take this one for still at it; say why it is not done."""
    mine, why = turn.record, _why_not_done(turn, error)

    def change(record: UploadRecord | None) -> UploadRecord | None:
        if record is None or record.revision != mine.revision:
            return None
        left = replace(record, judging="", judging_until=None)
        if record.status is UploadStatus.RECEIVED:
            left = replace(left, reason=f"not done with yet, it is looked at again soon: {why}")
        elif notice.again:
            return left  # what was decided stands, and this look at it need not come again
        return replace(left, held_up=why, held_up_since=record.held_up_since or turn.began)

    with contextlib.suppress(CertcastError, TimeoutError):
        async with asyncio.timeout(GIVE_UP_S):
            await cloud.state.uploads.update(mine.name, change)


def _why_not_done(turn: Turn, error: BaseException) -> str:
    if isinstance(error, CertcastError):
        return str(error)
    if isinstance(error, asyncio.CancelledError):
        return f"this took longer than one look may, and waited for {turn.asks}"
    return f"it ended in an unexpected {type(error).__name__}, which the Function's log has"


async def handle_notice(cloud: Cloud, notice: Notice) -> UploadRecord | None:
    """Handle one event so that it need not come again: what cannot be done now is put on `certificate-recheck`.

    Event Grid holds back an endpoint's new events when old ones keep failing, so a failure is answered only when
    neither the work nor the reminder could be done (learn.microsoft.com, "Event Grid message delivery and retry").

    Raises:
        CertcastError: Neither could be done.
    """
    if is_canary(notice.name):
        await remove_canary(cloud, notice.name)
        return None
    with span(Stage.NOTICE, of=notice.traceparent or None, kind=Kind.CONSUMER, upload=notice.name) as noticing:
        return await _handled(cloud, replace(notice, traceparent=noticing.traceparent))


async def _handled(cloud: Cloud, notice: Notice) -> UploadRecord | None:
    try:
        async with asyncio.timeout(EVENT_S):
            return await look_at(cloud, notice)
    except Exception as error:
        if isinstance(error, TimeoutError):
            log.warning("upload %s: put off, it takes longer than the %g s of an event", notice.name, EVENT_S)
        elif isinstance(error, CertcastError):
            log.warning("upload %s: put off, it could not be handled now: %s", notice.name, error)
        else:
            log.exception("upload %s: put off, handling it failed unexpectedly", notice.name)
        await send_recheck(cloud, notice.name, attempt=0, traceparent=notice.traceparent)
        return None


async def recheck(cloud: Cloud, message: RecheckUpload) -> UploadRecord | None:
    """Look again at an upload that waited or could not be handled, send its events, or install it once more."""
    if not is_upload_name(message.name, cloud.sources):
        log.error("queue %s: a message is dropped: %s is no name of an upload", RECHECK_QUEUE, shown(message.name))
        return None
    with span(Stage.RECHECK, of=message.traceparent or None, kind=Kind.CONSUMER, upload=message.name):
        return await _rechecked(cloud, message)


async def _rechecked(cloud: Cloud, message: RecheckUpload) -> UploadRecord | None:
    if message.events:
        await publish(cloud, message.name, attempt=message.attempt, outlet=message.outlet)
        return None
    if message.redeploy:
        await redeploy_as_asked(cloud, message)
        return None
    before = await cloud.state.uploads.get(message.name)
    try:
        async with asyncio.timeout(LOOK_S):
            record = await look_at(cloud, Notice(name=message.name, traceparent=message.traceparent))
    except (CertcastError, TimeoutError) as error:
        if isinstance(error, CertcastError) and not error.retriable:
            raise
        level, why = INFO if isinstance(error, BusyError) else WARNING, str(error) or f"not done in {LOOK_S:g} s"
        log.log(level, "upload %s: put off again: %s", message.name, why)
        await send_recheck(cloud, message.name, attempt=message.attempt + 1, traceparent=message.traceparent)
        return before
    still_waiting = record is not None and record.status is UploadStatus.WAITING_FOR_METADATA
    if still_waiting and before is not None and before.etag == (record.etag if record else ""):
        await send_recheck(cloud, message.name, attempt=message.attempt + 1, traceparent=message.traceparent)
    elif record is not None and record.status is UploadStatus.SCHEDULED and before and before.etag == record.etag:
        await send_when_due(cloud, record)
    return record


async def _is_done(known: UploadRecord, notice: Notice, source: CertificateSource, now: datetime) -> bool:
    """Whether there is nothing to do about an upload as it is now, or another look is at it."""
    if known.judging_until is None or known.judging_until <= now:
        known = replace(known, judging="")
    if notice.again and not known.judging:
        return False
    if not known.judging and (not known.etag or falls_due(known, now)):
        return False
    etag = notice.etag
    if not etag or notice.deletion:
        version = await source.version(notice.name)
        etag = DELETED if version is None else version.etag
    elif known.etag and etag == known.source_etag:
        return not falls_due(known, now)
    return etag == known.judging or (etag == known.etag and not falls_due(known, now))


def waits_in_vain(known: UploadRecord, now: datetime) -> bool:
    """Whether an upload that is done with still says that another look at it is waited for.

    A look that an old event led to may have failed, or one that failed at the very end.
    """
    is_judged = known.judging_until is not None and known.judging_until > now
    return known.held_up != "" and known.etag != "" and not is_judged


async def _held_up_no_more(cloud: Cloud, known: UploadRecord) -> UploadRecord | None:
    if not waits_in_vain(known, cloud.now()):
        return known

    def change(record: UploadRecord | None) -> UploadRecord | None:
        if record is None or record.revision != known.revision:
            return None  # another look has begun
        return replace(record, held_up="", held_up_since=None)

    return (await cloud.state.uploads.update(known.name, change)).held.value


def falls_due(known: UploadRecord, now: datetime) -> bool:
    """Whether a scheduled certificate has become valid."""
    return known.status is UploadStatus.SCHEDULED and known.not_before is not None and known.not_before <= now


async def _look(cloud: Cloud, turn: Turn, notice: Notice, source: CertificateSource) -> UploadRecord:
    mine, noticed_at = turn.record, cloud.now()
    turn.now_asks("the container certificates" if source is cloud.uploads else f"its source, {scheme_of(notice.name)}")
    limit = cloud.policy.max_pfx_bytes + _JUST_ENOUGH_TO_SEE_IT_IS_TOO_LARGE
    try:
        with span(Stage.READ):
            found = await source.read(notice.name, max_bytes=limit)
    except HeldError as error:
        return await turn_down_unread(cloud, turn, notice, source, error)
    if found is None:
        return await withdraw(cloud, turn)
    if found.version.etag == mine.etag and not falls_due(mine, noticed_at) and not notice.again:
        return mine
    return await _place(cloud, turn, notice, found, noticed_at)


async def _place(cloud: Cloud, turn: Turn, notice: Notice, found: BlobContent, noticed_at: datetime) -> UploadRecord:
    """Judge a version, and do what follows from the verdict."""
    mine = turn.record

    async def judging() -> None:
        until = cloud.now() + JUDGING
        await turn.write(
            lambda record: replace(
                record,
                judging=found.version.etag,
                judging_until=until,
                held_up="it takes long to judge, and waits for its turn among those that do",
                held_up_since=record.held_up_since or turn.began,
            )
        )

    metadata, judgement = await judge_by_rules(cloud, found, on_slow=judging, asks=turn.now_asks)
    about = verdict_on(mine, found, notice, metadata, judgement, noticed_at=noticed_at, judged_at=cloud.now())

    def verdict(record: UploadRecord) -> UploadRecord:
        return replace(about(record), judging="", judging_until=None)

    bundle = judgement.bundle
    if bundle is None or not judgement.accepted:
        return await turn_down(
            cloud, turn, mine, verdict, found.version, waits=waits_for_password(found, metadata, judgement)
        )
    sealed_as = bundle.id_for(found.content)

    async def seal() -> None:
        turn.now_asks("the container bundles")
        with span(Stage.SEAL):
            await cloud.bundles.seal(sealed_as, bundle.pem.encode())
        turn.now_asks("the table bindings")

    def judged(record: UploadRecord) -> UploadRecord:
        return replace(verdict(record), bundle_id=sealed_as)

    if judgement.scheduled:
        await seal()
        return await schedule(cloud, turn, judged, found.version)
    try:
        return await accept(cloud, turn, judged, found.version, seal=seal)
    except TooManyClaimsError as error:
        crowded = _crowded(error.key)
        return await turn_down(
            cloud, turn, mine, lambda record: _also(verdict(record), crowded), found.version, waits=False
        )


def _crowded(key: BindingKey) -> Violation:
    detail = (
        f"{MAX_CLAIMS} uploads claimed {key.phrased} when this one was looked at, and more are not taken. It is "
        "looked at again when there is room: delete those that are not needed any more, or upload under the name of "
        "one of them."
    )
    return Violation(code=VerdictCode.TOO_MANY_CLAIMS, detail=detail)


def _also(record: UploadRecord, violation: Violation) -> UploadRecord:
    return replace(record, violations=(*record.violations, violation))
