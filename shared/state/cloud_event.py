"""Outgoing events as CloudEvents 1.0 (github.com/cloudevents/spec), and the one that tests whether they arrive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.codec import instant_text
from shared.messages import EventType, OutgoingEvent

if TYPE_CHECKING:
    from datetime import datetime

    from shared.state.document import Document

UPLOAD_SCHEMA = "urn:certcast:schema:upload:1"
"""What `data` is in events about an upload: the `$id` of docs/events/upload.schema.json."""
TEST_SCHEMA = "urn:certcast:schema:test:1"
"""What it is in a test event: the `$id` of docs/events/test.schema.json."""
TEST_SUBJECT = "certcast notify --test"


def cloud_event(event: OutgoingEvent, *, source: str) -> Document:
    """The event in the JSON format of CloudEvents.

    Args:
        event: The event.
        source: The deployment that it comes from, a URI reference.
    """
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": source,
        "type": event.kind.value,
        "subject": event.subject,
        "time": instant_text(event.at),
        "datacontenttype": "application/json",
        "dataschema": TEST_SCHEMA if event.kind is EventType.TEST else UPLOAD_SCHEMA,
        "data": json.loads(event.document),
    }
    if event.traceparent:
        document["traceparent"] = event.traceparent
    return document


def trial_event(*, at: datetime, event_id: str) -> OutgoingEvent:
    """An event of type Certcast.Test, whose data has some fields of an upload's, so that what shows those shows it."""
    data = {
        "name": TEST_SUBJECT,
        "status": "test",
        "reason": "Nothing happened: this shows that events arrive here.",
        "hosts": [],
    }
    return OutgoingEvent(event_id=event_id, kind=EventType.TEST, subject=TEST_SUBJECT, at=at, document=json.dumps(data))


def attempt_document(outlet: str, answer: str, *, taken: bool, seconds: float) -> Document:
    """What became of a test event at one outlet.

    Args:
        outlet: What people are told of the outlet.
        answer: What it answered, or why there is no answer.
        taken: Whether it took the event.
        seconds: How long that took.
    """
    return {"outlet": outlet, "taken": taken, "answer": answer, "seconds": round(seconds, 3)}
