"""The two schemas a subscription may have its events in, and the requests that Event Grid makes in each.

https://learn.microsoft.com/azure/event-grid/cloud-event-schema: events of Azure's own sources say the same in both, and
but for the Content-Type the headers are the same too. The handshakes differ:
https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema and
https://learn.microsoft.com/azure/event-grid/end-point-validation-cloud-events-schema.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from local_azure.eventgrid.storage_event import TOPIC, event_time

_ORIGIN = "eventgrid.azure.net"


class EventSchema(StrEnum):
    """A subscription's schema; the values are Azure's own (`eventDeliverySchema`)."""

    EVENT_GRID = "EventGridSchema"
    CLOUD_EVENTS = "CloudEventSchemaV1_0"


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRequest:
    """One request of Event Grid's to an endpoint.

    Attributes:
        method: HTTP method.
        headers: Its headers.
        body: Its body; empty for none.
    """

    method: str = "POST"
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """How an endpoint is asked whether it wants events.

    Attributes:
        request: The question.
        code: What the answer's body must repeat; empty where its headers must name the origin.
    """

    request: GridRequest
    code: str = field(default="", repr=False)

    def agreed(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether an answer says yes.

        Args:
            headers: Of the answer, in a mapping that ignores case.
            body: Of the answer.
        """
        if not self.code:
            return headers.get("WebHook-Allowed-Origin") in {_ORIGIN, "*"}
        try:
            document = json.loads(body)
        except ValueError:
            return False
        return isinstance(document, dict) and document.get("validationResponse") == self.code


def notification(schema: EventSchema, event: Mapping[str, Any], *, deliveries: int) -> GridRequest:
    """The request that delivers one event.

    Args:
        schema: The subscription's.
        event: In the Event Grid schema, as sources emit it.
        deliveries: How often it was tried before.
    """
    if schema is EventSchema.EVENT_GRID:
        return _request("Notification", [event], "application/json", event, deliveries)
    cloud_event = {
        "specversion": "1.0",
        "type": event["eventType"],
        "source": event["topic"],
        "id": event["id"],
        "time": event["eventTime"],
        "subject": event["subject"],
        "data": event["data"],
    }
    return _request("Notification", cloud_event, "application/cloudevents+json", event, deliveries)


def handshake(schema: EventSchema) -> Handshake:
    """A new question to an endpoint."""
    if schema is EventSchema.CLOUD_EVENTS:
        return Handshake(request=GridRequest(method="OPTIONS", headers={"WebHook-Request-Origin": _ORIGIN}))
    code = str(uuid.uuid4())
    event = {
        "topic": TOPIC,
        "subject": "",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "id": str(uuid.uuid4()),
        "data": {"validationCode": code, "validationUrl": ""},
        "dataVersion": "2",
        "metadataVersion": "1",
        "eventTime": event_time(datetime.now(UTC)),
    }
    return Handshake(request=_request("SubscriptionValidation", [event], "application/json", event, 0), code=code)


def _request(kind: str, document: object, content_type: str, event: Mapping[str, Any], deliveries: int) -> GridRequest:
    headers = {
        "Content-Type": f"{content_type}; charset=utf-8",
        "aeg-event-type": kind,
        "aeg-subscription-name": "CERTCAST",
        "aeg-delivery-count": str(deliveries),
        "aeg-metadata-version": "1",
        "aeg-data-version": str(event["dataVersion"]),
    }
    return GridRequest(headers=headers, body=json.dumps(document).encode())
