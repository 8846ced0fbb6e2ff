"""What follows from rows that changed: who lost a host and port by it and who won it, whose status follows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.errors import CertcastError
from shared.function.election import elect
from shared.function.fanout import ids_of_role, recipients
from shared.function.settling import settle
from shared.function.standing import started_over
from shared.phrasing import logger
from shared.state.records import SETTLEABLE, UploadRecord, UploadStatus

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud
    from shared.function.fleet import Fleet
    from shared.state.rows import Update

log = logger(__name__)


def moved(change: Update[DesiredBinding]) -> bool:
    """Whether instances have something to do about a row that was changed."""
    before, after = change.before, change.after
    return after is not None and (before is None or before.generation != after.generation)


def was_cut_short(before: UploadRecord, change: Update[DesiredBinding]) -> bool:
    """Whether an earlier look at this upload changed the row and may have ended before all followed from that.

    The upload's row is written after the rows it claims, so the claim is ahead of it then.
    """
    known = None if change.before is None else change.before.claim_of(before.name)
    if known is None or change.before is None:
        return False
    let_go = known.withdrawn_at is not None and change.before.key in before.claims
    return let_go or not before.etag or known.source_etag != before.source_etag


async def settle_others(
    cloud: Cloud,
    before: UploadRecord,
    changes: Collection[Update[DesiredBinding]],
    fleet: Fleet,
    *,
    untold: Collection[str] = (),
) -> None:
    """Settle the uploads that lost or won a host and port by what was done to this one, and no others.

    Of a look that was cut short, only the likeliest are known; the sweep finds others.

    Args:
        cloud: Whose uploads.
        before: The upload to which something was done.
        changes: What was done to the rows.
        fleet: The instances, read after that.
        untold: Ids of those that could not be told of it.
    """
    winners, losers = parties(before, changes, cloud.now())
    await settle_winners(cloud, winners, winners | losers, fleet, untold=untold, alone=True)


def parties(
    before: UploadRecord, changes: Collection[Update[DesiredBinding]], now: datetime
) -> tuple[set[str], set[str]]:
    """Name the other uploads that won a host and port by what was done to this one, and those that lost one."""
    winners, losers = set[str](), set[str]()
    for change in changes:
        if change.after is None:
            continue
        if moved(change):
            losers |= {change.before.source} if change.before else set()
            winners.add(change.after.source)
        elif was_cut_short(before, change):
            others = (claim for claim in change.after.claims if claim.source != change.after.source)
            runner_up = elect(others, now)
            losers |= {runner_up.source} if runner_up else set()
            winners.add(change.after.source)
    itself = {"", before.name}
    return winners - itself, losers - itself


async def settle_winners(
    cloud: Cloud,
    winners: Collection[str],
    concerned: Collection[str],
    fleet: Fleet,
    *,
    untold: Collection[str] = (),
    alone: bool = False,
) -> None:
    """Let the status of uploads that were elected start over, and settle all that an election concerned.

    Args:
        cloud: Whose uploads.
        winners: The elected ones.
        concerned: These, and those that they were elected in place of; what fails for one concerns no other.
        fleet: The instances, read after the rows were written.
        untold: Ids of those that could not be told of the rows.
        alone: As for `settle`.
    """
    for name in sorted(concerned):
        try:
            if name in winners:
                await _taken_over(cloud, name, fleet, untold)
            await settle(cloud, name, fleet=fleet, alone=alone)
        except CertcastError as error:
            # The upload by which this came about is another's, and comes to its end.
            log.warning("upload %s: its status lags behind an election, the sweep settles it: %s", name, error)


async def _taken_over(cloud: Cloud, name: str, fleet: Fleet, untold: Collection[str]) -> None:
    """A superseded upload was elected: its status starts over, counted from now.

    Any other's goes on, but what it won is waited for as long as what is new, and told again like that.
    """
    now = cloud.now()

    def change(record: UploadRecord | None) -> UploadRecord | None:
        if record is None or record.status not in SETTLEABLE or record.status is UploadStatus.REMOVED:
            return record
        told = ids_of_role(recipients(fleet, record.claims), record.role)
        if record.status is UploadStatus.SUPERSEDED:
            record = started_over(record, UploadStatus.ACCEPTED, told, now=now, counted_from=now)
            return replace(record, untold=tuple(sorted({*untold} & {*told})))
        still_untold = tuple(sorted({*record.untold, *untold} & {*told}))
        return replace(record, expected=told, fanned_out_at=now, resent=False, untold=still_untold)

    await cloud.state.uploads.update(name, change)
