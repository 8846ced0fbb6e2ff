"""The instances of the local cloud: an agent each, and the web server it installs on; they may join late and leave.

How an agent is started is handed in.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

from local_azure.processes.component import Component
from local_azure.processes.listening import LOOPBACK, OFFSET_STEP, port_offsets
from local_azure.servers.by_hand import by_hand
from local_azure.servers.targets import EMBEDDED, SERVERS
from shared.upload import DEFAULT_PORT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from local_azure.platform_settings import PlatformSettings
    from local_azure.processes.child import ChildEndedError, ChildProcess, OnLine
    from local_azure.servers.by_hand import ByHand

    BeginAgent = Callable[[str, Mapping[str, str]], Awaitable[ChildProcess]]


class Instance:
    """What stands for one machine of the platform.

    Attributes:
        name: Its id.
        target: What it installs on.
        agent: Its agent; started, stopped and killed apart from the server.
        server: Its web server's process; None where that is a listener of the agent's own.
        by_hand: Somebody at that server; None where certificates cannot be changed there without the agent.
    """

    def __init__(
        self, name: str, target: str, *, offset: int, agent: Component, server: Component | None, by_hand: ByHand | None
    ) -> None:
        self.name = name
        self.target = target
        self.agent = agent
        self.server = server
        self.by_hand = by_hand
        self._offset = offset

    def address(self, port: int = DEFAULT_PORT) -> tuple[str, int]:
        """Where it serves a PortNumber."""
        return (LOOPBACK, port + self._offset)

    async def start(self) -> None:
        """Start the server, then the agent, and wait until it serves everything desired."""
        if self.server is not None:
            await self.server.start()
        await self.agent.start()

    async def stop(self) -> None:
        """Stop the agent, then the server."""
        await self.agent.stop()
        if self.server is not None:
            await self.server.stop()


class Instances:
    """The instances there are.

    Attributes:
        all: In the order in which they came.
    """

    def __init__(
        self,
        settings: PlatformSettings,
        state: Path,
        *,
        begin_agent: BeginAgent,
        on_line: OnLine,
        lost: Callable[[ChildEndedError], None],
    ) -> None:
        """Find ports for those that are there from the start; none of them is started yet.

        Args:
            settings: Of the local cloud.
            state: Its data folder.
            begin_agent: Starts an agent by name, with settings of its own, and returns once it is ready.
            on_line: Called with a server's name and each line of its output.
            lost: Called when an agent or a server ends though it was not stopped.

        Raises:
            ConfigurationError: There are no ports.
        """
        self.all: tuple[Instance, ...] = ()
        self._settings = settings
        self._servers = state / "web-servers"
        self._begin_agent = begin_agent
        self._on_line = on_line
        self._lost = lost
        self._held = ExitStack()
        self._next = 0
        # An earlier run's files name its ports and sockets; the agents install everything again.
        shutil.rmtree(self._servers, ignore_errors=True)
        self._servers.mkdir(mode=0o700)
        first, count = settings.ports.agent_offset, settings.agents
        if first is None:
            offsets = self._held.enter_context(port_offsets(count))
        else:
            offsets = range(first, first + OFFSET_STEP * count, OFFSET_STEP)
        for offset in offsets:
            self._enlist(offset)

    async def add(self) -> Instance:
        """Have one more join, and wait until it serves everything desired.

        Raises:
            ConfigurationError: There is no port for it, or a setting is wrong.
            ChildEndedError: It did not come up.
        """
        offset = self._settings.ports.offset_of(self._next)
        joining = self._enlist(self._held.enter_context(port_offsets(1))[0] if offset is None else offset)
        try:
            await joining.start()
        except BaseException:
            await self.remove(joining.name)
            raise
        return joining

    async def remove(self, name: str) -> None:
        """Stop one in good order; its name is not given again."""
        [leaving] = [instance for instance in self.all if instance.name == name]
        self.all = tuple(instance for instance in self.all if instance is not leaving)
        await leaving.stop()

    def release(self) -> None:
        """Let others have the ports."""
        self._held.close()

    def _enlist(self, offset: int) -> Instance:
        number, self._next = self._next, self._next + 1
        name, target = f"agent-{number}", self._settings.target_of(number)
        own = self._settings.own_environment.get(number, {})
        if target == EMBEDDED:
            web, server = None, None
        else:
            web = SERVERS[target](
                folder=self._servers / name,
                port_offset=offset,
                name=f"{target}-{number}",
                on_line=self._on_line,
            )
            self._held.callback(web.forget)
            server = Component(web.name, web.start, self._lost)

        async def begin() -> ChildProcess:
            ours = _embedded(offset) if web is None else web.agent_environment
            return await self._begin_agent(name, {**ours, **self._settings.agent_environment, **own})

        agent = Component(name, begin, self._lost)
        instance = Instance(name, target, offset=offset, agent=agent, server=server, by_hand=by_hand(web))
        self.all = (*self.all, instance)
        return instance


def _embedded(offset: int) -> dict[str, str]:
    return {
        "CERTCAST_TARGET": EMBEDDED,
        "CERTCAST_EMBEDDED_ADDRESS": LOOPBACK,
        "CERTCAST_EMBEDDED_PORT_OFFSET": str(offset),
    }
