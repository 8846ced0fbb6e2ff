"""Placing an accepted upload, or withdrawing a deleted one: claims on rows, fan-out, scrubbing, in that order.

Each step can be repeated, and the order makes a crash between any two harmless: the row's `etag` is set last, so an
upload whose work was cut short is not taken for done.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.binding import BindingKey, Claim, DesiredBinding, with_claim, without_claim
from shared.bounded import gather_bounded
from shared.errors import CertcastError, ConflictError, MissingError
from shared.function import results
from shared.function.announcing import announce
from shared.function.fanout import concerned, notify, recipients
from shared.function.recheck import send_recheck
from shared.function.standing import older_than_live
from shared.function.turn import write
from shared.state.records import SETTLEABLE, UploadRecord, UploadStatus
from shared.upload import BLOB_SCHEME, UploadMetadata, password_reference, scheme_of, scrubbed
from shared.verdict import VerdictCode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from shared.function.cloud import Cloud
    from shared.ports import BlobContent
    from shared.state.records import InstanceRecord

log = logging.getLogger(__name__)

DELETED = "deleted"
"""Stands in a row's `etag` when the removal of a deleted upload is complete."""

_HOSTS_IN_LOG = 3

_JUDGED_COLUMNS = (
    *("source_etag", "violations", "hosts", "port", "role", "site"),
    *("uploaded_at", "counted_from", "noticed_at", "judged_at"),
    *("subject", "issuer", "dns_names", "fingerprint_sha256", "thumbprint_sha1", "not_before", "not_after"),
)
_SERVED_COLUMNS = ("bundle_id", "hosts", "port", "role", "site")


def judged_columns(fresh: UploadRecord) -> dict[str, object]:
    """The columns that follow from the upload alone."""
    return {name: getattr(fresh, name) for name in _JUDGED_COLUMNS}


async def accept(
    cloud: Cloud, before: UploadRecord, fresh: UploadRecord, found: BlobContent, metadata: UploadMetadata
) -> UploadRecord:
    """Enter the upload's claims, tell the instances, scrub the password.

    Args:
        cloud: What to act on.
        before: The row as it was when this look began.
        fresh: The row with what was judged now.
        found: The version that was judged.
        metadata: Its metadata.

    Raises:
        StaleRevisionError: A later look has begun and finishes the work.
    """
    wanted = {BindingKey(role=fresh.role, host=host, port=fresh.port) for host in fresh.hosts}
    released = set(fresh.claims) - wanted
    if wanted - set(fresh.claims):
        # Entered before the rows are touched, so that whoever finishes after a crash knows what to let go of.
        await write(cloud, fresh, claims=tuple(sorted(wanted | released)))
    claim = _claim(fresh)
    changes = await gather_bounded(
        [
            *(_enter(cloud, key, claim, fresh.traceparent) for key in wanted),
            *(_leave(cloud, key, fresh) for key in released),
        ]
    )
    instances = await recipients(cloud, wanted | released)
    # Not by the rows alone: a look that was cut short may have moved them.
    same = all(getattr(before, column) == getattr(fresh, column) for column in _SERVED_COLUMNS)
    unchanged = same and not any(change.moved for change in changes)
    notice = older_than_live(fresh.name, [change.after for change in changes])
    columns = judged_columns(fresh) | {
        "violations": (*fresh.violations, notice) if notice else fresh.violations,
        "claims": tuple(sorted(wanted)),
        "bundle_id": fresh.bundle_id,
        "reason": "",
        "etag": "",
    }
    if unchanged and before.status in {UploadStatus.ACCEPTED, UploadStatus.LIVE}:
        columns["counted_from"] = before.counted_from
    else:
        columns |= {
            "status": UploadStatus.ACCEPTED,
            "expected": (expected := _ids_of_role(instances, fresh.role)),
            "live": 0,
            "total": len(expected),
            "live_at": None,
            "fanned_out_at": cloud.now(),
            "resent": False,
        }
    record = await write(cloud, fresh, **columns)
    await notify(cloud, instances, wanted | released, traceparent=fresh.traceparent)
    if record.status is UploadStatus.ACCEPTED:
        await announce(cloud, record)
    log.info(
        "upload %s: accepted for %s, told %d instance(s)",
        fresh.name,
        ", ".join(key.host_port for key in sorted(wanted)[:_HOSTS_IN_LOG])
        + (", ..." if len(wanted) > _HOSTS_IN_LOG else ""),
        len(instances),
    )
    await _settle_all(cloud, before, changes, instances)
    return await complete(cloud, record, found, metadata)


async def withdraw(cloud: Cloud, mine: UploadRecord) -> UploadRecord:
    """Release everything a deleted upload claimed."""
    now = cloud.now()
    changes = await gather_bounded(_leave(cloud, key, mine) for key in mine.claims)
    instances = await recipients(cloud, mine.claims) if mine.claims else []
    ids = tuple(instance.id for instance in instances)
    await write(
        cloud,
        mine,
        status=UploadStatus.REMOVED,
        etag="",
        reason="",
        violations=(),
        expected=ids,
        live=len(ids),
        total=len(ids),
        live_at=None,
        counted_from=now,
        fanned_out_at=now,
        resent=False,
    )
    if mine.claims:
        await notify(cloud, instances, mine.claims, traceparent=mine.traceparent)
    log.info("upload %s: removed, told %d instance(s)", mine.name, len(instances))
    await _settle_all(cloud, mine, changes, instances)
    return await write(cloud, mine, etag=DELETED)


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
    return await write(cloud, record, etag=etag)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowChange:
    before: DesiredBinding | None
    after: DesiredBinding

    @property
    def moved(self) -> bool:
        """Whether instances have something to do."""
        return self.before is None or self.before.generation != self.after.generation


def _claim(fresh: UploadRecord) -> Claim:
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


async def _enter(cloud: Cloud, key: BindingKey, claim: Claim, traceparent: str) -> _RowChange:
    now = cloud.now()
    return await _change(cloud, key, lambda row: with_claim(row, key, claim, now=now, traceparent=traceparent))


async def _leave(cloud: Cloud, key: BindingKey, mine: UploadRecord) -> _RowChange:
    now, trace = cloud.now(), mine.traceparent
    return await _change(
        cloud, key, lambda row: without_claim(row, key, mine.name, mine.revision, now=now, traceparent=trace)
    )


async def _change(
    cloud: Cloud, key: BindingKey, decide: Callable[[DesiredBinding | None], DesiredBinding]
) -> _RowChange:
    decisions: list[_RowChange] = []

    def change(row: DesiredBinding | None) -> DesiredBinding:
        decisions.append(_RowChange(before=row, after=decide(row)))
        return decisions[-1].after

    await cloud.state.bindings.update(key, change)
    return decisions[-1]


def _ids_of_role(instances: Collection[InstanceRecord], role: str) -> tuple[str, ...]:
    return tuple(sorted(instance.id for instance in instances if concerned(instance, {role})))


async def _settle_all(
    cloud: Cloud, before: UploadRecord, changes: Collection[_RowChange], instances: Collection[InstanceRecord]
) -> None:
    """Settle this upload, and those that lost or won a host and port by what was done to it.

    Also those that a look which was cut short had no time to settle: it may have ended before their tags were written.
    """
    name = before.name
    cut_short = before.revision > 1 and not before.etag
    settled_already = frozenset() if cut_short else frozenset({UploadStatus.SUPERSEDED})
    winners = {change.after.source for change in changes} - {"", name}
    losers = {change.before.source for change in changes if change.moved and change.before} - {"", name}
    others = {claim.source for change in changes for claim in change.after.claims if claim.withdrawn_at is None}
    for other in sorted(winners):
        await _taken_over(cloud, other, instances)
    for other in sorted(others - winners - losers - {name}):
        record = await cloud.state.uploads.get(other)
        if record is not None and record.status in SETTLEABLE - settled_already:
            losers.add(other)
    for other in sorted({name} | winners | losers):
        await results.settle(cloud, other)


async def _taken_over(cloud: Cloud, name: str, instances: Collection[InstanceRecord]) -> None:
    """Another upload's end made this one the elected one: its status starts over, counted from now."""
    now = cloud.now()

    def change(record: UploadRecord | None) -> UploadRecord | None:
        if record is None or record.status is not UploadStatus.SUPERSEDED:
            return record
        return replace(
            record,
            status=UploadStatus.ACCEPTED,
            violations=tuple(v for v in record.violations if v.code is not VerdictCode.OLDER_THAN_LIVE),
            expected=_ids_of_role(instances, record.role),
            counted_from=now,
            fanned_out_at=now,
            resent=False,
            live_at=None,
        )

    await cloud.state.uploads.update(name, change)
