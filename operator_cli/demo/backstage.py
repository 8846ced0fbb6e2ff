"""What the demo does to its local cloud as the operator, and what it overhears there."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, Protocol

from operator_cli.demo.watch import PATIENCE_S
from shared.messages import RECHECK_QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_azure.platform import LocalPlatform
    from local_azure.servers.by_hand import ByHand
    from operator_cli.demo.watch import Addresses

_SHOWN_ERRORS = 10
_LOOK_EVERY_S = 0.1
_FUNCTIONS = "functions"
_SWEEP_FOUND = re.compile(r"\bsweep: looked at [1-9]")


class Backstage(Protocol):
    """The cloud as its operator sees it."""

    @property
    def listeners(self) -> Addresses:
        """Where the instances that run now answer HTTPS; the same mapping for as long as the cloud is up."""

    @property
    def by_hand(self) -> Mapping[str, ByHand]:
        """Somebody at each instance's web server, where there is one whose certificates can be changed there."""

    @property
    def events(self) -> int:
        """How many events Event Grid has been given."""

    @property
    def sweeps(self) -> int:
        """How many sweeps have said that they found an upload to look at."""

    async def quiet(self) -> None:
        """Wait until the Function will look at nothing by itself, so that a change is found by event or sweep alone."""

    async def join(self) -> str:
        """Start one more instance, and name it once it says that it is ready."""

    async def leave(self, instance: str) -> None:
        """Stop an instance in good order."""


class Overheard:
    """The lines that the parts of the local cloud print, as far as the demo has a use for them.

    Attributes:
        errors: The latest errors.
        sweeps: How many sweeps have said that they found an upload to look at.
    """

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=_SHOWN_ERRORS)
        self.sweeps = 0

    def __call__(self, component: str, line: str) -> None:
        """Take a line in."""
        if "ERROR" in line:
            self.errors.append(f"{component}: {line}")
        if component == _FUNCTIONS and _SWEEP_FOUND.search(line):
            self.sweeps += 1


class LocalBackstage:
    """The backstage of a local cloud that has been started."""

    def __init__(self, platform: LocalPlatform, overheard: Overheard) -> None:
        self._platform = platform
        self._overheard = overheard
        self.listeners: Addresses = {instance.name: instance.address() for instance in platform.instances}

    @property
    def by_hand(self) -> Mapping[str, ByHand]:
        """Somebody at each instance's web server, where there is one whose certificates can be changed there."""
        found = {instance.name: instance.by_hand for instance in self._platform.instances}
        return {name: somebody for name, somebody in found.items() if somebody is not None}

    @property
    def events(self) -> int:
        """How many events Event Grid has been given."""
        return self._platform.relay.delivery.counts["posted"]

    @property
    def sweeps(self) -> int:
        """How many sweeps have said that they found an upload to look at."""
        return self._overheard.sweeps

    async def quiet(self) -> None:
        """Wait until the Function will look at nothing by itself, so that a change is found by event or sweep alone."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while asyncio.get_running_loop().time() < deadline:
            if not await self._platform.messages_on(RECHECK_QUEUE):
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def join(self) -> str:
        """Start one more instance, and name it once it says that it is ready."""
        instance = await self._platform.add_instance()
        self.listeners[instance.name] = instance.address()
        return instance.name

    async def leave(self, instance: str) -> None:
        """Stop an instance in good order."""
        del self.listeners[instance]
        await self._platform.remove_instance(instance)
