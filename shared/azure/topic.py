"""The Event Grid topic that outgoing events are published to, through azure-eventgrid, as CloudEvents 1.0."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import AzureError
from azure.core.messaging import CloudEvent
from azure.eventgrid.aio import EventGridPublisherClient

from shared.azure.errors import translated
from shared.azure.patience import Patience
from shared.telemetry.names import Kind, Stage
from shared.telemetry.spans import span

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.core.credentials_async import AsyncTokenCredential

    from shared.messages import OutgoingEvent

SOURCE = "/certcast"

# The outbox tries again for a week: a topic that does not answer must not hold a worker for the SDK's five minutes.
_RETRIES = 1
_CONNECT_TIMEOUT_S = 5
_ANSWER_TIMEOUT_S = 20


class Topic:
    """One Event Grid topic with the CloudEvents input schema, as `shared.ports.EventTopic`.

    Args:
        endpoint: The topic's endpoint.
        key: Its access key; empty to use an identity with the role "EventGrid Data Sender".
        credential: Makes that identity.
    """

    def __init__(self, endpoint: str, *, key: str, credential: Callable[[], AsyncTokenCredential]) -> None:
        self._endpoint = endpoint
        self._client = EventGridPublisherClient(
            endpoint,
            AzureKeyCredential(key) if key else credential(),
            retry_policy=Patience(retry_total=_RETRIES),
            connection_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_ANSWER_TIMEOUT_S,
        )

    async def publish(self, event: OutgoingEvent) -> None:
        extensions = {"traceparent": event.traceparent} if event.traceparent else None
        cloud_event = CloudEvent(
            source=SOURCE,
            type=event.kind.value,
            subject=event.subject,
            id=event.event_id,
            time=event.at,
            data=json.loads(event.document),
            datacontenttype="application/json",
            extensions=extensions,
        )
        with span(Stage.PUBLISH, of=event.traceparent or None, kind=Kind.PRODUCER, upload=event.subject):
            try:
                await self._client.send(cloud_event)
            except AzureError as error:
                raise translated(error, f"publishing to topic {self._endpoint}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
