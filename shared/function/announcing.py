"""Saying what became of an upload: to its uploader in the blob's tags, to other services in events.

The event is entered into the row with the status it is about, and sent from there (`outbox`): at least once. Which tags
were written is entered too (`tagging`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bounded import together
from shared.function.outbox import new_event_id, with_event
from shared.function.sending import send_now
from shared.function.tagging import is_tagged, is_to_be_tagged, is_untold, tag
from shared.messages import EventType
from shared.state.records import UploadRecord, UploadStatus
from shared.state.telling import with_reasons

if TYPE_CHECKING:
    from datetime import datetime

    from shared.function.cloud import Cloud
    from shared.function.turn import Change
    from shared.state.rows import Held

TELL_ROUNDS = 10

_OF_STATUS = {
    UploadStatus.ACCEPTED: EventType.ACCEPTED,
    UploadStatus.SCHEDULED: EventType.ACCEPTED,
    UploadStatus.REJECTED: EventType.REJECTED,
    UploadStatus.LIVE: EventType.LIVE,
    UploadStatus.PARTIALLY_LIVE: EventType.PARTIALLY_LIVE,
    UploadStatus.FAILED: EventType.INSTALL_FAILED,
    UploadStatus.SUPERSEDED: EventType.SUPERSEDED,
}


async def tell(cloud: Cloud, record: UploadRecord) -> Change:
    """Tell uploader and other services what an upload's row says; what cannot be told now is left to the sweep.

    Args:
        cloud: Where they are told.
        record: The row as it was written last.

    Returns:
        What enters into the row that this was told.
    """
    tagged, sent = await together(tag(cloud, record), send_now(cloud, record))

    def told(current: UploadRecord) -> UploadRecord:
        return tagged.entered(sent.entered(current))

    return told


async def tell_all(cloud: Cloud, held: Held[UploadRecord]) -> None:
    """Tell what an upload's row says, and enter that; again where the row was changed meanwhile."""
    for _ in range(TELL_ROUNDS):
        record = held.value
        if record is None or not (record.due or is_to_be_tagged(cloud, record) or not is_tagged(record)):
            return
        told = await tell(cloud, record)
        held = (await cloud.state.uploads.update(record.name, lambda r, t=told: r and t(r), held)).held  # type: ignore[misc]
        if held.value is None or not is_untold(cloud, held.value):
            return


async def tell_once_more(cloud: Cloud, name: str, told: Change) -> None:
    """Enter what was told into an upload's row that others have written since, and tell what that says."""
    await tell_all(cloud, (await cloud.state.uploads.update(name, lambda record: record and told(record))).held)


async def tell_as_it_is(cloud: Cloud, name: str) -> None:
    """Tell what an upload's row says now, and was not told."""
    await tell_all(cloud, await cloud.state.uploads.read(name))


async def announce(cloud: Cloud, record: UploadRecord) -> None:
    """Have the event sent that this status calls for, unless that was done."""
    if not cloud.outlets or is_announced(record):
        return
    now, event_id = cloud.now(), new_event_id()
    [about] = await with_reasons(cloud.state, [record], now)

    def change(current: UploadRecord | None) -> UploadRecord | None:
        if current is None or current.revision != record.revision or current.status is not record.status:
            return None  # it has come further, and what brought it there tells of that
        return announced(current, about=about, at=now, event_id=event_id)

    update = await cloud.state.uploads.update(record.name, change)
    if update.changed:
        await tell_all(cloud, update.held)


def announced(record: UploadRecord, *, at: datetime, event_id: str, about: UploadRecord | None = None) -> UploadRecord:
    """Enter into an upload's row the event that its status calls for, unless that was done.

    Args:
        record: The row.
        about: The same as it is told, where that is otherwise.
        at: When it came to that status.
        event_id: The event's id.
    """
    kind = event_type(record)
    if kind is None or is_announced(record):
        return record
    event = with_event(record, about or record, kind, at=at, event_id=event_id)
    return replace(event, announced=_token(record, kind))


def announced_once(before: UploadRecord, after: UploadRecord, *, at: datetime, event_id: str) -> UploadRecord:
    """As `announced`, but for a verdict on a version that an earlier look came to as well: that was told.

    Args:
        before: The row as that look left it.
        after: The row by this one.
        at: When this one came to it.
        event_id: The event's id.
    """
    kind = event_type(after)
    same = _verdict(before) == _verdict(after)
    if kind is not None and same and before.announced.endswith(f"/{kind.value}"):
        return replace(after, announced=_token(after, kind))
    return announced(after, at=at, event_id=event_id)


def _verdict(record: UploadRecord) -> tuple[object, ...]:
    return record.status, record.source_etag, record.violations


def event_type(record: UploadRecord) -> EventType | None:
    """The event that an upload's status calls for; None while nothing is decided."""
    if record.status is UploadStatus.REMOVED:
        return EventType.REMOVED if record.live == 0 else None
    return _OF_STATUS.get(record.status)


def is_announced(record: UploadRecord) -> bool:
    """Whether the event that this status calls for was entered into its row; true where it calls for none."""
    kind = event_type(record)
    return kind is None or record.announced == _token(record, kind)


def _token(record: UploadRecord, kind: EventType) -> str:
    """Names a status of a look at an upload, so that each is announced once however often it is derived."""
    return f"{record.revision}/{kind.value}"
