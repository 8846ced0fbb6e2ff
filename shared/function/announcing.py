"""Saying what became of an upload: to its uploader in the blob's tags, to other services in events, in its history.

Event and entry are entered into the row with the status they are about, under one id, and go from there to a topic
(`outbox`) and to a table (`history`): at least once. Which tags were written is entered too (`tagging`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bounded import together
from shared.function.history import entry_about, entry_on_verdict, is_to_be_kept, keep, with_entry, without_entries
from shared.function.outbox import new_event_id, with_event
from shared.function.sending import send_now
from shared.function.tagging import is_tagged, is_to_be_tagged, is_untold, tag
from shared.messages import EventType
from shared.state.history import HistoryKind
from shared.state.records import UploadRecord, UploadStatus
from shared.state.telling import with_reasons

if TYPE_CHECKING:
    from datetime import datetime

    from shared.function.cloud import Cloud
    from shared.function.turn import Change
    from shared.state.history import HistoryEntry
    from shared.state.rows import Held

TELL_ROUNDS = 10

_OF_STATUS = {
    UploadStatus.ACCEPTED: HistoryKind.ACCEPTED,
    UploadStatus.SCHEDULED: HistoryKind.SCHEDULED,
    UploadStatus.REJECTED: HistoryKind.REJECTED,
    UploadStatus.LIVE: HistoryKind.LIVE,
    UploadStatus.PARTIALLY_LIVE: HistoryKind.PARTIALLY_LIVE,
    UploadStatus.FAILED: HistoryKind.FAILED,
    UploadStatus.SUPERSEDED: HistoryKind.SUPERSEDED,
}


async def tell(cloud: Cloud, record: UploadRecord) -> Change:
    """Tell uploader and other services what an upload's row says; what cannot be told now is left to the sweep.

    Args:
        cloud: Where they are told.
        record: The row as it was written last.

    Returns:
        What enters into the row that this was told.
    """
    tagged, (sent, kept) = await together(tag(cloud, record), together(send_now(cloud, record), keep(cloud, record)))

    def told(current: UploadRecord) -> UploadRecord:
        return tagged.entered(without_entries(sent.entered(current), kept))

    return told


async def tell_all(cloud: Cloud, held: Held[UploadRecord]) -> None:
    """Tell what an upload's row says, and enter that; again where the row was changed meanwhile."""
    for _ in range(TELL_ROUNDS):
        record = held.value
        if record is None or not _is_to_be_told(cloud, record):
            return
        told = await tell(cloud, record)
        held = (await cloud.state.uploads.update(record.name, lambda r, t=told: r and t(r), held)).held  # type: ignore[misc]
        if held.value is None or not is_untold(cloud, held.value):
            return


def _is_to_be_told(cloud: Cloud, record: UploadRecord) -> bool:
    is_unsaid = bool(record.due) or is_to_be_kept(cloud, record)
    return is_unsaid or is_to_be_tagged(cloud, record) or not is_tagged(record)


async def tell_once_more(cloud: Cloud, name: str, told: Change) -> None:
    """Enter what was told into an upload's row that others have written since, and tell what that says."""
    await tell_all(cloud, (await cloud.state.uploads.update(name, lambda record: record and told(record))).held)


async def tell_as_it_is(cloud: Cloud, name: str) -> None:
    """Tell what an upload's row says now, and was not told."""
    await tell_all(cloud, await cloud.state.uploads.read(name))


async def announce(cloud: Cloud, record: UploadRecord) -> None:
    """Have the event sent that this status calls for, unless that was done."""
    if not cloud.tells_others or is_announced(record):
        return
    now, event_id = cloud.now(), new_event_id()
    [about] = await with_reasons(cloud.state, [record], now)

    def change(current: UploadRecord | None) -> UploadRecord | None:
        if current is None or current.revision != record.revision or current.status is not record.status:
            return None  # it has come further, and what brought it there tells of that
        return announced(current, about=about, at=now, event_id=event_id, outgoing=True)

    update = await cloud.state.uploads.update(record.name, change)
    if update.changed:
        await tell_all(cloud, update.held)


def announced(
    record: UploadRecord,
    *,
    at: datetime,
    event_id: str,
    outgoing: bool,
    about: UploadRecord | None = None,
    entry: HistoryEntry | None = None,
) -> UploadRecord:
    """Enter into an upload's row the event that its status calls for, and the entry of its history, unless done.

    Args:
        record: The row.
        at: When it came to that status.
        event_id: The id of both.
        outgoing: Whether events go anywhere.
        about: The row as it is told, where that is otherwise.
        entry: The entry where more is to be said than the row tells.
    """
    kind = event_type(record)
    if kind is None or is_announced(record):
        return record
    told = about or record
    after = with_entry(record, entry or _entry(record, told, at=at, entry_id=event_id))
    if outgoing:
        after = with_event(after, told, kind, at=at, event_id=event_id)
    return replace(after, announced=_token(record, kind))


def _entry(record: UploadRecord, told: UploadRecord, *, at: datetime, entry_id: str) -> HistoryEntry:
    seconds = None
    if record.status is UploadStatus.LIVE and record.live_at is not None:
        # Of a row by a version that kept no history it was never said: it is said as of then.
        at = at if record.announced else record.live_at
        seconds = record.seconds_to_live if at == record.live_at else None
    elif record.status is UploadStatus.REMOVED and record.fanned_out_at is not None:
        seconds = (at - record.fanned_out_at).total_seconds()
    kind = HistoryKind.REMOVED if record.status is UploadStatus.REMOVED else _OF_STATUS[record.status]
    return entry_about(told, kind, at=at, entry_id=entry_id, seconds=seconds)


def announced_once(
    before: UploadRecord, after: UploadRecord, *, at: datetime, event_id: str, outgoing: bool
) -> UploadRecord:
    """As `announced`, but for a verdict on a version that an earlier look came to as well: that was told.

    Args:
        before: The row as that look left it.
        after: The row by this one.
        at: When this one came to it.
        event_id: The id of event and entry.
        outgoing: As for `announced`.
    """
    after = told_before(before, after)
    entry = None
    if (kind := _OF_STATUS.get(after.status)) is not None:
        entry = entry_on_verdict(before, after, kind, at=at, entry_id=event_id)
    return announced(after, at=at, event_id=event_id, outgoing=outgoing, entry=entry)


def told_before(before: UploadRecord, after: UploadRecord) -> UploadRecord:
    """An upload's row by a later look: where what the look before came to was told and is no other, it is told."""
    kind = EventType.REMOVED if after.status is UploadStatus.REMOVED else event_type(after)
    same = _verdict(before) == _verdict(after)
    if kind is not None and same and before.announced.endswith(f"/{kind.value}"):
        return replace(after, announced=f"{after.revision}/{kind.value}")
    mine = f"{after.revision}/"
    return after if after.announced.startswith(mine) else replace(after, announced=mine)


def to_be_told_again(record: UploadRecord) -> UploadRecord:
    """An upload's row of which nothing was told since its last verdict."""
    return replace(record, announced=f"{_told_of(record)}/")


def _verdict(record: UploadRecord) -> tuple[object, ...]:
    return record.status, record.source_etag, record.violations


def event_type(record: UploadRecord) -> EventType | None:
    """The event that an upload's status calls for; None while nothing is decided."""
    if record.status is UploadStatus.REMOVED:
        return EventType.REMOVED if record.live == 0 else None
    kind = _OF_STATUS.get(record.status)
    return None if kind is None else kind.event_type


def is_announced(record: UploadRecord) -> bool:
    """Whether the event that this status calls for was entered into its row; true where it calls for none."""
    kind = event_type(record)
    return kind is None or record.announced == _token(record, kind)


def _token(record: UploadRecord, kind: EventType) -> str:
    """Names a status of a verdict on an upload, so that each is announced once however often it is derived."""
    return f"{_told_of(record)}/{kind.value}"


def _told_of(record: UploadRecord) -> str:
    """The revision of the look whose verdict the row has: a later one may have begun, and not come to its own."""
    return record.announced.partition("/")[0] or str(record.revision)
