"""Telling other services what became of an upload: events put on an outbox queue, and sent from there to a topic.

The outbox keeps an unreachable topic from delaying anything; the row's `announced` column keeps a crash between the
row and the outbox from losing an event: the sweep announces whatever status was not announced. At least once.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.errors import CertcastError
from shared.function.outgoing import EventType, OutgoingEvent, announcement, encode_event, event_type
from shared.messages import MAX_BODY_BYTES, OUTBOX_QUEUE
from shared.state.document import upload_document

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.state.records import UploadRecord

log = logging.getLogger(__name__)

RETRY_DELAYS_S = (5, 15, 60, 300)
"""Waits before a topic that did not take an event is tried again; the last one repeats."""
KEEP_TRYING_S = 7 * 24 * 3600
HOSTS_SHOWN = 50


async def announce(cloud: Cloud, record: UploadRecord) -> None:
    """Put the event that this status calls for on the outbox, unless that was done."""
    kind = event_type(record)
    token = announcement(record)
    if cloud.topic is None or kind is None or record.announced == token:
        return
    await enqueue(cloud, record, kind)

    def change(current: UploadRecord | None) -> UploadRecord | None:
        return None if current is None or current.revision != record.revision else replace(current, announced=token)

    await cloud.state.uploads.update(record.name, change)


async def enqueue(cloud: Cloud, record: UploadRecord, kind: EventType, *, event_id: str = "") -> None:
    """Put one event on the outbox.

    Args:
        cloud: Whose outbox.
        record: What the event tells of.
        kind: Its type.
        event_id: Its id where whoever makes the same event again must give it the same one; empty for a new one.
    """
    document = upload_document(record)
    text = json.dumps(document, separators=(",", ":"))
    if len(text.encode()) > MAX_BODY_BYTES // 2:
        text = json.dumps(document | {"hosts": document["hosts"][:HOSTS_SHOWN], "hosts_total": len(document["hosts"])})
    event = OutgoingEvent(
        event_id=event_id or secrets.token_hex(16),
        kind=kind,
        subject=record.name,
        at=cloud.now(),
        document=text,
        traceparent=record.traceparent,
    )
    await cloud.queues.send(OUTBOX_QUEUE, encode_event(event))


async def publish(cloud: Cloud, event: OutgoingEvent) -> None:
    """Send one event to the topic; one that is not taken goes back on the outbox with a growing delay.

    Raises:
        CertcastError: Neither the topic nor the outbox could be reached; the queue delivers the message again.
    """
    if cloud.topic is None:
        log.warning("event %s for %s is dropped: no topic is set any more", event.kind.value, event.subject)
        return
    try:
        await cloud.topic.publish(event)
    except CertcastError as error:
        delay_s = RETRY_DELAYS_S[min(event.attempt, len(RETRY_DELAYS_S) - 1)]
        if (cloud.now() - event.at).total_seconds() > KEEP_TRYING_S:
            log.error("event %s for %s is given up after a week: %s", event.kind.value, event.subject, error)
            return
        log.warning("event %s for %s: %s; again in %d s", event.kind.value, event.subject, error, delay_s)
        await cloud.queues.send(OUTBOX_QUEUE, encode_event(replace(event, attempt=event.attempt + 1)), delay_s=delay_s)
