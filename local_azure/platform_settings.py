"""How the local cloud is to be set up: ports, folders, number of agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from local_azure.as_azure import AsAzure
from local_azure.azurite import REPOSITORY
from local_azure.eventgrid.schemas import EventSchema
from local_azure.eventgrid.topic import ReceivedEvent
from local_azure.processes.listening import OFFSET_STEP, ensure_free
from local_azure.servers.targets import EMBEDDED, check_targets
from shared.errors import ConfigurationError
from shared.upload import DEFAULT_PORT

_LAST_OFFSET = 65_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports of the local cloud; 0 (for the agents None) is a free one.

    Attributes:
        blob: Where clients find the blob service: the Event Grid relay.
        queue: Azurite's queue service.
        table: Azurite's table service.
        functions: The Functions host.
        agent_offset: The first agent serves PortNumber p at p + this, each further one a hundred above.
    """

    blob: int = 10_000
    queue: int = 10_001
    table: int = 10_002
    functions: int = 7071
    agent_offset: int | None = 8000

    def check(self, agents: int) -> None:
        """Check that the chosen ports are free, before anything is started.

        Raises:
            ConfigurationError: One is not; the text names it and the cure.
        """
        chosen = {
            self.blob: "the blob service",
            self.queue: "the queue service",
            self.table: "the table service",
            self.functions: "the Functions host",
        }
        chosen.pop(0, None)
        if len(chosen) < sum(port != 0 for port in (self.blob, self.queue, self.table, self.functions)):
            raise ConfigurationError("the blob, queue and table service and the Functions host need a port each")
        if self.agent_offset is not None:
            last = self.agent_offset + OFFSET_STEP * agents
            if self.agent_offset < 0 or last > _LAST_OFFSET:
                raise ConfigurationError(
                    f"the agents' port offset must be from 0 to {_LAST_OFFSET}, that of the last agent included"
                )
            for number in range(agents):
                port = self.agent_offset + OFFSET_STEP * number + DEFAULT_PORT
                chosen.setdefault(port, _purpose(number))
        for port, purpose in chosen.items():
            ensure_free(port, purpose)

    def offset_of(self, number: int) -> int | None:
        """The port offset of an agent that joins later; None for a free one.

        Raises:
            ConfigurationError: There is no such port, or another program has it.
        """
        if self.agent_offset is None:
            return None
        offset = self.agent_offset + OFFSET_STEP * number
        ensure_free(offset + DEFAULT_PORT, _purpose(number))
        return offset


def _purpose(agent: int) -> str:
    return f"agent-{agent}, which serves PortNumber {DEFAULT_PORT} there,"


STANDARD_PORTS = Ports()
"""Azurite's and Core Tools' own: `UseDevelopmentStorage=true`, Storage Explorer's "(Emulator - Default Ports)"."""

FREE_PORTS = Ports(blob=0, queue=0, table=0, functions=0, agent_offset=None)
"""For tests and the demo: any number of them run side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSettings:
    """What the local cloud consists of.

    Attributes:
        agents: How many instances there are.
        targets: What they install on, in turn: the first instance on the first of them, and so on.
        ports: Where everything listens.
        state: Folder for storage, logs and keys, kept from run to run; None is a temporary one.
        root: Folder of function_app.py.
        host: `certcast` for our own Functions host, `func` for Azure Functions Core Tools.
        folder: Folder of PFX files that are served too, and watched; None for none.
        event_schema: What Event Grid delivers the blobs' events in.
        drop_events: Probability that an event is withheld.
        count_requests: Whether what is asked of the storage account is counted, by a proxy before it.
        as_azure: In which ways a proxy before the storage account answers as Azure does; None for as Azurite does.
        function_environment: Settings of the Function beside those that the local cloud gives.
        agent_environment: Settings of every agent beside those that the local cloud gives, such as `CERTCAST_TARGET`.
        own_environment: Settings of single agents beside those, by number, such as `CERTCAST_ROLE`.
        on_line: Called on the event loop with a component's name and each line of its output.
        on_event: Called on the event loop with each event that certcast sends out.
    """

    agents: int = 3
    targets: tuple[str, ...] = (EMBEDDED,)
    ports: Ports = STANDARD_PORTS
    state: Path | None = None
    root: Path = REPOSITORY
    host: Literal["certcast", "func"] = "certcast"
    folder: Path | None = None
    event_schema: EventSchema = EventSchema.EVENT_GRID
    drop_events: float = 0.0
    count_requests: bool = False
    as_azure: AsAzure | None = None
    function_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    agent_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    own_environment: Mapping[int, Mapping[str, str]] = field(default_factory=dict, repr=False)
    on_line: Callable[[str, str], None] | None = None
    on_event: Callable[[ReceivedEvent], None] | None = None

    def check(self) -> None:
        """Check that ports are free and web servers installed, before anything is started.

        Raises:
            ConfigurationError: One is not; the text names it and the cure.
        """
        self.ports.check(self.agents)
        check_targets(self.targets, self.state)

    def target_of(self, number: int) -> str:
        """What an instance installs on."""
        return self.targets[number % len(self.targets)]
