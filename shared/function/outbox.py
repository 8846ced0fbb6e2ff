"""The outbox of events for other services: put there with the status, sent from there to a topic, at least once.

The outbox keeps an unreachable topic from delaying anything else.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bounded import Delays
from shared.errors import CertcastError
from shared.messages import MAX_BODY_BYTES, OUTBOX_QUEUE, EventType, OutgoingEvent, encode
from shared.phrasing import logger
from shared.state.document import upload_document

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.state.records import UploadRecord

log = logger(__name__)

RETRY_DELAYS = Delays((5, 15, 60, 300))
"""Waits before a topic that did not take an event is tried again."""
KEEP_TRYING_S = 7 * 24 * 3600
HOSTS_SHOWN = 50


async def enqueue(cloud: Cloud, record: UploadRecord, kind: EventType, *, event_id: str = "") -> None:
    """Put one event on the outbox.

    Args:
        cloud: Whose outbox.
        record: What the event tells of.
        kind: Its type.
        event_id: Its id where the same event, made again, must have the same one; empty for a new one.
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
    await cloud.queues.send(OUTBOX_QUEUE, encode(event))


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
        if (cloud.now() - event.at).total_seconds() > KEEP_TRYING_S:
            log.error("event %s for %s is given up after a week: %s", event.kind.value, event.subject, error)
            return
        delay_s = RETRY_DELAYS[event.attempt]
        log.warning("event %s for %s: %s; again in %d s", event.kind.value, event.subject, error, delay_s)
        await cloud.queues.send(OUTBOX_QUEUE, encode(replace(event, attempt=event.attempt + 1)), delay_s=delay_s)
