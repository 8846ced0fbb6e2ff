"""Placing an accepted upload, or withdrawing a deleted one: claims on rows, fan-out, scrubbing, in that order.

Each step can be repeated, and the order makes a crash between any two harmless: the row's `etag` is set last, so an
upload whose work was cut short is not taken for done.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from shared.binding import Claim, DesiredBinding
from shared.bounded import ROWS_AT_ONCE, gather_bounded, together
from shared.errors import BusyError, CertcastError
from shared.function.aftermath import moved, parties, settle_others, settle_winners, was_cut_short
from shared.function.announcing import announced, is_announced, told_before
from shared.function.election import TooManyClaimsError, with_claim, without_claim
from shared.function.fanout import ids_of_role, notify, read_fleet, recipients
from shared.function.finishing import complete
from shared.function.history import entry_on_acceptance
from shared.function.keeping import strike_out
from shared.function.outbox import new_event_id
from shared.function.settling import settle, with_standing
from shared.function.standing import settled, standing_of, started_over
from shared.phrasing import listed, logger
from shared.state.records import DELETED, UploadRecord, UploadStatus
from shared.telemetry.names import Stage
from shared.telemetry.spans import spanned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

    from shared.binding import BindingKey
    from shared.function.cloud import Cloud
    from shared.function.fleet import Fleet
    from shared.function.lanes import Turn as LaneTurn
    from shared.function.turn import Change, Turn
    from shared.ports import BlobVersion
    from shared.state.records import InstallationRecord, InstanceRecord
    from shared.state.rows import Held, Update

log = logger(__name__)

FEW_HOSTS = 10
"""Uploads for more hosts enter their claims one after the other: hundreds of rows each are written for them."""
_MANY_HOSTS = "(many hosts)"
_NOTHING_HELD: Mapping[BindingKey, Held[DesiredBinding]] = MappingProxyType({})


async def accept(
    cloud: Cloud,
    turn: Turn,
    judged: Change,
    version: BlobVersion,
    *,
    seal: Callable[[], Awaitable[None]],
) -> UploadRecord:
    """Seal the bundle, enter the upload's claims, tell the instances, scrub the password.

    Args:
        cloud: What to act on.
        turn: The look's turn at the upload.
        judged: Puts what was judged now into the row.
        version: The one that was judged.
        seal: Seals its bundle, which is to be there before a row names it.

    Raises:
        BusyError: Too many uploads for one of its hosts wait already.
        StaleRevisionError: A later look has begun and finishes the work.
    """
    before = turn.record
    fresh = judged(before)
    places = places_of(fresh)
    if cloud.lanes.are_full(places):
        if before.status is UploadStatus.RECEIVED:
            # By its hosts, the next look sees at once whether it is time.
            await turn.write(lambda record: replace(record, hosts=fresh.hosts, default=fresh.default))
        raise BusyError(f"many uploads for {listed(list(fresh.hosts))} wait already; it is looked at later")
    entering = _Entering(cloud, turn, before, fresh)
    async with AsyncExitStack() as until_complete:
        async with cloud.lanes.turn(places, claim_by(fresh).rank) as lane:
            await together(seal(), entering.prepare())
            await entering.enter(lane)
            # From here on reports may come; who settles the upload waits until this look is done with its row.
            await until_complete.enter_async_context(cloud.in_hand.hold(fresh.name))
            await strike_out(cloud, before)  # before its row says that it keeps nothing: then nothing strikes it out
            await entering.follow(judged)
        return await complete(cloud, turn, version)


def places_of(record: UploadRecord) -> tuple[str, ...]:
    """Where an upload has to wait for its turn: at each of its hosts, the default too, and among those with many."""
    hosts = tuple(key.host for key in record.asked)
    return hosts if len(record.hosts) <= FEW_HOSTS else (*hosts, _MANY_HOSTS)


class _Entering:
    """An accepted upload's claims on their way into the rows, and what follows from that.

    Args:
        cloud: What to act on.
        turn: The look's turn at the upload.
        before: The upload's row as it was when the look began.
        fresh: As it is judged now.
    """

    def __init__(self, cloud: Cloud, turn: Turn, before: UploadRecord, fresh: UploadRecord) -> None:
        self._cloud = cloud
        self._turn = turn
        self._before = before
        self._fresh = fresh
        self._wanted = set(fresh.asked)
        self._new = self._wanted - set(before.claims)
        self._released = set(fresh.claims) - self._wanted
        self._held: Mapping[BindingKey, Held[DesiredBinding]] = {}
        self._changes: list[Update[DesiredBinding]] = []

    @property
    def _may_be_proved(self) -> bool:
        """Whether instances may have proved already what the upload is to be served for: not all of it moved."""
        return any(not moved(change) for change in self._changes if change.after in self._won)

    @property
    def _won(self) -> list[DesiredBinding]:
        rows = [change.after for change in self._changes if change.after is not None]
        return [row for row in rows if row.key in self._wanted and row.source == self._fresh.name]

    async def prepare(self) -> None:
        """Write down what is claimed, so that a crash after this leaves word of what to let go of; read the rows."""
        claimed = tuple(sorted(self._wanted | self._released))
        self._held, _ = await together(
            _read_rows(self._cloud, self._new), self._turn.write(lambda record: replace(record, claims=claimed))
        )

    @spanned(Stage.CLAIM)
    async def enter(self, lane: LaneTurn) -> None:
        """Enter the claims, and take out those that the upload has no use for any more."""
        cloud, fresh = self._cloud, self._fresh
        try:
            changes = await _change_rows(cloud, fresh, self._new, (), self._held)
        except TooManyClaimsError:
            await _let_go(cloud, fresh, self._new)
            raise
        # What it had is given up only once it has what it asks for.
        self._changes = changes + await _change_rows(cloud, fresh, self._wanted - self._new, self._released)
        lane.moved = any(map(moved, self._changes))

    async def follow(self, judged: Change) -> None:
        """Enter the upload's status, tell the instances, and settle the uploads that lost or won by it."""
        cloud, before, fresh, changes = self._cloud, self._before, self._fresh, self._changes
        fleet = await read_fleet(cloud)
        instances = recipients(fleet, set(fresh.claims) | self._wanted)
        await self._turn.write(self._status(judged, fleet, instances))
        news = {change.after.key for change in changes if change.after is not None and _is_news(before, change)}
        untold = await notify(cloud, instances, news, traceparent=fresh.traceparent)
        if untold:
            await self._turn.write(lambda record: replace(record, untold=untold))
        names = listed([key.phrased for key in fresh.asked])
        log.info("upload %s: accepted for %s, told %d instance(s)", fresh.name, names, len(instances))
        await settle_others(cloud, before, changes, fleet, untold=untold)
        if self._may_be_proved:
            await settle(cloud, fresh.name, fleet=fleet, alone=True)
            await self._turn.read()

    def _status(self, judged: Change, fleet: Fleet, instances: Sequence[InstanceRecord]) -> Change:
        cloud, before, fresh, changes = self._cloud, self._before, self._fresh, self._changes
        rows = [change.after for change in changes if change.after is not None and change.after.key in self._wanted]
        goes_on = _goes_on(before, fresh, changes)
        told = ids_of_role(instances, fresh.role)
        now, event_id = cloud.now(), new_event_id()

        def entered(record: UploadRecord) -> UploadRecord:
            record = replace(judged(record), claims=tuple(sorted(self._wanted)), reason="", etag="", untold=())
            if goes_on:
                return told_before(before, replace(record, counted_from=before.counted_from))
            record = started_over(record, UploadStatus.ACCEPTED, told, now=now, counted_from=fresh.counted_from)
            # What moved just now was proved by none yet; where not all of it moved, `follow` settles it.
            nothing: dict[BindingKey, dict[str, InstallationRecord]] = {row.key: {} for row in rows}
            standing = standing_of(record, rows, nothing, fleet.known, now)
            if is_announced(again := told_before(before, settled(record, standing, now))):
                return again  # by a look that was cut short, say
            record = replace(record, announced=again.announced)
            _, losers = parties(before, changes, now)
            entry = entry_on_acceptance(before, record, changes, losers, at=now, entry_id=event_id)
            record = announced(record, at=now, event_id=event_id, outgoing=cloud.tells_others, entry=entry)
            return with_standing(cloud, record, standing, rows, fleet)

        return entered


async def _read_rows(cloud: Cloud, keys: Collection[BindingKey]) -> dict[BindingKey, Held[DesiredBinding]]:
    names = sorted(keys)
    rows = await gather_bounded((cloud.state.bindings.read(key) for key in names), limit=ROWS_AT_ONCE)
    return dict(zip(names, rows, strict=True))


async def _let_go(cloud: Cloud, fresh: UploadRecord, keys: Collection[BindingKey]) -> None:
    """Take back what was entered for an upload that cannot have all of its hosts."""
    changes = await _change_rows(cloud, fresh, (), keys)
    fleet = await read_fleet(cloud)
    news = {change.after.key for change in changes if change.after is not None and moved(change)}
    untold = await notify(cloud, recipients(fleet, keys), news, traceparent=fresh.traceparent)
    await settle_others(cloud, fresh, changes, fleet, untold=untold)


def _is_news(before: UploadRecord, change: Update[DesiredBinding]) -> bool:
    """Whether instances are to be told of a row: it moved, is won, or an earlier look may not have told of it."""
    wins = change.after is not None and change.after.source == before.name
    return wins or moved(change) or was_cut_short(before, change)


async def release(cloud: Cloud, mine: UploadRecord, keys: Collection[BindingKey]) -> None:
    """Take away claims that an upload may not have any more; its own status is another's to write."""
    changes = await _change_rows(cloud, mine, (), keys)
    fleet = await read_fleet(cloud)
    moves = [change.after for change in changes if change.after is not None and moved(change)]
    untold = await notify(cloud, recipients(fleet, keys), {row.key for row in moves}, traceparent=mine.traceparent)
    log.warning("upload %s: its claims on %d host(s) are withdrawn, the policy refuses them", mine.name, len(keys))
    winners = {row.source for row in moves} - {"", mine.name}
    await settle_winners(cloud, winners, winners, fleet, untold=untold, alone=True)


@spanned(Stage.WITHDRAW)
async def withdraw(cloud: Cloud, turn: Turn) -> UploadRecord:
    """Release everything a deleted upload claimed."""
    mine, now = turn.record, cloud.now()
    changes = await _change_rows(cloud, mine, (), mine.claims)
    await strike_out(cloud, mine)
    fleet = await read_fleet(cloud)
    instances = recipients(fleet, mine.claims)
    told = tuple(instance.id for instance in instances)

    def removed(record: UploadRecord) -> UploadRecord:
        record = replace(record, etag="", reason="", violations=(), warnings=(), held_up="", held_up_since=None)
        record = replace(record, password_left="", tags_refused="")  # of a blob that is gone there is none to say
        return told_before(mine, started_over(record, UploadStatus.REMOVED, told, now=now, counted_from=now))

    async with cloud.in_hand.hold(mine.name):
        await turn.write(removed)
        untold = await notify(cloud, instances, mine.claims, traceparent=mine.traceparent)
        log.info("upload %s: removed, told %d instance(s)", mine.name, len(instances))
        await settle_others(cloud, mine, changes, fleet, untold=untold)
        await settle(cloud, mine.name, fleet=fleet, alone=True)
        await turn.read()
        return await turn.write(lambda record: replace(record, etag=DELETED, untold=untold))


def _goes_on(before: UploadRecord, fresh: UploadRecord, changes: Iterable[Update[DesiredBinding]]) -> bool:
    """Whether what was served or being installed goes on unchanged, so that the status need not start over."""
    # Not by the rows alone: a look that was cut short may have moved them.
    unchanged = _serves(before) == _serves(fresh) and not any(moved(change) for change in changes)
    return unchanged and before.status in {UploadStatus.ACCEPTED, UploadStatus.LIVE}


def _serves(record: UploadRecord) -> tuple[object, ...]:
    return (record.bundle_id, record.asked, record.site)


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
    cloud: Cloud,
    mine: UploadRecord,
    wanted: Iterable[BindingKey],
    released: Iterable[BindingKey],
    held: Mapping[BindingKey, Held[DesiredBinding]] = _NOTHING_HELD,
) -> list[Update[DesiredBinding]]:
    """Enter the upload's claim into the rows it wants, and take it out of those it lets go of."""
    now, trace = cloud.now(), mine.traceparent
    rows = cloud.state.bindings

    def enter(key: BindingKey) -> Awaitable[Update[DesiredBinding]]:
        claim = claim_by(mine)
        return rows.update(key, lambda row: with_claim(row, key, claim, now=now, traceparent=trace), held.get(key))

    def leave(key: BindingKey) -> Awaitable[Update[DesiredBinding]]:
        return rows.update(
            key, lambda row: without_claim(row, key, mine.name, mine.revision, now=now, traceparent=trace)
        )

    changes = await gather_bounded([*map(enter, wanted), *map(leave, released)], limit=ROWS_AT_ONCE)
    cloud.recent.see_changes(changes)
    return changes
