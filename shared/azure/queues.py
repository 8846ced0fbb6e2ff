"""The account's queues through azure-storage-queue."""

from __future__ import annotations

import base64
import binascii
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from azure.core.exceptions import HttpResponseError, ResourceExistsError

from shared.azure.errors import azure_errors, error_code
from shared.azure.patience import DONE_ONCE
from shared.errors import ConflictError, MissingError, QueueBeingDeletedError
from shared.ports import ReceivedMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from azure.storage.queue import QueueMessage
    from azure.storage.queue.aio import QueueClient, QueueServiceClient

FOR_EVER = -1
"""The service's way of saying that a message does not expire (REST API Put Message, `messagettl`)."""

_THERE_ALREADY = "QueueAlreadyExists"
_TAKEN_SINCE = "PopReceiptMismatch"


class AzureQueues:
    """The storage account's queues, as `shared.ports.Queues`."""

    def __init__(self, service: QueueServiceClient) -> None:
        self._service = service
        self._clients: dict[str, QueueClient] = {}

    async def create(self, queue: str) -> None:
        with azure_errors(f"creating queue {queue}"):
            try:
                await self._client(queue).create_queue()
            except ResourceExistsError as error:
                if error_code(error) != _THERE_ALREADY:
                    raise

    async def delete(self, queue: str) -> None:
        with suppress(MissingError), _gone_already(), azure_errors(f"deleting queue {queue}"):
            await self._client(queue).delete_queue()

    async def send(self, queue: str, body: str, *, delay_s: float = 0, ttl_s: int | None = None) -> None:
        with _gone_already(), azure_errors(f"sending to queue {queue}"):
            # Where an answer is lost the SDK sends again, and there are two messages: every reader stands that.
            await self._client(queue).send_message(
                base64.b64encode(body.encode()).decode(),
                visibility_timeout=round(delay_s),
                time_to_live=FOR_EVER if ttl_s is None else ttl_s,
            )

    async def receive(self, queue: str, *, limit: int, visibility_s: int) -> list[ReceivedMessage]:
        with _gone_already(), azure_errors(f"reading queue {queue}"):
            # One page and no more: the SDK's iterator asks again wherever there were fewer than the limit. Not asked
            # again either where the answer is lost: its messages are hidden, and their absence would look like none.
            pages = self._client(queue).receive_messages(
                messages_per_page=limit, visibility_timeout=visibility_s, **DONE_ONCE
            )
            async for page in pages.by_page():
                return [_received(message) async for message in page]
            return []

    async def done(self, queue: str, message: ReceivedMessage) -> None:
        doing = f"deleting a message of queue {queue}"
        with suppress(MissingError, ConflictError), _gone_already(), azure_errors(doing):
            try:
                await self._client(queue).delete_message(message.message_id, message.pop_receipt)
            except HttpResponseError as error:
                if error_code(error) != _TAKEN_SINCE:
                    raise

    async def names(self, prefix: str) -> AsyncIterator[str]:
        with azure_errors(f"listing queues {prefix}*"):
            async for queue in self._service.list_queues(name_starts_with=prefix):
                yield str(queue.name)

    async def length(self, queue: str) -> int:
        """How many messages a queue holds, hidden ones too; about."""
        with azure_errors(f"counting queue {queue}"):
            return int((await self._client(queue).get_queue_properties()).approximate_message_count or 0)

    def _client(self, queue: str) -> QueueClient:
        if queue not in self._clients:
            self._clients[queue] = self._service.get_queue_client(queue)
        return self._clients[queue]


@contextmanager
def _gone_already() -> Iterator[None]:
    """A queue that is being deleted is none any more, for all but the one who wants to make it again."""
    try:
        yield
    except QueueBeingDeletedError as error:
        raise MissingError(str(error)) from None


def _received(message: QueueMessage) -> ReceivedMessage:
    return ReceivedMessage(
        message_id=message.id,
        pop_receipt=str(message.pop_receipt),
        body=_decoded(message.content),
        dequeue_count=message.dequeue_count or 1,
    )


def _decoded(content: object) -> str | None:
    try:
        return base64.b64decode(str(content), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
