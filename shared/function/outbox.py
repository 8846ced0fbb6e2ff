"""The outbox of events for other services: kept in the upload's row, sent from there to a topic, at least once.

The event stands in the row before anything is sent, so that no crash loses it. It is sent at once, beside what else is
told; where the topic does not take it then, it is sent by way of the queue `certificate-recheck`, on which only the
upload's name travels: who can write to that queue can have an event sent that is due, and none of their own making. A
topic that does not answer holds up the status of one upload in ten seconds, by a second, and no installation.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import replace
from datetime import timedelta
from logging import INFO, WARNING
from typing import TYPE_CHECKING

from shared.bounded import Delays
from shared.errors import AccessDeniedError, BusyError, CertcastError
from shared.messages import RECHECK_QUEUE, EventType, OutgoingEvent, RecheckUpload, encode
from shared.phrasing import logger
from shared.state.document import upload_document

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from shared.function.cloud import Cloud
    from shared.state.records import UploadRecord

log = logger(__name__)

PROMPT_S = 1.0
"""How long an upload's own work may wait for the topic."""
TROUBLED_S = 10.0
"""After the topic did not take an event in that time, none is sent at once for so long."""
AWAY_S = 4.0
"""After the topic did not take an event by way of the queue, no other is tried for so long: thousands may wait, and
each may keep a look on the same queue from its turn. Less than the first of the waits that follow."""
RETRY_DELAYS = Delays((5, 15, 60))
"""Waits before a topic that did not take an event is tried again; after the last it is the sweep's turn."""
ASKED_AFTER = timedelta(minutes=1)
ASKED_EVERY = timedelta(minutes=5)
"""When the sweep has an event sent that should have been, and how often it does so while the topic is away."""
KEEP_TRYING = timedelta(days=7)
MAX_DUE = 20
"""Events of one upload that wait for the topic; beyond it the oldest are dropped."""
MAX_DOCUMENT_BYTES = 20_000
HOSTS_SHOWN = 50


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


def without_events(record: UploadRecord, ids: Collection[str]) -> UploadRecord:
    """Take events that were sent out of the upload's row."""
    if not ids:
        return record
    left = tuple(event for event in record.due if event.event_id not in ids)
    return replace(record, due=left, due_asked_at=record.due_asked_at if left else None)


def new_event_id() -> str:
    """A random id."""
    return secrets.token_hex(16)


def _document(about: UploadRecord) -> str:
    document = upload_document(about)
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        text = json.dumps(document | {"hosts": document["hosts"][:HOSTS_SHOWN], "hosts_total": len(document["hosts"])})
    return text


async def send_now(cloud: Cloud, record: UploadRecord) -> frozenset[str]:
    """Send the events that stand in an upload's row; what the topic does not take at once goes by way of the queue.

    Returns:
        The ids of those that were sent.
    """
    sent: set[str] = set()
    loop = asyncio.get_running_loop()
    if cloud.topic is None or not record.due:
        return frozenset()
    if loop.time() >= cloud.topic_trouble.until:
        try:
            async with asyncio.timeout(PROMPT_S):
                for event in record.due:
                    await cloud.topic.publish(replace(event, subject=record.name))
                    sent.add(event.event_id)
        except (CertcastError, TimeoutError) as error:
            cloud.topic_trouble.until = loop.time() + TROUBLED_S
            log.info("event for %s: not taken at once (%s)", record.name, str(error) or "no answer yet")
    if len(sent) < len(record.due):
        try:
            await send_due(cloud, record.name)
        except CertcastError as error:
            log.warning("event for %s: the sweep has it sent, it could not be put off: %s", record.name, error)
    return frozenset(sent)


async def send_due(cloud: Cloud, name: str, *, attempt: int = 0, delay_s: float = 0) -> None:
    """Have the events that stand in an upload's row sent, after a delay."""
    message = RecheckUpload(name=name, attempt=attempt, events=True)
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


async def publish(cloud: Cloud, name: str, *, attempt: int = 0) -> None:
    """Send the events that stand in an upload's row to the topic, in order; what is not taken is tried again.

    Args:
        cloud: Where they are sent.
        name: The upload.
        attempt: Counts the tries so far.

    Raises:
        CertcastError: The row or the queue could not be reached; the queue delivers the message again.
    """
    record = await cloud.state.uploads.get(name)
    if record is None or not record.due:
        return
    if cloud.topic is None:
        log.warning("upload %s: %d event(s) are dropped, no topic is set any more", record.name, len(record.due))
        await _taken(cloud, record, record.due)
        return
    clock, trouble = asyncio.get_running_loop().time, cloud.topic_trouble
    for event in record.due:
        if clock() < trouble.away_until:
            await _again(cloud, event, max(0, attempt), BusyError("the topic did not take another one a moment ago"))
            return
        try:
            await cloud.topic.publish(replace(event, subject=record.name))
        except CertcastError as error:
            if not _is_hopeless(error) and cloud.now() - event.at <= KEEP_TRYING:
                trouble.away_until = clock() + AWAY_S
                await _again(cloud, event, max(0, attempt), error)
                return
            log.error("event %s for %s is given up: %s", event.kind.value, record.name, error)
        await _taken(cloud, record, (event,))


def _is_hopeless(error: CertcastError) -> bool:
    """Whether the topic refuses the event itself; a role may still be granted."""
    return not error.retriable and not isinstance(error, AccessDeniedError)


async def _again(cloud: Cloud, event: OutgoingEvent, attempt: int, error: CertcastError) -> None:
    level = INFO if isinstance(error, BusyError) else WARNING
    if attempt >= len(RETRY_DELAYS.seconds):
        log.log(level, "event %s for %s: %s; the sweep tries again", event.kind.value, event.subject, error)
        return
    delay_s = RETRY_DELAYS[attempt]
    log.log(level, "event %s for %s: %s; again in %d s", event.kind.value, event.subject, error, delay_s)
    await send_due(cloud, event.subject, attempt=attempt + 1, delay_s=delay_s)


async def _taken(cloud: Cloud, record: UploadRecord, events: tuple[OutgoingEvent, ...]) -> None:
    ids = {event.event_id for event in events}
    await cloud.state.uploads.update(record.name, lambda current: current and without_events(current, ids))
