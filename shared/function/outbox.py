"""The outbox of events for other services: kept in the upload's row until each outlet has taken them.

The event stands in the row before anything is sent (`sending`), so that no crash loses it; beside it stands which
outlets are done with it. On the queue `certificate-recheck` only the names of upload and outlet travel: who can write
there can have an event sent that is due, and none of their own making.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.messages import RECHECK_QUEUE, EventType, OutgoingEvent, RecheckUpload, encode
from shared.state.document import upload_document

if TYPE_CHECKING:
    from datetime import datetime

    from shared.function.cloud import Cloud
    from shared.state.records import UploadRecord

ASKED_AFTER = timedelta(minutes=1)
ASKED_EVERY = timedelta(minutes=5)
"""When the sweep has an event sent that should have been, and how often it does so while an outlet is away."""
MAX_DUE = 20
"""Events of one upload that wait for an outlet; beyond it the oldest are dropped."""
MAX_DOCUMENT_BYTES = 20_000
HOSTS_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What outlets are done with.

    Attributes:
        outlets: The keys of all outlets that there are.
        by: The keys of those that are done with an event, by the event's id.
    """

    outlets: frozenset[str]
    by: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def entered(self, record: UploadRecord) -> UploadRecord:
        """The upload's row with that in it; events that no outlet waits for are taken out."""
        if not self.outlets or not record.due:
            return record
        noted = (_noted(event, self.by.get(event.event_id, frozenset())) for event in record.due)
        left = tuple(event for event in noted if not self.outlets.issubset(event.taken))
        return replace(record, due=left, due_asked_at=record.due_asked_at if left else None)


def _noted(event: OutgoingEvent, keys: frozenset[str]) -> OutgoingEvent:
    return replace(event, taken=(*event.taken, *sorted(keys.difference(event.taken))))


def pending(record: UploadRecord, outlet: str) -> list[OutgoingEvent]:
    """The events of an upload that an outlet, named by its key, is not done with, in their order."""
    return [event for event in record.due if outlet not in event.taken]


def with_event(
    record: UploadRecord, about: UploadRecord, kind: EventType, *, at: datetime, event_id: str
) -> UploadRecord:
    """Enter an event into the upload's row.

    Args:
        record: The row.
        about: What the event tells of: the row, or the certificate in place where that is another.
        kind: Its type.
        at: When it happened.
        event_id: Its id, by which a receiver drops what it has seen.
    """
    event = OutgoingEvent(
        event_id=event_id,
        kind=kind,
        subject=record.name,
        at=at,
        document=_document(about),
        traceparent=record.traceparent,
    )
    return replace(record, due=(*record.due, event)[-MAX_DUE:])


def new_event_id() -> str:
    """A random id."""
    return secrets.token_hex(16)


def _document(about: UploadRecord) -> str:
    document = upload_document(about)
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        text = json.dumps(document | {"hosts": document["hosts"][:HOSTS_SHOWN], "hosts_total": len(document["hosts"])})
    return text


async def send_due(cloud: Cloud, name: str, *, outlet: str = "", attempt: int = 0, delay_s: float = 0) -> None:
    """Have the events that stand in an upload's row sent, after a delay, to one outlet or to all."""
    message = RecheckUpload(name=name, attempt=attempt, events=True, outlet=outlet)
    await cloud.queues.send(RECHECK_QUEUE, encode(message), delay_s=delay_s)


def is_overdue(record: UploadRecord, now: datetime) -> bool:
    """Whether the sweep should have an upload's events sent: no message about them can be on its way any more."""
    if not record.due:
        return False
    if record.due_asked_at is None:
        return now - record.due[0].at >= ASKED_AFTER
    return now - record.due_asked_at >= ASKED_EVERY


async def send_overdue(cloud: Cloud, record: UploadRecord) -> None:
    """Have events sent that are overdue, and note when that was asked for."""
    await send_due(cloud, record.name)
    now = cloud.now()

    def change(current: UploadRecord | None) -> UploadRecord | None:
        return None if current is None or not current.due else replace(current, due_asked_at=now)

    await cloud.state.uploads.update(record.name, change)
