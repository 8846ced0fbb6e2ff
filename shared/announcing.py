"""Telling other services what became of an upload: events put on an outbox queue, and sent from there to a topic.

The outbox keeps an unreachable topic from delaying anything; the row's `announced` column keeps a crash between the
row and the outbox from losing an event: the sweep announces whatever status was not announced. At least once.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.codec import from_document, to_document
from shared.errors import BrokenMessageError, CertcastError
from shared.messages import MAX_BODY_BYTES, MESSAGE_VERSION, OUTBOX_QUEUE
from shared.state import UploadRecord, UploadStatus
from shared.status import upload_document

if TYPE_CHECKING:
    from shared.cloud import Cloud

log = logging.getLogger(__name__)

RETRY_DELAYS_S = (5, 15, 60, 300)
"""Waits before a topic that did not take an event is tried again; the last one repeats."""
KEEP_TRYING_S = 7 * 24 * 3600
HOSTS_SHOWN = 50


class EventType(StrEnum):
    """CloudEvents types; stable, and each described by a JSON schema in docs/events."""

    ACCEPTED = "Certcast.CertificateAccepted"
    REJECTED = "Certcast.CertificateRejected"
    LIVE = "Certcast.CertificateLive"
    PARTIALLY_LIVE = "Certcast.CertificatePartiallyLive"
    INSTALL_FAILED = "Certcast.CertificateInstallFailed"
    REMOVED = "Certcast.CertificateRemoved"
    EXPIRING = "Certcast.CertificateExpiring"
    SUPERSEDED = "Certcast.CertificateSuperseded"


_OF_STATUS = {
    UploadStatus.ACCEPTED: EventType.ACCEPTED,
    UploadStatus.SCHEDULED: EventType.ACCEPTED,
    UploadStatus.REJECTED: EventType.REJECTED,
    UploadStatus.LIVE: EventType.LIVE,
    UploadStatus.PARTIALLY_LIVE: EventType.PARTIALLY_LIVE,
    UploadStatus.FAILED: EventType.INSTALL_FAILED,
    UploadStatus.SUPERSEDED: EventType.SUPERSEDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingEvent:
    """One event on its way to the topic.

    Attributes:
        event_id: The CloudEvent's id; the same in every attempt, so that a receiver can drop what it has seen.
        kind: Its type.
        subject: The upload's name.
        at: When it happened.
        document: The upload's entry of the status document, as JSON text.
        traceparent: W3C trace context of the upload.
        attempt: Counts the tries.
    """

    event_id: str
    kind: EventType
    subject: str
    at: datetime
    document: str
    traceparent: str = ""
    attempt: int = 0


def encode_event(event: OutgoingEvent) -> str:
    """Write an event as a queue message."""
    return json.dumps({"version": MESSAGE_VERSION, **to_document(event)}, separators=(",", ":"))


def decode_event(body: str | bytes) -> OutgoingEvent:
    """Read a queue message.

    Raises:
        BrokenMessageError: It is none.
    """
    try:
        document = json.loads(body)
    except ValueError:
        raise BrokenMessageError("an outgoing event is not JSON") from None
    return from_document(OutgoingEvent, document)


def event_type(record: UploadRecord) -> EventType | None:
    """The event that an upload's status calls for; None while nothing is decided."""
    if record.status is UploadStatus.REMOVED:
        return EventType.REMOVED if record.live == 0 else None
    return _OF_STATUS.get(record.status)


def announcement(record: UploadRecord) -> str:
    """Names a status of a look at an upload, so that each is announced once however often it is derived."""
    kind = event_type(record)
    return "" if kind is None else f"{record.revision}/{kind.value}"


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


async def enqueue(cloud: Cloud, record: UploadRecord, kind: EventType) -> None:
    """Put one event on the outbox."""
    document = upload_document(record)
    text = json.dumps(document, separators=(",", ":"))
    if len(text.encode()) > MAX_BODY_BYTES // 2:
        text = json.dumps(document | {"hosts": document["hosts"][:HOSTS_SHOWN], "hosts_total": len(document["hosts"])})
    event = OutgoingEvent(
        event_id=secrets.token_hex(16),
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
