"""Settling an upload: its status derived from what the instances reported, and told where it changed.

The upload's row is read first, then what its status follows from, and the row is written only if others did not write
it meanwhile: two that settle it at once cannot leave an older status over a newer one. In one process nobody settles an
upload while another part of it writes its row.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from shared.bounded import ROWS_AT_ONCE, gather_bounded
from shared.errors import CertcastError, ConflictError
from shared.function.announcing import announced, is_announced, tell_all
from shared.function.fanout import read_fleet
from shared.function.history import with_drift
from shared.function.outbox import new_event_id
from shared.function.standing import Standing, settled, standing_of
from shared.phrasing import logger
from shared.state.missing import Roll
from shared.state.reasons import KEPT, as_told, reason_for_kept
from shared.state.records import SETTLEABLE, UploadRecord, UploadStatus
from shared.state.rows import Held
from shared.state.tags import untagged
from shared.telemetry import names
from shared.telemetry.names import Stage
from shared.telemetry.spans import note, span

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud
    from shared.function.fleet import Fleet
    from shared.state.records import InstallationRecord

log = logger(__name__)

SETTLE_ROUNDS = 20
REMOVED_LATELY = timedelta(hours=1)
"""An upload that withdrew its claim longer ago and is served somewhere still is left to the sweep."""


async def settle(cloud: Cloud, name: str, *, fleet: Fleet | None = None, alone: bool = False) -> None:
    """Derive the upload's status from the reports there are, and tell it where it changed.

    What was reported of its bindings also says how many still serve the removed uploads that had them before.

    Args:
        cloud: Whose upload.
        name: Its name.
        fleet: The instances, where they were read just now.
        alone: Whether the caller holds another upload's row, so that it must not wait for this one's.
    """
    cloud.later.call_off(name)
    if not await _settle_now(cloud, name, fleet, alone=alone) and cloud.later.after_s:
        # Its own look has claimed its hosts and has yet to enter its status.
        await settle_soon(cloud, {name})


async def settle_soon(cloud: Cloud, names: Collection[str]) -> None:
    """Settle these uploads unless something settles them within a second.

    A process that ends before leaves that to the sweep, which finds what could be settled.
    """
    for name in names:
        if cloud.later.after_s:
            cloud.later.put_off(name, partial(_settle_later, cloud, name))
        else:
            await _settle_now(cloud, name, None)


async def _settle_later(cloud: Cloud, name: str) -> None:
    try:
        await _settle_now(cloud, name, None)
    except CertcastError as error:
        log.warning("upload %s: could not be settled, the sweep tries again: %s", name, error)
    except Exception:
        log.exception("upload %s: could not be settled, the sweep tries again", name)


async def _settle_now(cloud: Cloud, name: str, fleet: Fleet | None, *, alone: bool = False) -> bool:
    """Settle an upload and those removed before it; whether it has a status to derive.

    Of several that wait for each other, the first that begins does it for all: it reads what they knew of.
    """
    asked = cloud.settlings.ask()
    async with contextlib.nullcontext() if alone else cloud.in_hand.hold(name):
        if cloud.settlings.has_begun(name, since=asked):
            return True
        begun = cloud.settlings.ask()
        rows, had_status = await _settle(cloud, name, fleet)
        cloud.settlings.done(name, begun)
    await settle_removed(cloud, withdrawn_from(rows, cloud.now()) - {name}, fleet=fleet)
    return had_status


async def settle_removed(cloud: Cloud, names: Collection[str], *, fleet: Fleet | None = None) -> None:
    """Settle those of these uploads that were removed and are served somewhere still, or may be."""
    for name in sorted(names):
        record = (await cloud.state.uploads.read(name)).value
        if record is not None and record.status is UploadStatus.REMOVED and (record.live or record.apart):
            await _settle(cloud, name, fleet)


def withdrawn_from(rows: Sequence[DesiredBinding], now: datetime) -> set[str]:
    """Name the uploads that withdrew their claims to these hosts and ports a short while ago."""
    return {
        claim.source
        for row in rows
        for claim in row.claims
        if claim.withdrawn_at is not None and now - claim.withdrawn_at < REMOVED_LATELY
    }


async def _settle(cloud: Cloud, name: str, fleet: Fleet | None) -> tuple[list[DesiredBinding], bool]:
    """Settle one upload; the rows it claims, and whether it has a status to derive."""
    held = await cloud.state.uploads.read(name)
    with span(Stage.SETTLE, of=held.value.traceparent if held.value else None, upload=name):
        return await _settled_from(cloud, held, name, fleet)


async def _settled_from(
    cloud: Cloud, held: Held[UploadRecord], name: str, fleet: Fleet | None
) -> tuple[list[DesiredBinding], bool]:
    for _ in range(SETTLE_ROUNDS):
        record = held.value
        if record is None:
            return [], False
        rows = await _rows(cloud, record)
        has_status = record.status in SETTLEABLE
        if has_status:
            standing, fleet = await _standing(cloud, record, rows, fleet)
            fresh = with_standing(cloud, record, standing, rows, fleet)
        else:
            # A rejected re-upload has no status to derive, but what was accepted before under its name may be served.
            fresh = with_reason(record, rows, cloud.now())
        try:
            if fresh != record:
                etag = await cloud.state.uploads.write(name, fresh, held)
                held = Held(value=fresh, etag=etag)
        except ConflictError:
            fleet = None  # others changed the row: everything is read again
            held = await cloud.state.uploads.read(name)
            continue
        _note(record, fresh)
        if has_status or fresh != record:
            await tell_all(cloud, held)
        return rows, has_status
    raise ConflictError(f"upload {name} is written by too many at once; try again")


def _note(before: UploadRecord, after: UploadRecord) -> None:
    """Have the span say which status came of it, and how long the upload took where it has just become live."""
    note({names.STATUS: after.status.value})
    if after.seconds_to_live is not None and before.live_at != after.live_at:
        note({names.SECONDS_TO_LIVE: after.seconds_to_live})


def with_standing(
    cloud: Cloud, record: UploadRecord, standing: Standing, rows: Sequence[DesiredBinding], fleet: Fleet
) -> UploadRecord:
    """Enter a standing into an upload's row, with the event and the entry that it calls for: they name who lacks it."""
    now = cloud.now()
    fresh = with_drift(record, settled(record, standing, now), instance=standing.drifted_on)
    if is_announced(fresh):
        return fresh
    about = Roll(fleet.known, now).as_seen(as_told(fresh, {row.key: row for row in rows}, now))
    return announced(fresh, about=about, at=now, event_id=new_event_id(), outgoing=cloud.tells_others)


def with_reason(record: UploadRecord, rows: Sequence[DesiredBinding], now: datetime) -> UploadRecord:
    """Enter what is in place of an upload whose content was turned down, or waits, as the rows are now."""
    if record.status not in KEPT or not record.claims:
        return record
    return untagged(record, replace(record, reason=reason_for_kept(record, rows, now)))


async def _rows(cloud: Cloud, record: UploadRecord) -> list[DesiredBinding]:
    found = await gather_bounded((cloud.state.bindings.get(key) for key in record.claims), limit=ROWS_AT_ONCE)
    return [row for row in found if row]


async def _standing(
    cloud: Cloud, record: UploadRecord, rows: Sequence[DesiredBinding], fleet: Fleet | None
) -> tuple[Standing, Fleet]:
    """Derive an upload's standing, and the instances it was derived from: those that are given, or as they are now."""
    mine = [row for row in rows if record.status is UploadStatus.REMOVED or row.source == record.name]
    found = await gather_bounded((_reports(cloud, row) for row in mine), limit=ROWS_AT_ONCE)
    reports = dict(zip((row.key for row in mine), found, strict=True))
    if fleet is None or not fleet.covers(record.expected, (name for each in found for name in each), cloud.now()):
        fleet = await read_fleet(cloud)
    return standing_of(record, rows, reports, fleet.known, cloud.now()), fleet


async def _reports(cloud: Cloud, row: DesiredBinding) -> dict[str, InstallationRecord]:
    return {report.instance: report for report in await cloud.state.reports_on(row.host, row.port)}
