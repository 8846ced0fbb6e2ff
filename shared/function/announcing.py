"""Saying what became of an upload: to its uploader in the blob's tags, to other services in events.

The event is entered into the row with the status it is about, and sent from there (`outbox`): at least once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.function.outbox import new_event_id, send_due, with_event
from shared.messages import EventType
from shared.state.records import UploadRecord, UploadStatus
from shared.state.tags import status_tags
from shared.upload import BLOB_SCHEME, scheme_of

if TYPE_CHECKING:
    from datetime import datetime

    from shared.function.cloud import Cloud

TAG_ROUNDS = 10

_OF_STATUS = {
    UploadStatus.ACCEPTED: EventType.ACCEPTED,
    UploadStatus.SCHEDULED: EventType.ACCEPTED,
    UploadStatus.REJECTED: EventType.REJECTED,
    UploadStatus.LIVE: EventType.LIVE,
    UploadStatus.PARTIALLY_LIVE: EventType.PARTIALLY_LIVE,
    UploadStatus.FAILED: EventType.INSTALL_FAILED,
    UploadStatus.SUPERSEDED: EventType.SUPERSEDED,
}


async def tell(cloud: Cloud, name: str) -> None:
    """Tell uploader and other services what the upload's row says now."""
    record = await tag(cloud, name)
    if record is not None:
        await announce(cloud, record)


async def tag(cloud: Cloud, name: str) -> UploadRecord | None:
    """Write the status on the blob, where its uploader sees it; again when the status changed meanwhile.

    Returns:
        The upload's row as it was read last.
    """
    record = await cloud.state.uploads.get(name)
    for _ in range(TAG_ROUNDS):
        if record is None or record.status in {UploadStatus.REMOVED, UploadStatus.RECEIVED}:
            break
        wanted = status_tags(record)
        if scheme_of(name) != BLOB_SCHEME or not await cloud.uploads.set_tags(name, wanted):
            break
        record = await cloud.state.uploads.get(name)
        if record is None or status_tags(record) == wanted:
            break
    return record


async def announce(cloud: Cloud, record: UploadRecord) -> None:
    """Have the event sent that this status calls for, unless that was done."""
    if cloud.topic is None or is_announced(record):
        return
    now, event_id = cloud.now(), new_event_id()

    def change(current: UploadRecord | None) -> UploadRecord | None:
        return None if current is None else announced(current, at=now, event_id=event_id)

    if (await cloud.state.uploads.update(record.name, change)).changed:
        await send_due(cloud, record.name)


def announced(record: UploadRecord, *, at: datetime, event_id: str) -> UploadRecord:
    """Enter into an upload's row the event that its status calls for, unless that was done.

    Args:
        record: The row.
        at: When it came to that status.
        event_id: The event's id.
    """
    kind = event_type(record)
    if kind is None or is_announced(record):
        return record
    return replace(with_event(record, record, kind, at=at, event_id=event_id), announced=_token(record, kind))


def event_type(record: UploadRecord) -> EventType | None:
    """The event that an upload's status calls for; None while nothing is decided."""
    if record.status is UploadStatus.REMOVED:
        return EventType.REMOVED if record.live == 0 else None
    return _OF_STATUS.get(record.status)


def is_announced(record: UploadRecord) -> bool:
    """Whether the event that this status calls for was put on the outbox; true where it calls for none."""
    kind = event_type(record)
    return kind is None or record.announced == _token(record, kind)


def _token(record: UploadRecord, kind: EventType) -> str:
    """Names a status of a look at an upload, so that each is announced once however often it is derived."""
    return f"{record.revision}/{kind.value}"
