"""Queue triggers: polling, batches, renewal, retries and poison messages, by the Functions host's own rules.

https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue-trigger; errors are as in
QueueListener.cs and QueueProcessor.cs, poison queues as in QueueListenerFactory.cs (github.com/Azure/azure-sdk-for-net,
sdk/storage, Microsoft.Azure.WebJobs.Extensions.Storage.Common and .Queues): a queue that is missing or being deleted,
and trouble on the service's side, are waited out, and any other refusal stops the host. Unlike the cloud's, this host
also waits while the account cannot be reached.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import random
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    ResourceExistsError,
)
from azure.functions.meta import Datum

from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.storage.queue import QueueMessage
    from azure.storage.queue.aio import QueueServiceClient

    from local_azure.functions_host.calls import Invoker
    from local_azure.functions_host.index import Function
    from local_azure.functions_host.settings import QueueSettings

log = logger("certcast.host")

_POISON = "-poison"
_LONGEST_NAME = 63
_PASSING = frozenset({"QueueNotFound", "QueueBeingDeleted", "QueueDisabled", "MessageNotFound", "PopReceiptMismatch"})
_FIRST_WAIT_S = 0.1
_STOP_S = 10.0
_SERVICES_SIDE = HTTPStatus.INTERNAL_SERVER_ERROR


class Backoff:
    """How long to wait before looking at a queue again that was empty.

    The host's `RandomizedExponentialBackoffStrategy`: 100 ms, and for the n-th empty look in a row
    rand(0.8..1.2)·2^(n-1)·100 ms more, up to the longest wait.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._empty = 0

    def found_something(self) -> None:
        """Begin with the shortest wait again."""
        self._empty = 0

    def next_s(self) -> float:
        """The wait after one more empty look."""
        # Beyond this exponent the longest wait is certain, and the power would grow without end.
        growth = 2.0 ** min(self._empty, 30) * _FIRST_WAIT_S
        self._empty += 1
        return min(_FIRST_WAIT_S + random.uniform(0.8, 1.2) * growth, self._longest_s)  # noqa: S311 - no secret


class QueueListener:
    """Feeds one function from one queue.

    Args:
        function: The function.
        queue: Name of the queue; one that is a poison queue itself, or too long a name for one, has none.
        service: The account's queue service.
        invoker: Calls the function.
        settings: From host.json.
        fail: Stops the host, and says why.
    """

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        function: Function,
        queue: str,
        service: QueueServiceClient,
        invoker: Invoker,
        settings: QueueSettings,
        fail: Callable[[str], None],
    ) -> None:
        self._function = function
        self._queue = service.get_queue_client(queue)
        self._fail = fail
        named = not queue.endswith(_POISON) and len(queue + _POISON) <= _LONGEST_NAME
        self._poison = service.get_queue_client(queue + _POISON) if named else None
        self._invoker = invoker
        self._settings = settings
        self._in_hand: set[asyncio.Task[None]] = set()
        self._polling: asyncio.Task[None] | None = None
        self._troubled = False

    def start(self) -> None:
        """Begin to poll."""
        self._polling = asyncio.create_task(self._poll(), name=f"polling for {self._function.name}")

    async def stop(self) -> None:
        """Take no more messages, and let the functions that run come to their end, within reason."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=_STOP_S)
        for task in self._in_hand:
            task.cancel()
        await asyncio.gather(*self._in_hand, return_exceptions=True)

    async def _poll(self) -> None:
        backoff = Backoff(self._settings.max_polling_interval_s)
        while True:
            messages = await self._receive()
            if not messages:
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.found_something()
            for message in messages:
                task = asyncio.create_task(self._take(message), name=f"message {message.id}")
                self._in_hand.add(task)
                task.add_done_callback(self._in_hand.discard)
            while len(self._in_hand) > self._settings.new_batch_threshold:
                await asyncio.wait(self._in_hand, return_when=asyncio.FIRST_COMPLETED)

    async def _receive(self) -> list[QueueMessage]:
        """One batch; nothing where the queue is empty, missing or out of reach, which is said once."""
        pages = self._queue.receive_messages(
            messages_per_page=self._settings.batch_size, visibility_timeout=int(self._settings.invisibility_s)
        ).by_page()
        messages: list[QueueMessage] = []
        try:
            async for page in pages:
                messages = [message async for message in page]
                break
        except AzureError as error:
            if is_refusal(error):
                self._refuse("it cannot be read", error)
            elif _code(error) not in _PASSING and not self._troubled:
                log.warning("queue %s cannot be read (%s); trying on", self._queue.queue_name, type(error).__name__)
                self._troubled = True
            return []
        self._troubled = False
        return messages

    async def _take(self, message: QueueMessage) -> None:
        done = asyncio.Event()
        holding = asyncio.create_task(self._hold(message, done), name=f"holding {message.id}")
        try:
            failed = await self._run(message)
            # A renewal under way comes to its end first, because it changes the pop receipt.
            done.set()
            await holding
        finally:
            holding.cancel()
        try:
            await self._settle(message, failed=failed)
        except AzureError as error:
            if is_refusal(error):
                self._refuse(f"message {message.id} cannot be settled", error)
                return
            # It becomes visible again by itself, and then it is another try's turn.
            log.warning("queue %s: message %s is not settled (%s)", self._queue.queue_name, message.id, _code(error))

    async def _run(self, message: QueueMessage) -> bool:
        """Invoke the function; answers whether the message has failed."""
        if (message.dequeue_count or 0) > self._settings.max_dequeue_count:
            return True
        try:
            body = (
                base64.b64decode(message.content, validate=True) if self._settings.base64 else message.content.encode()
            )
        except (binascii.Error, ValueError):
            log.error("queue %s: message %s is not base64", self._queue.queue_name, message.id)
            message.dequeue_count = self._settings.max_dequeue_count  # no other try could read it
            return True
        outcome = await self._invoker.invoke(self._function, body_datum(body), metadata=trigger_metadata(message, body))
        return not outcome.succeeded

    def _refuse(self, what: str, error: AzureError) -> None:
        queue, name = self._queue.queue_name, self._function.name
        self._fail(
            f"queue {queue} of function {name}: {what} ({_code(error)}): see its role assignments in docs/deploy.md"
        )

    async def _settle(self, message: QueueMessage, *, failed: bool) -> None:
        if failed and self._poison is None:
            # Left hidden, as one that is seen at once would fail in a fast loop.
            log.error("queue %s: message %s failed, and has no poison queue", self._queue.queue_name, message.id)
            return
        if failed and (message.dequeue_count or 0) < self._settings.max_dequeue_count:
            wait_s = int(self._settings.visibility_timeout_s)
            await self._queue.update_message(
                message.id, message.pop_receipt, content=message.content, visibility_timeout=wait_s
            )
            return
        if failed and self._poison is not None:
            log.error("queue %s: message %s goes to %s", self._queue.queue_name, message.id, self._poison.queue_name)
            with contextlib.suppress(ResourceExistsError):
                await self._poison.create_queue()
            await self._poison.send_message(message.content)
        await self._queue.delete_message(message.id, message.pop_receipt)

    async def _hold(self, message: QueueMessage, done: asyncio.Event) -> None:
        """Keep a message hidden for as long as its function runs."""
        invisibility_s = self._settings.invisibility_s
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), invisibility_s / 2)
            if done.is_set():
                return
            try:
                renewed = await self._queue.update_message(
                    message.id, message.pop_receipt, content=message.content, visibility_timeout=int(invisibility_s)
                )
            except AzureError as error:
                log.warning(
                    "queue %s: message %s is not renewed (%s)", self._queue.queue_name, message.id, _code(error)
                )
            else:
                message.pop_receipt = renewed.pop_receipt


def body_datum(body: bytes) -> Datum:
    """A message's body as the host hands it over: text where it is text."""
    try:
        return Datum(body.decode(), "string")
    except UnicodeDecodeError:
        return Datum(body, "bytes")


def trigger_metadata(message: QueueMessage, body: bytes) -> dict[str, Datum]:
    """The metadata of a queue trigger.

    The host overlays it with the top-level keys of a JSON body, whatever their case
    (https://github.com/Azure/azure-functions-python-worker/issues/1373), so that a body's `id` hides the message's.
    """
    times = {
        "InsertionTime": message.inserted_on,
        "ExpirationTime": message.expires_on,
        "NextVisibleTime": message.next_visible_on,
    }
    metadata = {
        "Id": Datum(message.id, "string"),
        "PopReceipt": Datum(message.pop_receipt, "string"),
        "DequeueCount": Datum(message.dequeue_count, "int"),
        "QueueTrigger": body_datum(body),
        **{name: Datum(f"{moment:%Y-%m-%dT%H:%M:%S}+00:00", "string") for name, moment in times.items() if moment},
    }
    names = {name.lower(): name for name in metadata}
    for key, value in _top_level(body).items():
        datum = Datum(value, "string") if isinstance(value, str) else Datum(json.dumps(value), "json")
        metadata[names.get(key.lower(), key)] = datum
    return metadata


def _top_level(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def is_refusal(error: AzureError) -> bool:
    """Whether the service says no, to a request that will not be allowed the next time either."""
    status = getattr(error, "status_code", None) or 0
    refused = isinstance(error, ClientAuthenticationError) or HTTPStatus.BAD_REQUEST <= status < _SERVICES_SIDE
    return refused and _code(error) not in _PASSING


def _code(error: AzureError) -> str:
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or type(error).__name__)
