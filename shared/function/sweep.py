"""The safety net under the events: missed uploads and deletions, statuses that cannot complete, instances gone away.

Everything here is found by comparing, so it may run twice at once and end anywhere; the next run finds what is left.
One listing of the container and one read of each table decide what needs a look: where nothing changed, nothing else is
asked. What is found so is read again before it is acted on.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.bounded import ROWS_AT_ONCE, gather_bounded
from shared.function.announcing import announce, is_announced, tell_as_it_is
from shared.function.blob_event import Notice
from shared.function.deadlines import STEPS_S, SWEEP_S
from shared.function.doubts import ALL_REPORTS, Doubts, is_under_way, passing_reports
from shared.function.expiry import coming_certificates, warn, warning_due
from shared.function.fanout import notify
from shared.function.forgetting import (
    forget_bindings,
    forget_bundles,
    forget_canaries,
    forget_instance,
    forget_strays,
    forget_uploads,
    is_silent_for_good,
    is_stray,
)
from shared.function.intake import falls_due, look_at, waits_in_vain
from shared.function.judging import is_to_be_judged_again
from shared.function.outbox import is_overdue, send_overdue
from shared.function.reclaiming import amiss, claim_again, orphans, ruled_otherwise, with_room, withdraw_orphan
from shared.function.remembering import forget_history, write_history
from shared.function.restoring import lacks_kept, restore
from shared.function.scrubbing import may_be_scrubbed, scrub_again
from shared.function.settling import settle
from shared.function.snapshot import take_snapshot
from shared.function.succession import elect_again
from shared.function.sweep_report import SweepReport, in_turn
from shared.function.tagging import is_to_be_tagged
from shared.function.wholeness import say_what_is_lost, say_whether_whole
from shared.phrasing import logger
from shared.state.records import DELETED, UploadRecord
from shared.upload import scheme_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
    from datetime import datetime

    from shared.function.cloud import Cloud
    from shared.function.expiry import Coming
    from shared.function.forgetting import Deletions
    from shared.function.snapshot import Snapshot
    from shared.function.standing import Instances
    from shared.state.records import InstallationRecord
    from shared.state.rows import Versioned

    _Step = Callable[[Cloud, Snapshot, SweepReport], Coroutine[Any, Any, None]]

log = logger(__name__)

AT_ONCE = 8
RESEND_AFTER = timedelta(minutes=2)
"""Instances that have not reported by then are told once more."""
MAX_STRAYS = 5_000
"""Reports that one sweep deletes at most, as it keeps them in memory; the next one goes on."""

MAX_FAILED = 10
"""Deletions that fail in one step before the rest is left: all may be refused, and the next step begins with others."""


async def sweep(cloud: Cloud) -> SweepReport:
    """Bring everything in line once; what fails is reported, stops nothing else, and is left to the next sweep."""
    report, loop = SweepReport(), asyncio.get_running_loop()
    until = loop.time() + SWEEP_S
    seen = await take_snapshot(cloud, report)
    until = max(until, loop.time() + STEPS_S)
    for step in _STEPS:
        # Half of what is left, so that no step, however much it finds, takes the time of all that come after it.
        report.until = loop.time() + max(0.0, until - loop.time()) / 2
        await report.part(step.__name__.strip("_").replace("_", " "), step(cloud, seen, report))
    if report.left:
        log.warning(
            "sweep: %d thing(s) are left to the next sweep: its time was over, or many like them failed", report.left
        )
    if report.looked_at or report.reaped or report.problems:
        log.info(
            "sweep: looked at %d upload(s), settled %d, reaped %d instance(s), %d problem(s)",
            *(len(report.looked_at), len(report.settled), len(report.reaped), len(report.problems)),
        )
    return report


async def _find_missed(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    if seen.uploads is not None:
        now = cloud.now()
        await report.part("saying what is lost", say_what_is_lost(cloud, seen))
        names = missed(seen.found, seen.uploads, now, seen.answered)
        report.lacking += len(names)
        again = [
            name
            for name in seen.found.keys() & seen.uploads.keys() - set(names)
            if is_to_be_judged_again(seen.uploads[name], now)
        ]
        if seen.bindings is not None:
            again += with_room(
                (seen.uploads[name] for name in seen.found.keys() & seen.uploads.keys()), seen.bindings, now
            )
        notices = [Notice(name=name, etag=seen.found.get(name, "")) for name in names]
        await _look_at_all(cloud, report, notices)
        await _look_at_all(cloud, report, [Notice(name=name, again=True) for name in again])


def missed(
    found: Mapping[str, str], records: Mapping[str, UploadRecord], now: datetime, answered: Collection[str]
) -> list[str]:
    """Name the uploads whose version differs from the processed one, and the processed ones that are gone.

    Args:
        found: ETags by name of what the sources hold.
        records: What was processed.
        now: The time, for scheduled ones that fall due.
        answered: Sources that were listed; what another one holds is not taken for gone.
    """
    changed = [
        name
        for name, etag in found.items()
        if name not in records
        or records[name].etag != etag
        or falls_due(records[name], now)
        or waits_in_vain(records[name], now)
    ]
    gone = [
        name
        for name, record in records.items()
        if name not in found and record.etag != DELETED and scheme_of(name) in answered
    ]
    return sorted(changed + gone)


async def _look_at_all(cloud: Cloud, report: SweepReport, notices: Sequence[Notice]) -> None:
    async def look(notice: Notice) -> None:
        await look_at(cloud, notice)
        report.looked_at.append(notice.name)

    async def attempt(notice: Notice) -> None:
        report.touched.add(notice.name)
        await report.attempt(f"upload {notice.name}", look(notice))

    await gather_bounded(map(attempt, in_turn(notices, cloud.now())), limit=AT_ONCE)


async def _reap(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    async def reap(instance: str) -> None:
        if await forget_instance(cloud, instance):
            report.reaped.append(instance)

    for instance, known in in_turn([*(seen.instances or {}).items()], cloud.now()):
        if is_silent_for_good(known, cloud.now()):
            await report.attempt(f"instance {instance}", reap(instance))


async def _apply_policy(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    """Look again at uploads that the policy refuses or allows now and did not when they were judged."""
    policy = await cloud.rules.current()
    if seen.uploads is None or seen.bindings is None:
        return
    names = ruled_otherwise(seen.uploads.values(), seen.bindings.values(), policy)
    await _look_at_all(cloud, report, [Notice(name=name, again=True) for name in names if name not in report.touched])


async def _put_claims_right(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    """Elect again where a row lost a claim, or a claim its upload."""
    if seen.uploads is None or seen.bindings is None:
        return
    for record in in_turn([*seen.uploads.values()], cloud.now()):
        put_right = restore if lacks_kept(record, seen.bindings) else _claim_again
        if put_right is restore or amiss(record, seen.bindings, cloud.now()) is not None:
            report.lacking += 1
            if record.name not in report.touched:
                await report.attempt(f"upload {record.name}", put_right(cloud, record.name))
    for key, name, revision in in_turn([*orphans(seen.uploads, seen.bindings)], cloud.now()):
        report.lacking += 1
        if name not in report.touched:
            await report.attempt(f"upload {name}", withdraw_orphan(cloud, key, name, revision))


async def _claim_again(cloud: Cloud, name: str) -> None:
    record = await cloud.state.uploads.get(name)
    if record is None:
        return
    rows = await gather_bounded((cloud.state.bindings.get(key) for key in record.claims), limit=ROWS_AT_ONCE)
    if (found := amiss(record, {row.key: row for row in rows if row is not None}, cloud.now())) is not None:
        await claim_again(cloud, found)


async def _tell_again(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    """Tell the instances once more that have not reported, as a hint may have been lost."""
    now = cloud.now()
    if seen.uploads is None or seen.instances is None:
        return
    attempts = []
    for record in in_turn([*filter(is_under_way, _complete(seen.uploads, report))], now):
        late = not record.resent and now - (record.fanned_out_at or now) >= RESEND_AFTER
        if late or record.untold:
            telling = _tell_once_more(cloud, seen.instances, record, late=late)
            attempts.append(report.attempt(f"upload {record.name}", telling))
    await gather_bounded(attempts, limit=AT_ONCE)


async def _tell_once_more(cloud: Cloud, instances: Instances, record: UploadRecord, *, late: bool) -> None:
    """Tell those that have not reported, or, before that can be said, those whose queue did not take their hint."""
    names = record.expected if late else record.untold
    told = [instances[name].value for name in names if name in instances]
    running = [instance for instance in told if not instance.stopped]
    untold = await notify(cloud, running, record.claims, traceparent=record.traceparent)

    def change(current: UploadRecord | None) -> UploadRecord | None:
        if current is None or current.revision != record.revision:
            return None
        return replace(current, resent=current.resent or late, untold=untold)

    await cloud.state.uploads.update(record.name, change)


async def _go_through_reports(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    """Settle the uploads of which the reports tell otherwise than their rows; delete reports that belong to nothing."""
    if seen.uploads is None or seen.bindings is None or seen.instances is None:
        return
    doubts = Doubts(_complete(seen.uploads, report), seen.bindings, seen.instances, cloud.now())
    strays: list[Versioned[InstallationRecord]] = []
    async with aclosing(passing_reports(cloud, seen, doubts)) as reports:
        async for known in reports:
            doubts.take(known.value)
            if len(strays) < MAX_STRAYS and is_stray(known, seen):
                strays.append(known)
            if report.is_over():
                report.left += 1
                break
    if len(strays) == MAX_STRAYS:
        cloud.last_done.pop(ALL_REPORTS, None)

    async def settle_one(name: str) -> None:
        await settle(cloud, name)
        report.settled.append(name)

    attempts = (report.attempt(f"upload {name}", settle_one(name)) for name in in_turn(doubts.names(), cloud.now()))
    await gather_bounded(attempts, limit=AT_ONCE)
    await _forget(forget_strays(cloud, seen, strays), report)


async def _warn_and_announce(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    """Warn of certificates that end soon, and tell what a crash kept from being told."""
    now = cloud.now()
    if seen.uploads is None or seen.bindings is None:
        return
    coming = coming_certificates(seen.uploads.values())
    for record in in_turn(_untouched(seen.uploads, report), now):
        if warning_due(record, now, seen.bindings, coming) is not None:
            await report.attempt(f"upload {record.name}", _warn(cloud, record, coming, report))
        if cloud.tells_others and record.etag and not is_announced(record):
            await report.attempt(f"upload {record.name}", announce(cloud, record))
        elif is_overdue(record, now):
            await report.attempt(f"upload {record.name}", send_overdue(cloud, record))


async def _write_tags(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    """Write the tags that could not be written; after all else, as nothing waits for them."""
    for record in in_turn(_complete(seen.uploads or {}, report), cloud.now()):
        if is_to_be_tagged(cloud, record):
            await report.attempt(f"upload {record.name}", tell_as_it_is(cloud, record.name))


async def _scrub(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    """Remove the passwords that are left in accepted uploads' metadata."""
    known = seen.uploads or {}
    names = [name for name in seen.with_password if may_be_scrubbed(known.get(name), seen.found[name])]
    names = in_turn(names if cloud.scrub_password else [], cloud.now())
    attempts = (report.attempt(f"upload {name}", scrub_again(cloud, name)) for name in names)
    await gather_bounded(attempts, limit=AT_ONCE)


async def _warn(cloud: Cloud, record: UploadRecord, coming: Coming, report: SweepReport) -> None:
    if await warn(cloud, record, coming):
        report.warned.append(record.name)


def _untouched(uploads: Mapping[str, UploadRecord], report: SweepReport) -> list[UploadRecord]:
    """The uploads that are still as they were read, as far as this sweep knows."""
    return [record for name, record in uploads.items() if name not in report.touched]


def _complete(uploads: Mapping[str, UploadRecord], report: SweepReport) -> list[UploadRecord]:
    return [record for record in _untouched(uploads, report) if record.etag]


async def _forget(deletions: Deletions, report: SweepReport) -> None:
    failed = 0
    for what, deletion in deletions:
        if report.is_over() or failed == MAX_FAILED:
            deletion.close()
            report.left += 1
            if report.is_over():
                return
            continue
        done = await report.attempt(what, deletion)
        report.forgotten += done is True
        failed += done is None


async def _forget_unused_bundles(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    if not report.lacking:  # else what would name some was lost, or is being written
        await _forget(forget_bundles(cloud, seen), report)


def _forgetting(forget: Callable[[Cloud, Snapshot], Deletions]) -> _Step:
    async def step(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
        await _forget(forget(cloud, seen), report)

    step.__name__ = forget.__name__
    return step


_STEPS = (
    elect_again,
    _find_missed,
    _reap,
    _apply_policy,
    _scrub,
    _put_claims_right,
    say_whether_whole,
    _tell_again,
    _go_through_reports,
    _warn_and_announce,
    _forgetting(forget_bindings),
    _forgetting(forget_uploads),
    _forget_unused_bundles,
    write_history,
    forget_history,
    _write_tags,
    _forgetting(forget_canaries),
)
