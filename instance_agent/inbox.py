"""The instance's queue: hints taken from it, and messages put aside that cannot be read or never get done."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instance_agent.targets.base import Key
from shared.errors import BrokenMessageError, CertcastError, MissingError, UnavailableError
from shared.messages import BindingsChanged, decode
from shared.phrasing import logger
from shared.ports import ReceivedMessage
from shared.telemetry.traceparents import trace_of

if TYPE_CHECKING:
    from instance_agent.config import AgentSettings
    from shared.ports import Queues

log = logger(__name__)

DRAIN = 32
"""Most messages one request can take (learn.microsoft.com, "Get Messages")."""
HIDE_S = 60
"""How long a taken message stays hidden, also where the answer that held it was lost.

One agent alone takes from its queue, and not while it acts: what shows again meanwhile is still its own to delete.
"""
MAX_DEQUEUE = 5


class QueueGoneError(UnavailableError):
    """The instance's own queue is not there: it was taken for scaled in, and registers again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What was taken at once.

    Attributes:
        queue: From which.
        taken: How many messages, those included that were put aside.
        keys: The hosts and ports that the readable ones name.
        traceparents: Their W3C trace contexts, each once. What is longer than one, and others may have written, would
            make a report that fits no message.
        messages: The readable ones, to be deleted once they are acted on.
    """

    queue: str
    taken: int
    keys: frozenset[Key] = frozenset()
    traceparents: tuple[str, ...] = ()
    messages: tuple[ReceivedMessage, ...] = ()


class Inbox:
    """One instance's queue.

    Attributes:
        settings: The agent's; another instance id brings another queue.
        received: Messages taken so far.
        poisoned: Messages put aside so far.
    """

    def __init__(self, queues: Queues, settings: AgentSettings) -> None:
        self.received = 0
        self.poisoned = 0
        self.settings = settings
        self._queues = queues

    async def take(self) -> Hints:
        """Take the messages there are, and put aside those that are no hints.

        Raises:
            QueueGoneError: There is no queue.
        """
        settings = self.settings
        try:
            taken = await self._queues.receive(settings.queue, limit=DRAIN, visibility_s=HIDE_S)
        except MissingError as error:
            raise QueueGoneError(str(error)) from None
        self.received += len(taken)
        read = [(message, hint) for message in taken if (hint := await self._read(settings, message)) is not None]
        return Hints(
            queue=settings.queue,
            taken=len(taken),
            keys=frozenset((binding.host, binding.port) for _, hint in read for binding in hint.bindings),
            traceparents=tuple(dict.fromkeys(hint.traceparent for _, hint in read if trace_of(hint.traceparent))),
            messages=tuple(message for message, _ in read),
        )

    async def done(self, hints: Hints, *, last_tries: bool = False) -> None:
        """Delete what was acted on, or of what could not be acted on that which would be put aside the next time."""
        done = [each for each in hints.messages if not last_tries or each.dequeue_count >= MAX_DEQUEUE]
        await asyncio.gather(*(self._queues.done(hints.queue, message) for message in done))

    async def _read(self, settings: AgentSettings, message: ReceivedMessage) -> BindingsChanged | None:
        """The hint a message carries; one that cannot be read, or never gets done, is put aside."""
        reason = f"taken {message.dequeue_count} times without being finished"
        if message.body is None:
            reason = "it is not base64 text"
        elif message.dequeue_count <= MAX_DEQUEUE:
            try:
                return decode(BindingsChanged, message.body)
            except BrokenMessageError as error:
                reason = str(error)
        log.error("instance %s: a message is put on %s: %s", settings.instance, settings.poison_queue, reason)
        try:
            await self._put_aside(settings, message)
        except CertcastError as error:
            # The others taken with it are acted on meanwhile.
            log.warning("instance %s: it stays for now: %s", settings.instance, error)
        return None

    async def _put_aside(self, settings: AgentSettings, message: ReceivedMessage) -> None:
        try:
            await self._queues.send(settings.poison_queue, message.body or "")
        except MissingError:
            await self._queues.create(settings.poison_queue)
            await self._queues.send(settings.poison_queue, message.body or "")
        await self._queues.done(settings.queue, message)
        self.poisoned += 1
