"""Warnings before a certificate ends: which one is due, and giving it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.binding import BindingKey, DesiredBinding
from shared.bounded import ROWS_AT_ONCE, gather_bounded
from shared.function.announcing import tell_all
from shared.function.outbox import with_event
from shared.function.settling import settle
from shared.messages import EventType
from shared.phrasing import logger
from shared.state.records import UploadRecord, UploadStatus

if TYPE_CHECKING:
    from datetime import datetime

    from shared.function.cloud import Cloud

log = logger(__name__)

WARN_DAYS = (30, 14, 7, 3, 1)
ON_EXPIRY = -1
"""Stands in `warned_days` for the warning given when the certificate has ended."""

_SERVED = frozenset({UploadStatus.ACCEPTED, UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED})
_IN_PLACE = frozenset({UploadStatus.REJECTED, UploadStatus.WAITING_FOR_METADATA, UploadStatus.SCHEDULED})
"""Of an upload that stands so, the certificate accepted before is served still, if there was one."""

Desired = Mapping[BindingKey, DesiredBinding]
_NO_ROWS: Desired = {}


def _certificate_in_place(record: UploadRecord, rows: Desired) -> UploadRecord | None:
    """Describe an upload by the certificate that is served of it, or should be; None when none is.

    What was judged last is in the row; what is in place while that is rejected, waits or is scheduled, only the claims
    know. Where a look that was cut short left two in place, it is the one that ends first.
    """
    if record.status in _SERVED:
        return record
    if record.status not in _IN_PLACE:
        return None
    mine = [(row, row.claim_of(record.name)) for key in record.claims if (row := rows.get(key)) is not None]
    won = [(row, claim) for row, claim in mine if claim is not None and row.source == record.name]
    if not won:
        return None
    row, claim = min(won, key=lambda each: (each[1].not_after, each[0].key))
    known = claim.fingerprint_sha256 == record.fingerprint_sha256
    return replace(
        record,
        hosts=tuple(sorted(row.host for row, each in won if each.fingerprint_sha256 == claim.fingerprint_sha256)),
        port=row.port,
        role=row.role,
        site=claim.site,
        subject=record.subject if known else "",
        issuer=record.issuer if known else "",
        dns_names=record.dns_names if known else (),
        fingerprint_sha256=claim.fingerprint_sha256,
        thumbprint_sha1=claim.thumbprint_sha1,
        not_before=claim.not_before,
        not_after=claim.not_after,
        uploaded_at=claim.uploaded_at,
    )


def warning_due(record: UploadRecord, now: datetime, rows: Desired = _NO_ROWS) -> int | None:
    """The warning that is due now and was not given: 30, 14, 7, 3, 1 days, or -1 on expiry; None for none.

    Only the nearest one: a certificate uploaded with five days left is warned about once, not for 30, 14 and 7 days.
    """
    certificate = _certificate_in_place(record, rows)
    if certificate is None or certificate.not_after is None:
        return None
    left = certificate.not_after - now
    if left.total_seconds() <= 0:
        due = ON_EXPIRY
    else:
        passed = [days for days in WARN_DAYS if left.total_seconds() <= days * 86_400]
        if not passed:
            return None
        due = min(passed)
    given = record.warned_days if record.warned_of == certificate.fingerprint_sha256 else None
    return due if given is None or due < given else None


async def warn(cloud: Cloud, record: UploadRecord) -> bool:
    """Give the warning that is due, once, however many sweeps run at the same time."""
    now = cloud.now()
    rows = await _rows_in_place(cloud, record)
    due = warning_due(record, now, rows)
    if due is None:
        return False
    if due == ON_EXPIRY:
        await settle(cloud, record.name)

    def change(current: UploadRecord | None) -> UploadRecord | None:
        certificate = None if current is None else _certificate_in_place(current, rows)
        if current is None or certificate is None or warning_due(current, now, rows) != due:
            return None  # replaced or given meanwhile; the next sweep sees what is served then
        warned = replace(current, warned_days=due, warned_of=certificate.fingerprint_sha256)
        if cloud.topic is None:
            return warned
        return with_event(warned, certificate, EventType.EXPIRING, at=now, event_id=_event_id(certificate, due))

    update = await cloud.state.uploads.update(record.name, change)
    if not update.changed:
        return False
    await tell_all(cloud, update.held)
    when = "has ended" if due == ON_EXPIRY else f"ends in less than {due} day(s)"
    which = "its certificate" if record.status in _SERVED else "the certificate accepted before and still in place"
    log.warning("upload %s: %s %s; upload a renewal", record.name, which, when)
    return True


async def _rows_in_place(cloud: Cloud, record: UploadRecord) -> Desired:
    """Read the desired rows where only they tell what is served of an upload."""
    if record.status not in _IN_PLACE:
        return {}
    rows = await gather_bounded((cloud.state.bindings.get(key) for key in record.claims), limit=ROWS_AT_ONCE)
    return {row.key: row for row in rows if row is not None}


def _event_id(certificate: UploadRecord, due: int) -> str:
    """The same from every sweep that gives this warning, so that a receiver can drop the second."""
    warning = json.dumps([certificate.name, certificate.fingerprint_sha256, due])
    return hashlib.sha256(warning.encode()).hexdigest()[:32]
