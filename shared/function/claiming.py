"""Placing an accepted upload, or withdrawing a deleted one: claims on rows, fan-out, scrubbing, in that order.

Each step can be repeated, and the order makes a crash between any two harmless: the row's `etag` is set last, so an
upload whose work was cut short is not taken for done.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.binding import BindingKey, Claim
from shared.bounded import ROWS_AT_ONCE, gather_bounded, try_all
from shared.errors import BusyError, CertcastError, ConflictError, MissingError
from shared.function.announcing import announced
from shared.function.election import TooManyClaimsError, elect, with_claim, without_claim
from shared.function.fanout import ids_of_role, notify, recipients
from shared.function.outbox import new_event_id, send_due
from shared.function.recheck import send_recheck
from shared.function.settling import settle
from shared.function.standing import older_than_live, started_over
from shared.function.turn import write
from shared.phrasing import listed, logger
from shared.state.records import DELETED, UploadRecord, UploadStatus
from shared.upload import BLOB_SCHEME, UploadMetadata, password_reference, scheme_of, scrubbed
from shared.verdict import VerdictCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterable

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud
    from shared.function.lanes import Turn
    from shared.function.turn import Change
    from shared.ports import BlobContent
    from shared.state.records import InstanceRecord
    from shared.state.rows import Update

log = logger(__name__)

FEW_HOSTS = 10
"""Uploads for more hosts enter their claims one after the other: hundreds of rows each are written for them."""
_MANY_HOSTS = "(many hosts)"


async def accept(
    cloud: Cloud, before: UploadRecord, judged: Change, found: BlobContent, metadata: UploadMetadata
) -> UploadRecord:
    """Enter the upload's claims, tell the instances, scrub the password.

    Args:
        cloud: What to act on.
        before: The row as it was when this look began.
        judged: Puts what was judged now into the row.
        found: The version that was judged.
        metadata: Its metadata.

    Raises:
        BusyError: Too many uploads for one of its hosts wait already.
        StaleRevisionError: A later look has begun and finishes the work.
    """
    fresh = judged(before)
    places = places_of(fresh)
    if cloud.lanes.are_full(places):
        if before.status is UploadStatus.RECEIVED:
            # By its hosts, the next look sees at once whether it is time.
            await write(cloud, fresh, lambda record: replace(record, hosts=fresh.hosts))
        raise BusyError(f"many uploads for {listed(list(fresh.hosts))} wait already; it is looked at later")
    async with cloud.lanes.turn(places, claim_by(fresh).rank) as turn:
        record = await _enter_claims(cloud, before, fresh, judged, turn=turn)
    return await complete(cloud, record, found, metadata)


def places_of(record: UploadRecord) -> tuple[str, ...]:
    """Where an upload has to wait for its turn: at each of its hosts, and among those with many."""
    return record.hosts if len(record.hosts) <= FEW_HOSTS else (*record.hosts, _MANY_HOSTS)


async def _enter_claims(
    cloud: Cloud, before: UploadRecord, fresh: UploadRecord, judged: Change, *, turn: Turn
) -> UploadRecord:
    wanted = {BindingKey(role=fresh.role, host=host, port=fresh.port) for host in fresh.hosts}
    released = set(fresh.claims) - wanted
    if wanted - set(fresh.claims):
        # Entered before the rows are touched: after a crash it is known what to let go of.
        claimed = tuple(sorted(wanted | released))
        await write(cloud, fresh, lambda record: replace(record, claims=claimed))
    new = wanted - set(before.claims)
    try:
        changes = await _change_rows(cloud, fresh, new, ())
    except TooManyClaimsError:
        await _let_go(cloud, fresh, new)
        raise
    # What it had is given up only once it has what it asks for.
    changes += await _change_rows(cloud, fresh, wanted - new, released)
    turn.moved = any(map(moved, changes))
    instances = await recipients(cloud, wanted | released)
    told = None if _goes_on(before, fresh, changes) else ids_of_role(instances, fresh.role)
    notice = older_than_live(fresh.name, [change.after for change in changes if change.after is not None])
    now, event_id = cloud.now(), new_event_id()

    def entered(record: UploadRecord) -> UploadRecord:
        record = replace(judged(record), claims=tuple(sorted(wanted)), reason="", etag="")
        if notice is not None:
            record = replace(record, violations=(*record.violations, notice))
        if told is None:
            return replace(record, counted_from=before.counted_from)
        record = started_over(record, UploadStatus.ACCEPTED, told, now=now, counted_from=fresh.counted_from)
        return record if cloud.topic is None else announced(record, at=now, event_id=event_id)

    record = await write(cloud, fresh, entered)
    news = {change.after.key for change in changes if change.after is not None and _is_news(before, change)}
    await notify(cloud, instances, news, traceparent=fresh.traceparent)
    if record.due:
        await send_due(cloud, record.name)
    names = listed([key.host_port for key in sorted(wanted)])
    log.info("upload %s: accepted for %s, told %d instance(s)", fresh.name, names, len(instances))
    await _settle_all(cloud, before, changes, instances)
    return record


async def _let_go(cloud: Cloud, fresh: UploadRecord, keys: Collection[BindingKey]) -> None:
    """Take back what was entered for an upload that cannot have all of its hosts."""
    changes = await _change_rows(cloud, fresh, (), keys)
    instances = await recipients(cloud, keys)
    news = {change.after.key for change in changes if change.after is not None and moved(change)}
    await notify(cloud, instances, news, traceparent=fresh.traceparent)
    await _settle_all(cloud, fresh, changes, instances)


def _is_news(before: UploadRecord, change: Update[DesiredBinding]) -> bool:
    """Whether instances are to be told of a row: it moved, is won, or an earlier look may not have told of it."""
    wins = change.after is not None and change.after.source == before.name
    return wins or moved(change) or _cut_short(before, change)


def _cut_short(before: UploadRecord, change: Update[DesiredBinding]) -> bool:
    """Whether an earlier look at this upload changed the row and may have ended before all followed from that.

    The upload's row is written after the rows it claims, so the claim is ahead of it then.
    """
    known = None if change.before is None else change.before.claim_of(before.name)
    if known is None or change.before is None:
        return False
    let_go = known.withdrawn_at is not None and change.before.key in before.claims
    return let_go or not before.etag or known.source_etag != before.source_etag


async def release(cloud: Cloud, mine: UploadRecord, keys: Collection[BindingKey]) -> None:
    """Take away claims that an upload may not have any more; its own status is another's to write."""
    changes = await _change_rows(cloud, mine, (), keys)
    instances = await recipients(cloud, keys)
    moves = [change.after for change in changes if change.after is not None and moved(change)]
    await notify(cloud, instances, {row.key for row in moves}, traceparent=mine.traceparent)
    log.warning("upload %s: its claims on %d host(s) are withdrawn, the policy refuses them", mine.name, len(keys))
    winners = sorted({row.source for row in moves} - {"", mine.name})
    for name in winners:
        await taken_over(cloud, name, instances)
    await try_all(settle(cloud, name) for name in winners)


async def withdraw(cloud: Cloud, mine: UploadRecord) -> UploadRecord:
    """Release everything a deleted upload claimed."""
    now = cloud.now()
    changes = await _change_rows(cloud, mine, (), mine.claims)
    instances = await recipients(cloud, mine.claims) if mine.claims else []
    told = tuple(instance.id for instance in instances)

    def removed(record: UploadRecord) -> UploadRecord:
        record = replace(record, etag="", reason="", violations=())
        return started_over(record, UploadStatus.REMOVED, told, now=now, counted_from=now)

    await write(cloud, mine, removed)
    if mine.claims:
        await notify(cloud, instances, mine.claims, traceparent=mine.traceparent)
    log.info("upload %s: removed, told %d instance(s)", mine.name, len(instances))
    await _settle_all(cloud, mine, changes, instances)
    return await write(cloud, mine, lambda record: replace(record, etag=DELETED))


async def complete(cloud: Cloud, record: UploadRecord, found: BlobContent, metadata: UploadMetadata) -> UploadRecord:
    """Take the password out of the upload's metadata, then mark the row as done, under the ETag this leaves."""
    etag = found.version.etag
    has_password = metadata.password is not None and password_reference(metadata.password) is None
    if cloud.scrub_password and has_password and scheme_of(record.name) == BLOB_SCHEME:
        clean = scrubbed(found.version.metadata, record.bundle_id)
        try:
            etag = await cloud.uploads.set_metadata(record.name, clean, etag=etag)
        except (ConflictError, MissingError):
            # Edited metadata raises no event, so a look is asked for.
            log.info("upload %s: changed while it was installed; the newer version is looked at next", record.name)
            etag = ""
            await send_recheck(cloud, record.name, attempt=0, traceparent=record.traceparent)
        except CertcastError as error:
            if error.retriable:
                raise
            log.error("upload %s: its password could not be removed from the metadata: %s", record.name, error)
    return await write(cloud, record, lambda current: replace(current, etag=etag))


def moved(change: Update[DesiredBinding]) -> bool:
    """Whether instances have something to do about a row that was changed."""
    before, after = change.before, change.after
    return after is not None and (before is None or before.generation != after.generation)


def _goes_on(before: UploadRecord, fresh: UploadRecord, changes: Iterable[Update[DesiredBinding]]) -> bool:
    """Whether what was served or being installed goes on unchanged, so that the status need not start over."""
    # Not by the rows alone: a look that was cut short may have moved them.
    unchanged = _serves(before) == _serves(fresh) and not any(moved(change) for change in changes)
    return unchanged and before.status in {UploadStatus.ACCEPTED, UploadStatus.LIVE}


def _serves(record: UploadRecord) -> tuple[object, ...]:
    return (record.bundle_id, record.hosts, record.port, record.role, record.site)


def claim_by(fresh: UploadRecord) -> Claim:
    """What an accepted upload claims its hosts with."""
    epoch = fresh.uploaded_at or fresh.judged_at
    if epoch is None or fresh.not_before is None or fresh.not_after is None:
        raise CertcastError(f"upload {fresh.name} was accepted without a certificate's dates")
    return Claim(
        source=fresh.name,
        revision=fresh.revision,
        source_etag=fresh.source_etag,
        bundle_id=fresh.bundle_id,
        fingerprint_sha256=fresh.fingerprint_sha256,
        thumbprint_sha1=fresh.thumbprint_sha1,
        not_before=fresh.not_before,
        not_after=fresh.not_after,
        uploaded_at=epoch,
        site=fresh.site,
    )


async def _change_rows(
    cloud: Cloud, mine: UploadRecord, wanted: Iterable[BindingKey], released: Iterable[BindingKey]
) -> list[Update[DesiredBinding]]:
    """Enter the upload's claim into the rows it wants, and take it out of those it lets go of."""
    now, trace = cloud.now(), mine.traceparent
    rows = cloud.state.bindings

    def enter(key: BindingKey) -> Awaitable[Update[DesiredBinding]]:
        claim = claim_by(mine)
        return rows.update(key, lambda row: with_claim(row, key, claim, now=now, traceparent=trace))

    def leave(key: BindingKey) -> Awaitable[Update[DesiredBinding]]:
        return rows.update(
            key, lambda row: without_claim(row, key, mine.name, mine.revision, now=now, traceparent=trace)
        )

    return await gather_bounded([*map(enter, wanted), *map(leave, released)], limit=ROWS_AT_ONCE)


async def _settle_all(
    cloud: Cloud,
    before: UploadRecord,
    changes: Collection[Update[DesiredBinding]],
    instances: Collection[InstanceRecord],
) -> None:
    """Settle this upload, and those that lost or won a host and port by what was done to it, and no others.

    Of a look that was cut short, only the likeliest are known; the sweep finds others.
    """
    winners, losers = set[str](), set[str]()
    for change in changes:
        if change.after is None:
            continue
        if moved(change):
            losers |= {change.before.source} if change.before else set()
            winners.add(change.after.source)
        elif _cut_short(before, change):
            runner_up = elect(claim for claim in change.after.claims if claim.source != change.after.source)
            losers |= {runner_up.source} if runner_up else set()
            winners.add(change.after.source)
    winners -= {"", before.name}
    losers -= {"", before.name}
    for other in sorted(winners):
        await taken_over(cloud, other, instances)
    await try_all(settle(cloud, name) for name in sorted({before.name} | winners | losers))


async def taken_over(cloud: Cloud, name: str, instances: Collection[InstanceRecord]) -> None:
    """A superseded upload was elected: its status starts over, counted from now; any other's goes on."""
    now = cloud.now()

    def change(record: UploadRecord | None) -> UploadRecord | None:
        if record is None or record.status is not UploadStatus.SUPERSEDED:
            return record
        told = ids_of_role(instances, record.role)
        record = started_over(record, UploadStatus.ACCEPTED, told, now=now, counted_from=now)
        return replace(
            record, violations=tuple(v for v in record.violations if v.code is not VerdictCode.OLDER_THAN_LIVE)
        )

    await cloud.state.uploads.update(name, change)
