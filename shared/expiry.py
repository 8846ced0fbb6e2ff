"""Warnings before a certificate ends: which one is due; the sweep gives them."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from shared import results
from shared.announcing import enqueue
from shared.outgoing import EventType
from shared.state import UploadRecord, UploadStatus

if TYPE_CHECKING:
    from datetime import datetime

    from shared.cloud import Cloud

log = logging.getLogger(__name__)

WARN_DAYS = (30, 14, 7, 3, 1)
ON_EXPIRY = -1
"""Stands in `warned_days` for the warning given when the certificate has ended."""

_SERVED = frozenset({UploadStatus.ACCEPTED, UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED})


def warning_due(record: UploadRecord, now: datetime) -> int | None:
    """The warning that is due now and was not given: 30, 14, 7, 3, 1 days, or -1 on expiry; None for none.

    Only the nearest one: a certificate uploaded with five days left is warned about once, not for 30, 14 and 7 days.
    """
    if record.not_after is None or record.status not in _SERVED:
        return None
    left = record.not_after - now
    if left.total_seconds() <= 0:
        due = ON_EXPIRY
    else:
        passed = [days for days in WARN_DAYS if left.total_seconds() <= days * 86_400]
        if not passed:
            return None
        due = min(passed)
    return due if record.warned_days is None or due < record.warned_days else None


async def warn(cloud: Cloud, record: UploadRecord) -> bool:
    """Give the warning that is due, once, however many sweeps run at the same time."""
    due = warning_due(record, cloud.now())
    if due is None:
        return False
    given = False

    def change(current: UploadRecord | None) -> UploadRecord | None:
        nonlocal given
        given = current is not None and warning_due(current, cloud.now()) == due
        return replace(current, warned_days=due) if current is not None and given else current

    # What is to be told comes before it is marked as given: doubled is allowed, lost is not.
    if due == ON_EXPIRY:
        await results.settle(cloud, record.name)
        record = await cloud.state.uploads.get(record.name) or record
    if cloud.topic is not None:
        await enqueue(cloud, record, EventType.EXPIRING, event_id=_event_id(record, due))
    await cloud.state.uploads.update(record.name, change)
    if given:
        when = "has ended" if due == ON_EXPIRY else f"ends in less than {due} day(s)"
        log.warning("upload %s: its certificate %s (%s); upload a renewal", record.name, when, record.not_after)
    return given


def _event_id(record: UploadRecord, due: int) -> str:
    """The same from every sweep that gives this warning, so that a receiver can drop the second."""
    warning = json.dumps([record.name, record.revision, record.fingerprint_sha256, due])
    return hashlib.sha256(warning.encode()).hexdigest()[:32]
