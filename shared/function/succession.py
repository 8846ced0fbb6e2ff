"""Hosts and ports whose certificate ends: the sweep elects there again, early enough that another is served by then.

Rows first, then the instances, then the uploads' statuses: a sweep that ends in between leaves rows that agents read at
their next whole reconcile, and statuses that the next sweep finds not to be as the rows have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.bounded import ROWS_AT_ONCE, gather_bounded
from shared.function.aftermath import moved, settle_winners
from shared.function.election import elected_again, has_run_out
from shared.function.fanout import notify, read_fleet, recipients
from shared.function.fleet import Fleet
from shared.messages import new_traceparent
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.binding import BindingKey, DesiredBinding
    from shared.function.cloud import Cloud
    from shared.function.snapshot import Snapshot
    from shared.function.sweep_report import SweepReport
    from shared.state.rows import Update

log = logger(__name__)

TOLD_AT_ONCE = 200
"""Rows of which the instances are told together: thousands may end at the same moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _HandedOver:
    """What came of electing again.

    Attributes:
        winners, losers: The uploads.
        fleet: The instances, read after the rows were written.
        untold: Ids of those that could not be told.
    """

    winners: frozenset[str]
    losers: frozenset[str]
    fleet: Fleet
    untold: tuple[str, ...]


async def elect_again(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    """Elect again where what is served is about to end, or has ended, and another claim would win."""
    now = cloud.now()
    due = [row for row in (seen.bindings or {}).values() if has_run_out(row, now)]
    keys = [row.key for row in sorted(due, key=lambda row: (row.not_after or now, row.key))]
    handed: list[_HandedOver] = []
    for first in range(0, len(keys), TOLD_AT_ONCE):
        some = keys[first : first + TOLD_AT_ONCE]
        what = f"rows whose certificates end, {some[0].phrased} first"
        if (done := await report.attempt(what, _hand_over(cloud, some, report))) is not None:
            handed.append(done)
    # Statuses last: all that ends is to be replaced before any of it is told.
    for done in handed:
        settlings = (
            report.attempt(f"upload {name}", _settle(cloud, name, done)) for name in sorted(done.winners | done.losers)
        )
        await gather_bounded(settlings, limit=ROWS_AT_ONCE)


async def _hand_over(cloud: Cloud, keys: Sequence[BindingKey], report: SweepReport) -> _HandedOver | None:
    """Elect in these rows, and tell the instances; None where others did that meanwhile."""
    trace = new_traceparent()
    work = (report.attempt(f"row of {key.phrased}", _elect(cloud, key, trace)) for key in keys)
    moves = [
        change for change in await gather_bounded(work, limit=ROWS_AT_ONCE) if change is not None and moved(change)
    ]
    if not moves:
        return None
    cloud.recent.see_changes(moves)
    winners = {change.after.source for change in moves if change.after is not None}
    losers = {change.before.source for change in moves if change.before is not None}
    changed = [change.after.key for change in moves if change.after is not None]
    report.handed_over += changed
    report.touched |= winners | losers
    fleet = await read_fleet(cloud)
    untold = await notify(cloud, recipients(fleet, changed), changed, traceparent=trace)
    return _HandedOver(winners=frozenset(winners), losers=frozenset(losers), fleet=fleet, untold=untold)


async def _settle(cloud: Cloud, name: str, done: _HandedOver) -> None:
    await settle_winners(cloud, done.winners & {name}, {name}, done.fleet, untold=done.untold)


async def _elect(cloud: Cloud, key: BindingKey, trace: str) -> Update[DesiredBinding]:
    now = cloud.now()

    def change(row: DesiredBinding | None) -> DesiredBinding | None:
        return row and elected_again(row, now=now, traceparent=trace)

    update = await cloud.state.bindings.update(key, change)
    if moved(update) and update.before is not None and update.after is not None:
        log.info(
            "upload %s: its certificate ends at %s, and %s is served for %s in its place",
            *(update.before.source, update.before.not_after, update.after.source, key.phrased),
        )
    return update
