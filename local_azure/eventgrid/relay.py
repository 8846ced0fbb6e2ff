"""The Event Grid relay: stands in front of Azurite's blob service and posts the event for every write that succeeded.

`blob_request.py` reads what a request changes, `storage_event.py` makes its event; requests travel through
`proxy/passthrough.py`, and events through `delivery.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import hdrs, web
from azure.core.exceptions import AzureError
from azure.storage.blob.aio import BlobServiceClient

from local_azure.eventgrid.blob_request import Operation, batch_changes, batch_successes, blob_change, is_batch
from local_azure.eventgrid.ordered_writes import WriteOrder
from local_azure.eventgrid.storage_event import BlobFacts, Sequencer, event_type, storage_event
from local_azure.processes.listening import LOOPBACK, listen
from local_azure.proxy.counting import RELAY, user_agent
from local_azure.proxy.passthrough import Passthrough, body_of, runner_of
from shared.config import EMULATOR_ACCOUNT
from shared.phrasing import logger

if TYPE_CHECKING:
    from local_azure.azurite import StorageEndpoints
    from local_azure.eventgrid.blob_request import BlobChange
    from local_azure.eventgrid.delivery import EventDelivery

log = logger("certcast.eventgrid")

_HTTP_SUCCESS = range(200, 300)


class EventGridRelay:
    """A relay in front of an Azurite.

    Args:
        upstream: The account's own endpoints: Azurite's, or those of a proxy before it.
        delivery: The subscription its events go to; started and stopped with the relay.

    Attributes:
        delivery: As given.
        port: The port it listens on, which clients take for the account's blob service.
    """

    def __init__(self, upstream: StorageEndpoints, delivery: EventDelivery) -> None:
        self.delivery = delivery
        self.port = 0
        self._order = WriteOrder()
        self._sequencer = Sequencer()
        self._passthrough = Passthrough(f"http://{LOOPBACK}:{upstream.blob_port}")
        self._blobs = BlobServiceClient.from_connection_string(
            upstream.connection_string, retry_total=0, user_agent=user_agent(RELAY)
        )
        self._runner = runner_of(self._handle)

    async def start(self, port: int = 0) -> Self:
        """Begin to answer requests, on a free port for 0, and to deliver events.

        Raises:
            ConfigurationError: The port is taken or not allowed; the text names the cure.
        """
        try:
            self.port = await listen(self._runner, LOOPBACK, port, "the blob service")
            await self.delivery.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        """Stop accepting requests and delivering events; what is undelivered is forgotten."""
        await self._runner.cleanup()
        await self.delivery.stop()
        await self._passthrough.close()
        await self._blobs.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            if is_batch(request.method, request.raw_path):
                return await self._batch(request)
            change = blob_change(request.method, request.raw_path, request.host, request.headers)
            if change is not None and self.delivery.subscription.wants(event_type(change), change.subject):
                return await self._change(request, change)
            body = body_of(request) if request.can_read_body else None
            async with self._passthrough.send(request, body) as answer:
                return await self._passthrough.answer(request, answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("Azurite did not answer %s %s (%s)", request.method, request.path, type(error).__name__)
            return web.Response(status=503, headers={"x-ms-error-code": "ServerBusy"}, text="Azurite does not answer.")

    async def _change(self, request: web.Request, change: BlobChange) -> web.StreamResponse:
        with self._order.slot([(change.container, change.blob)]) as slot:
            facts = BlobFacts()
            if change.operation is Operation.DELETE_BLOB:
                await slot.take()
                facts = await self._facts(change)
            elif not request.can_read_body:
                await slot.take()
            body = body_of(request, slot.take) if request.can_read_body else None
            async with self._passthrough.send(request, body) as answer:
                if answer.status in _HTTP_SUCCESS:
                    if change.operation is not Operation.DELETE_BLOB:
                        facts = _put_facts(change, request, answer) or await self._facts(change, answer)
                    self._post(change, facts, answer.headers.get("x-ms-request-id", ""), request)
                slot.end()
                return await self._passthrough.answer(request, answer)

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = {
            content_id: change
            for content_id, change in batch_changes(
                request.headers.get(hdrs.CONTENT_TYPE, ""), body, request.host
            ).items()
            if self.delivery.subscription.wants(event_type(change), change.subject)
        }
        with self._order.slot((change.container, change.blob) for change in asked.values()) as slot:
            await slot.take()
            facts = {content_id: await self._facts(change) for content_id, change in asked.items()}
            async with self._passthrough.send(request, body) as answer:
                said = await answer.read()
                done = batch_successes(answer.headers.get(hdrs.CONTENT_TYPE, ""), said)
                for content_id in asked.keys() & done.keys():
                    self._post(asked[content_id], facts[content_id], done[content_id], request)
                slot.end()
                return await self._passthrough.answer(request, answer, said)

    async def _facts(self, change: BlobChange, answer: aiohttp.ClientResponse | None = None) -> BlobFacts:
        """Look the blob up in the request's slot: its event says more than request and answer do."""
        try:
            blob = await self._blobs.get_blob_client(change.container, change.blob).get_blob_properties()
        except AzureError:
            return BlobFacts(etag=_etag(answer)) if answer is not None else BlobFacts()
        return BlobFacts(
            etag=_etag(answer) if answer is not None else None,
            content_type=blob.content_settings.content_type or BlobFacts().content_type,
            content_length=blob.size if answer is not None else None,
            blob_type=str(getattr(blob.blob_type, "value", blob.blob_type)),
        )

    def _post(self, change: BlobChange, facts: BlobFacts, request_id: str, request: web.Request) -> None:
        event = storage_event(
            change,
            facts,
            account_url=f"http://{LOOPBACK}:{self.port}/{EMULATOR_ACCOUNT}",
            request_id=request_id,
            client_request_id=request.headers.get("x-ms-client-request-id"),
            sequencer=self._sequencer.next(),
            now=datetime.now(UTC),
        )
        self.delivery.post(event)


def _put_facts(change: BlobChange, request: web.Request, answer: aiohttp.ClientResponse) -> BlobFacts | None:
    """The facts in the request that put a blob; None where it does not hold all of them."""
    blob_type = request.headers.get("x-ms-blob-type", "")
    if change.operation is not Operation.PUT_BLOB or request.content_length is None or blob_type == "PageBlob":
        return None
    headers = request.headers
    return BlobFacts(
        etag=_etag(answer),
        content_type=headers.get("x-ms-blob-content-type")
        or headers.get(hdrs.CONTENT_TYPE)
        or BlobFacts().content_type,
        content_length=request.content_length,
        blob_type=blob_type,
    )


def _etag(answer: aiohttp.ClientResponse) -> str:
    return answer.headers.get(hdrs.ETAG, "").strip('"')
