"""The local cloud with any number of instances in a few processes, and its storage account for a benchmark's use."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from _children import Child

from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from local_azure.processes.listening import LOOPBACK, port_offsets
from shared.azure.account import Account
from shared.config import STORAGE_SETTING, StorageAccess
from shared.upload import DEFAULT_PORT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from local_azure.eventgrid.topic import ReceivedEvent

MOST_PROCESSES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What one agent's process noted, in seconds since 1970.

    Attributes:
        looked_at: When the look at its queue began that brought the latest messages.
        reported_at: When its latest report was on the queue.
    """

    looked_at: float
    reported_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A running local cloud.

    Attributes:
        cloud: The cloud, which knows nothing of these instances.
        account: Its storage account as an uploader has it.
        storage: Connection string of the account as Function and agents have it, without the relay.
        addresses: Where each instance serves PortNumber 443, by id.
    """

    cloud: LocalPlatform
    account: Account
    storage: str
    addresses: dict[str, tuple[str, int]]
    _processes: list[Child]

    async def notes(self) -> dict[str, Noted]:
        """What the agents noted, by instance id."""
        noted = await asyncio.gather(*(process.ask("notes") for process in self._processes))
        return {
            name: Noted(looked_at=looked_at, reported_at=reported_at)
            for each in noted
            for name, (looked_at, reported_at) in each.items()
        }


@asynccontextmanager
async def fleet(
    instances: int, *, on_event: Callable[[ReceivedEvent], None] | None = None, count_requests: bool = False
) -> AsyncIterator[Fleet]:
    """A local cloud at default settings with so many instances, each served by an agent's own listener.

    Up to 3 instances have a process each; more share 3 processes, so that a machine with few processors can have many.

    Args:
        instances: How many.
        on_event: Called with each event that certcast sends out.
        count_requests: Whether `cloud.requests` counts, which costs time.
    """
    settings = PlatformSettings(agents=0, ports=FREE_PORTS, on_event=on_event, count_requests=count_requests)
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(LocalPlatform(settings))
        offsets = stack.enter_context(port_offsets(instances))
        agents = [(f"agent-{number}", offset) for number, offset in enumerate(offsets)]
        processes = [
            await stack.enter_async_context(_process(cloud, number, agents[number::MOST_PROCESSES]))
            for number in range(min(instances, MOST_PROCESSES))
        ]
        access = StorageAccess(connection_string=cloud.connection_string)
        running = Fleet(
            cloud=cloud,
            account=await stack.enter_async_context(Account(access)),
            storage=cloud.agent_environment("")[STORAGE_SETTING],
            addresses={name: (LOOPBACK, DEFAULT_PORT + offset) for name, offset in agents},
            _processes=processes,
        )
        await running.notes()  # answered once all agents are ready
        yield running


def _process(cloud: LocalPlatform, number: int, agents: list[tuple[str, int]]) -> Child:
    environment = {
        **cloud.agent_environment(f"agents-{number}"),
        "CERTCAST_TARGET": "embedded",
        "CERTCAST_EMBEDDED_ADDRESS": LOOPBACK,
    }
    return Child("_fleet_agents.py", *(f"{name}={offset}" for name, offset in agents), environment=environment)
