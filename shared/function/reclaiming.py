"""Claims put right: rows that lost a claim, and claims that lost their upload, are found by comparing and elect again.

A row may be lost or damaged, and a look may end between two writes; the uploads say what the rows should hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.binding import BindingKey
from shared.bounded import gather_bounded
from shared.function.aftermath import moved, settle_winners
from shared.function.claiming import claim_by
from shared.function.election import places_left, with_claim, without_claim
from shared.function.fanout import notify, read_fleet, recipients
from shared.hostnames import DEFAULT_HOST
from shared.messages import new_traceparent
from shared.phrasing import logger
from shared.state.records import DELETED, SETTLEABLE, UploadRecord, UploadStatus
from shared.verdict import VerdictCode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud
    from shared.state.rows import Update
    from shared.validation.policy import Policy

log = logger(__name__)

_CLAIMING = SETTLEABLE - {UploadStatus.REMOVED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Amiss:
    """An upload whose claims or whose status are not as the rows and it should have them.

    Attributes:
        record: The upload.
        missing: Rows that lack its claim.
        wins: Whether it is the elected one in another.
    """

    record: UploadRecord
    missing: tuple[BindingKey, ...]
    wins: bool


def amiss(record: UploadRecord, rows: Mapping[BindingKey, DesiredBinding], now: datetime) -> Amiss | None:
    """Compare an upload with the rows that it claims; None where all is well or a look is at it.

    Args:
        record: The upload, read before the rows.
        rows: The desired rows.
        now: The time; an expired upload's claim may have made room for another's.
    """
    if record.status not in _CLAIMING or record.etag in {"", DELETED} or not record.claims:
        return None
    lasts = record.not_before is not None and record.not_after is not None and record.not_after >= now
    missing = () if not lasts else tuple(key for key in record.claims if _lacks(rows.get(key), record))
    wins = any(row.source == record.name for key in record.claims if (row := rows.get(key)) is not None)
    if missing or wins is (record.status is UploadStatus.SUPERSEDED):
        return Amiss(record=record, missing=missing, wins=wins)
    return None


def _lacks(row: DesiredBinding | None, record: UploadRecord) -> bool:
    claim = None if row is None else row.claim_of(record.name)
    if claim is None:
        return True
    if claim.revision > record.revision:
        return False  # the upload was looked at since it was read
    return claim.withdrawn_at is not None or claim.bundle_id != record.bundle_id


def orphans(
    records: Mapping[str, UploadRecord], rows: Mapping[BindingKey, DesiredBinding]
) -> Iterator[tuple[BindingKey, str, int]]:
    """Name the claims whose upload has no row, or does not claim that host and port: row, upload, revision.

    Args:
        records: The uploads by name, read before the rows.
        rows: The desired rows.
    """
    for key, row in rows.items():
        for claim in row.claims:
            record = records.get(claim.source)
            if claim.withdrawn_at is not None:
                continue
            if record is None or (record.etag and claim.revision <= record.revision and key not in record.claims):
                yield key, claim.source, claim.revision


def refused(row: DesiredBinding, policy: Policy) -> set[str]:
    """The uploads whose claim on a host the policy refuses."""
    return {
        claim.source
        for claim in row.claims
        if claim.withdrawn_at is None
        and policy.refusal(
            name=claim.source,
            hosts=() if row.host == DEFAULT_HOST else (row.host,),
            default=row.host == DEFAULT_HOST,
            port=row.port,
            role=row.role,
            fingerprint_sha256=claim.fingerprint_sha256,
        )
    }


def ruled_otherwise(records: Iterable[UploadRecord], rows: Iterable[DesiredBinding], policy: Policy) -> list[str]:
    """Name the uploads about which the policy says something else now than when they were judged, a reason too.

    Args:
        records: The uploads.
        rows: The desired rows.
        policy: As it is now.
    """
    now_refused = {name for row in rows for name in refused(row, policy)}
    return sorted(now_refused | {record.name for record in records if _was_told_otherwise(record, policy)})


def _was_told_otherwise(record: UploadRecord, policy: Policy) -> bool:
    """Whether an upload that the policy refused was told another reason than the one there is now, if there is one."""
    told = next((violation for violation in record.violations if violation.code is VerdictCode.NOT_ALLOWED), None)
    if told is None or record.status is not UploadStatus.REJECTED:
        return False
    # What was refused unopened has no certificate, and its row may still describe the one before.
    return told not in {
        policy.refusal(
            name=record.name,
            hosts=record.hosts,
            default=record.default,
            port=record.port,
            role=record.role,
            fingerprint_sha256=fingerprint,
        )
        for fingerprint in (record.fingerprint_sha256, "")
    }


def with_room(records: Iterable[UploadRecord], rows: Mapping[BindingKey, DesiredBinding], now: datetime) -> list[str]:
    """Name the uploads that were refused as one too many, and for which there is room at all of their hosts now.

    No more than there is room for, so that a place that becomes free is not the occasion to look at hundreds.

    Args:
        records: The uploads.
        rows: The desired rows.
        now: The time; what has expired makes room.
    """
    crowded = [record for record in records if _is_one_too_many(record)]
    left: dict[BindingKey, int] = {}
    named = []
    for record in sorted(crowded, key=lambda record: (record.uploaded_at or now, record.name)):
        for key in record.asked:
            left.setdefault(key, places_left(rows.get(key), now) + (key in record.claims))
        if all(left[key] > 0 for key in record.asked):
            left |= {key: left[key] - 1 for key in record.asked}
            named.append(record.name)
    return named


def _is_one_too_many(record: UploadRecord) -> bool:
    crowded = any(violation.code is VerdictCode.TOO_MANY_CLAIMS for violation in record.violations)
    return crowded and record.status is UploadStatus.REJECTED


async def claim_again(cloud: Cloud, found: Amiss) -> None:
    """Enter the claims that are missing, and bring the status in line with what the upload wins."""
    record = found.record
    claim, now, trace = claim_by(record), cloud.now(), new_traceparent()
    changes = await gather_bounded(
        cloud.state.bindings.update(
            key,
            lambda row, key=key: with_claim(row, key, claim, now=now, traceparent=trace),  # type: ignore[misc]
        )
        for key in found.missing
    )
    if found.missing:
        log.warning("upload %s: %d of its claims were lost and are entered again", record.name, len(found.missing))
    wins = found.wins or any(change.after is not None and change.after.source == record.name for change in changes)
    # Who gave it a host may have ended before any instance was told of that.
    unsaid = record.claims if found.wins and record.status is UploadStatus.SUPERSEDED else ()
    await follow(cloud, changes, trace, settled=record.name, wins=wins, unsaid=unsaid)


async def withdraw_orphan(cloud: Cloud, key: BindingKey, name: str, revision: int) -> None:
    """Withdraw a claim that no upload stands behind, if that is so still."""
    record = await cloud.state.uploads.get(name)
    if record is not None and (not record.etag or key in record.claims):
        return
    source = cloud.source_of(name)
    if record is None and (source is None or await source.version(name) is not None):
        return  # it is looked at as one that was missed
    now, trace = cloud.now(), new_traceparent()
    change = await cloud.state.bindings.update(
        key, lambda row: without_claim(row, key, name, revision, now=now, traceparent=trace)
    )
    log.warning("upload %s: its claim on %s is withdrawn, no upload stands behind it", name, key.phrased)
    await follow(cloud, [change], trace, settled=name, wins=False)


async def follow(
    cloud: Cloud,
    changes: list[Update[DesiredBinding]],
    trace: str,
    *,
    settled: str,
    wins: bool,
    unsaid: Collection[BindingKey] = (),
) -> None:
    """Tell the instances what moved, and settle an upload and those that lost or won by it."""
    cloud.recent.see_changes(changes)
    moves = [change for change in changes if moved(change)]
    keys = {change.after.key for change in moves if change.after is not None} | {*unsaid}
    fleet = await read_fleet(cloud)
    untold = await notify(cloud, recipients(fleet, keys), keys, traceparent=trace)
    winners = {change.after.source for change in moves if change.after} | ({settled} if wins else set())
    losers = {change.before.source for change in moves if change.before}
    concerned = (winners | losers | {settled}) - {""}
    await settle_winners(cloud, winners - {""}, concerned, fleet, untold=untold)
