"""The events certcast sends out: their types, which status calls for which, and their form on the outbox queue."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.codec import from_document, to_document
from shared.errors import BrokenMessageError
from shared.messages import MESSAGE_VERSION
from shared.state.records import UploadRecord, UploadStatus


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
