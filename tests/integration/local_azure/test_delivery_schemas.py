"""Event Grid's requests as an endpoint gets them, in each of the two schemas."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from local_azure.eventgrid.delivery import EventDelivery, RetrySchedule, Subscription
from local_azure.eventgrid.schemas import EventSchema
from local_azure.eventgrid.storage_event import Event
from shared.bounded import Delays

EVENT: Event = {
    "topic": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a",
    "subject": "/blobServices/default/containers/certificates/blobs/ü 1.pfx",
    "eventType": "Microsoft.Storage.BlobCreated",
    "id": "831e1650",
    "data": {"api": "PutBlob", "eTag": "0x8D"},
    "dataVersion": "",
    "metadataVersion": "1",
    "eventTime": "2026-03-04T05:06:07.0000890Z",
}
AS_CLOUD_EVENT = {
    "specversion": "1.0",
    "type": EVENT["eventType"],
    "source": EVENT["topic"],
    "id": EVENT["id"],
    "time": EVENT["eventTime"],
    "subject": EVENT["subject"],
    "data": EVENT["data"],
}


@dataclass
class Endpoint:
    """Keeps what it is sent; agrees to be sent more when asked in the way that it knows."""

    knows: EventSchema
    agrees: bool = True
    asked: int = 0
    notified: list[tuple[web.Request, object]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        if request.headers.get("aeg-event-type") == "Notification":
            self.notified.append((request, await request.json()))
            return web.Response(status=202)
        self.asked += 1
        if request.method == "OPTIONS":
            origin = request.headers["WebHook-Request-Origin"]
            yes = self.agrees and self.knows is EventSchema.CLOUD_EVENTS
            return web.Response(headers={"WebHook-Allowed-Origin": origin if yes else "another.example"})
        [event] = await request.json()
        yes = self.agrees and self.knows is EventSchema.EVENT_GRID
        return web.json_response({"validationResponse": event["data"]["validationCode"] if yes else "another"})


@asynccontextmanager
async def delivering(schema: EventSchema, endpoint: Endpoint) -> AsyncIterator[EventDelivery]:
    app = web.Application()
    app.router.add_route("*", "/hook", endpoint.take)
    async with TestServer(app) as server:
        subscription = Subscription(endpoint=str(server.make_url("/hook")), schema=schema)
        delivery = EventDelivery(subscription, schedule=RetrySchedule(delays=Delays((0.02,)), refused_delay_s=0.02))
        await delivery.start()
        try:
            yield delivery
        finally:
            await delivery.stop()


@pytest.mark.parametrize(
    ("schema", "content_type", "body"),
    [
        (EventSchema.EVENT_GRID, "application/json", [EVENT]),
        (EventSchema.CLOUD_EVENTS, "application/cloudevents+json", AS_CLOUD_EVENT),
    ],
)
async def test_an_event_is_delivered_alone_in_the_schema_of_the_subscription(
    schema: EventSchema, content_type: str, body: object
) -> None:
    endpoint = Endpoint(schema)
    async with delivering(schema, endpoint) as delivery:
        delivery.post(EVENT)
        async with asyncio.timeout(10):
            await delivery.idle()
    [(request, sent)] = endpoint.notified
    assert sent == body
    assert request.headers["Content-Type"] == f"{content_type}; charset=utf-8"
    given = {name.lower(): value for name, value in request.headers.items() if name.lower().startswith("aeg-")}
    assert given == {
        "aeg-event-type": "Notification",
        "aeg-subscription-name": "CERTCAST",
        "aeg-delivery-count": "0",
        "aeg-metadata-version": "1",
        "aeg-data-version": "",
    }
    assert (endpoint.asked, delivery.counts["delivered"]) == (1, 1)


@pytest.mark.parametrize("schema", [*EventSchema])
@pytest.mark.parametrize("knows", [*EventSchema])
async def test_nothing_is_delivered_until_the_endpoint_has_agreed_in_the_way_of_the_schema(
    schema: EventSchema, knows: EventSchema
) -> None:
    endpoint = Endpoint(knows, agrees=schema is not knows)
    async with delivering(schema, endpoint) as delivery:
        delivery.post(EVENT)
        async with asyncio.timeout(10):
            while endpoint.asked < 3:  # noqa: ASYNC110 - it is asked again by itself
                await asyncio.sleep(0.01)
            assert endpoint.notified == []
            endpoint.knows, endpoint.agrees = schema, True
            await delivery.idle()
    assert len(endpoint.notified) == 1
