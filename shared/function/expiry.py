"""Warnings before a host is left without a valid certificate: which one is due, and giving it.

They are given of the upload in place, and go by the end of what is valid for its hosts: where another upload takes over
before the end, nothing is to be warned of yet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.binding import BindingKey, Claim, DesiredBinding
from shared.bounded import ROWS_AT_ONCE, gather_bounded
from shared.function.announcing import tell_all
from shared.function.history import entry_about, with_entry
from shared.function.outbox import with_event
from shared.function.settling import settle
from shared.hostnames import DEFAULT_HOST
from shared.messages import EventType
from shared.phrasing import logger
from shared.state.history import HistoryKind
from shared.state.records import UploadRecord, UploadStatus

if TYPE_CHECKING:
    from shared.function.cloud import Cloud

log = logger(__name__)

WARN_DAYS = (30, 14, 7, 3, 1)
ON_EXPIRY = -1
"""Stands in `warned_days` for the warning given when the last valid certificate has ended."""
SEAMLESS = timedelta(seconds=1)
"""From the end of one certificate to the start of the next, both of which are told in whole seconds."""

_SERVED = frozenset({UploadStatus.ACCEPTED, UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED})
_IN_PLACE = frozenset({UploadStatus.REJECTED, UploadStatus.WAITING_FOR_METADATA, UploadStatus.SCHEDULED})
"""Of an upload that stands so, the certificate accepted before is served still, if there was one."""

Desired = Mapping[BindingKey, DesiredBinding]
Coming = Mapping[BindingKey, Sequence[tuple[datetime, datetime]]]
"""From when and until when certificates are valid that wait for their first day, by what they are for."""
_NONE_COMING: Coming = {}


def coming_certificates(records: Iterable[UploadRecord]) -> Coming:
    """What scheduled uploads will be served for, and when."""
    coming: dict[BindingKey, list[tuple[datetime, datetime]]] = {}
    for record in records:
        if record.status is UploadStatus.SCHEDULED and record.not_before is not None and record.not_after is not None:
            for key in record.asked:
                coming.setdefault(key, []).append((record.not_before, record.not_after))
    return coming


def valid_until(row: DesiredBinding, coming: Coming = _NONE_COMING) -> datetime | None:
    """When a host and port is left without a valid certificate for the first time, as far as is known now."""
    ends = [claim.not_after for claim in row.claims if claim.withdrawn_at is None]
    if not ends:
        return None
    end = max(ends)
    for start, until in sorted(coming.get(row.key, ())):
        if start <= end + SEAMLESS:
            end = max(end, until)
    return end


@dataclass(frozen=True, slots=True, kw_only=True)
class _InPlace:
    """The certificate that is served of an upload, or should be.

    Attributes:
        described: The upload's row, which describes that certificate, for the hosts whose end it is about.
        ends: When the first of its hosts is left without a valid certificate.
    """

    described: UploadRecord
    ends: datetime


def _in_place(record: UploadRecord, rows: Desired, coming: Coming) -> _InPlace | None:
    """What is served of an upload; None when nothing is.

    What was judged last is in the row; what is in place while that is rejected, waits or is scheduled, only the claims
    know. Where a look that was cut short left two in place, it is the one that ends first.
    """
    if record.status not in _SERVED | _IN_PLACE:
        return None
    won = [
        (row, claim, ends)
        for key in record.claims
        if (row := rows.get(key)) is not None and row.source == record.name
        if (claim := row.claim_of(record.name)) is not None and (ends := valid_until(row, coming)) is not None
    ]
    if not won:
        return None
    first, claim, ends = min(won, key=lambda each: (each[2], each[1].not_after, each[0].key))
    same = [row for row, each, end in won if each.fingerprint_sha256 == claim.fingerprint_sha256 and end == ends]
    return _InPlace(described=_described(record, first, claim, same), ends=ends)


def _described(record: UploadRecord, row: DesiredBinding, claim: Claim, rows: Iterable[DesiredBinding]) -> UploadRecord:
    known, hosts = claim.fingerprint_sha256 == record.fingerprint_sha256, {each.host for each in rows}
    return replace(
        record,
        hosts=tuple(sorted(hosts - {DEFAULT_HOST})),
        default=DEFAULT_HOST in hosts,
        port=row.port,
        role=row.role,
        site=claim.site,
        source_etag=claim.source_etag,
        subject=record.subject if known else "",
        issuer=record.issuer if known else "",
        dns_names=record.dns_names if known else (),
        chain=record.chain if known else (),
        fingerprint_sha256=claim.fingerprint_sha256,
        thumbprint_sha1=claim.thumbprint_sha1,
        not_before=claim.not_before,
        not_after=claim.not_after,
        uploaded_at=claim.uploaded_at,
    )


def warning_due(record: UploadRecord, now: datetime, rows: Desired, coming: Coming = _NONE_COMING) -> int | None:
    """The warning that is due now and was not given: 30, 14, 7, 3, 1 days, or -1 on expiry; None for none.

    Only the nearest one: a certificate uploaded with five days left is warned about once, not for 30, 14 and 7 days.

    Args:
        record: The upload.
        now: The time.
        rows: The desired rows that it claims.
        coming: What waits for its first day.
    """
    place = None if _lasts_long(record, now) else _in_place(record, rows, coming)
    if place is None:
        return None
    left = place.ends - now
    if left.total_seconds() <= 0:
        due = ON_EXPIRY
    else:
        passed = [days for days in WARN_DAYS if left.total_seconds() <= days * 86_400]
        if not passed:
            return None
        due = min(passed)
    given = record.warned_days if record.warned_of == place.described.fingerprint_sha256 else None
    return due if given is None or due < given else None


def _lasts_long(record: UploadRecord, now: datetime) -> bool:
    """Whether nothing can be due, without a look at any row: most uploads stand so."""
    served = record.status in _SERVED and record.not_after is not None
    return served and record.not_after is not None and record.not_after > now + timedelta(days=max(WARN_DAYS))


async def warn(cloud: Cloud, record: UploadRecord, coming: Coming = _NONE_COMING) -> bool:
    """Give the warning that is due, once, however many sweeps run at the same time."""
    now = cloud.now()
    rows = await _rows_of(cloud, record)
    due = warning_due(record, now, rows, coming)
    if due is None:
        return False
    if due == ON_EXPIRY:
        await settle(cloud, record.name)

    def change(current: UploadRecord | None) -> UploadRecord | None:
        place = None if current is None else _in_place(current, rows, coming)
        if current is None or place is None or warning_due(current, now, rows, coming) != due:
            return None  # replaced or given meanwhile; the next sweep sees what is served then
        warned = replace(current, warned_days=due, warned_of=place.described.fingerprint_sha256)
        event_id = _event_id(place.described, due)
        entry = entry_about(place.described, HistoryKind.EXPIRING, at=now, entry_id=event_id, reason=_phrased(due))
        warned = with_entry(warned, entry)
        if not cloud.tells_others:
            return warned
        return with_event(warned, place.described, EventType.EXPIRING, at=now, event_id=event_id)

    update = await cloud.state.uploads.update(record.name, change)
    if not update.changed:
        return False
    await tell_all(cloud, update.held)
    which = "its certificate" if record.status in _SERVED else "the certificate accepted before and still in place"
    log.warning("upload %s: %s %s; upload a renewal", record.name, which, _phrased(due))
    return True


def _phrased(due: int) -> str:
    return "has ended" if due == ON_EXPIRY else f"ends in less than {due} day(s)"


async def _rows_of(cloud: Cloud, record: UploadRecord) -> Desired:
    rows = await gather_bounded((cloud.state.bindings.get(key) for key in record.claims), limit=ROWS_AT_ONCE)
    return {row.key: row for row in rows if row is not None}


def _event_id(certificate: UploadRecord, due: int) -> str:
    """The same from every sweep that gives this warning, so that a receiver can drop the second."""
    warning = json.dumps([certificate.name, certificate.fingerprint_sha256, due])
    return hashlib.sha256(warning.encode()).hexdigest()[:32]
