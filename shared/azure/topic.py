"""The Event Grid topic that outgoing events are published to, through azure-eventgrid, as CloudEvents 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import AzureError
from azure.core.messaging import CloudEvent
from azure.eventgrid.aio import EventGridPublisherClient

from shared.azure.errors import translated
from shared.azure.patience import Patience
from shared.azure.webhook import outlet_key
from shared.state.cloud_event import cloud_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.core.credentials_async import AsyncTokenCredential

    from shared.messages import OutgoingEvent

# The outbox tries again for a week: a topic that does not answer must not hold a worker for the SDK's five minutes.
_RETRIES = 1
_CONNECT_TIMEOUT_S = 5
_ANSWER_TIMEOUT_S = 20


class Topic:
    """One Event Grid topic with the CloudEvents input schema, as `shared.ports.Outlet`.

    Args:
        endpoint: The topic's endpoint.
        key: Its access key; empty to use an identity with the role "EventGrid Data Sender".
        credential: Makes that identity.
        source: What events name as their source.
    """

    at_once = True

    def __init__(self, endpoint: str, *, key: str, credential: Callable[[], AsyncTokenCredential], source: str) -> None:
        self.key = outlet_key("topic", endpoint)
        self.name = f"topic {urlsplit(endpoint).hostname}"
        self._endpoint = endpoint
        self._source = source
        self._client = EventGridPublisherClient(
            endpoint,
            AzureKeyCredential(key) if key else credential(),
            retry_policy=Patience(retry_total=_RETRIES),
            connection_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_ANSWER_TIMEOUT_S,
        )

    async def send(self, event: OutgoingEvent) -> str:
        try:
            await self._client.send(CloudEvent.from_dict(cloud_event(event, source=self._source)))
        except AzureError as error:
            raise translated(error, f"publishing to topic {self._endpoint}") from None
        return "taken"

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
