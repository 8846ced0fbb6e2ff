"""Several instances' agents as tasks of one process, each with an embedded listener and connections of its own.

Orders come on standard input and answers leave on standard output, one JSON object a line; the end of the input ends
everything. Arguments are the instances' ids with the port offset of each, `ID=OFFSET`; settings are the environment's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from instance_agent.acting import Actor
from instance_agent.agent import Agent
from instance_agent.config import agent_settings
from instance_agent.installing.probe import served_fingerprint
from instance_agent.selection import make_target
from shared.azure.account import Account
from shared.messages import RESULTS_QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.ports import Queues, ReceivedMessage


class NotedQueues:
    """An account's queues, as `shared.ports.Queues`, which remember when the latest messages came and went.

    Attributes:
        looked_at: When the latest look began that brought messages; seconds since 1970.
        reported_at: When the latest report was on its queue.
    """

    def __init__(self, queues: Queues) -> None:
        self.looked_at = self.reported_at = 0.0
        self._queues = queues
        self.create, self.delete, self.done, self.names = queues.create, queues.delete, queues.done, queues.names

    async def send(self, queue: str, body: str, *, delay_s: float = 0, ttl_s: int | None = None) -> None:
        """Put a message on a queue."""
        await self._queues.send(queue, body, delay_s=delay_s, ttl_s=ttl_s)
        if queue == RESULTS_QUEUE:
            self.reported_at = time.time()

    async def receive(self, queue: str, *, limit: int, visibility_s: int) -> list[ReceivedMessage]:
        """Take messages."""
        began = time.time()
        taken = await self._queues.receive(queue, limit=limit, visibility_s=visibility_s)
        if taken:
            self.looked_at = began
        return taken


class Fleet:
    """The agents of this process, by instance id."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._agents: dict[str, tuple[Agent, NotedQueues]] = {}

    async def start(self, name: str, environment: Mapping[str, str]) -> None:
        """Start one, and return once it serves what is desired."""
        settings, target = agent_settings(environment), make_target("embedded", environment)
        account = await self._stack.enter_async_context(
            Account(settings.storage, key_encryption_key=settings.key_encryption_key)
        )
        queues, now = NotedQueues(account.queues), account.clock.now
        actor = Actor(target=target, bundles=account.bundles, probe=served_fingerprint, now=now)
        agent = Agent(settings=settings, state=account.state, queues=queues, target=target, actor=actor, now=now)
        self._stack.enter_context(target.held())
        task = asyncio.create_task(agent.run())
        self._stack.push_async_callback(_ended, task)
        self._stack.callback(agent.stop)
        while not agent.ready:
            if task.done():
                await task
            await asyncio.sleep(0.05)
        self._agents[name] = agent, queues

    def notes(self) -> dict[str, Any]:
        """When each last found messages, and last reported."""
        return {name: [queues.looked_at, queues.reported_at] for name, (_, queues) in self._agents.items()}


async def _ended(task: asyncio.Task[None]) -> None:
    await task


async def main() -> None:
    async with AsyncExitStack() as stack:
        fleet = Fleet(stack)
        try:
            async with asyncio.timeout(120), asyncio.TaskGroup() as starting:
                for argument in sys.argv[1:]:
                    name, _, offset = argument.partition("=")
                    own = {"CERTCAST_INSTANCE": name, "CERTCAST_EMBEDDED_PORT_OFFSET": offset}
                    starting.create_task(fleet.start(name, {**os.environ, **own}))
        except BaseExceptionGroup as group:
            print(json.dumps({"trouble": f"an agent did not start: {group.exceptions[0]}"}), flush=True)
            return
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(fleet.notes()), flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(main())
