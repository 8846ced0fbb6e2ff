"""The local cloud's storage account: Azurite, and a proxy before it that counts requests and answers as Azure does."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from local_azure.azurite import StorageEndpoints, start_azurite
from local_azure.processes.component import Component
from local_azure.proxy.counting import RequestCounter
from local_azure.proxy.storage import StorageProxy
from shared.azure.account import Account
from shared.config import StorageAccess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from local_azure.platform_settings import PlatformSettings
    from local_azure.processes.child import ChildEndedError, ChildProcess, OnLine
    from local_azure.proxy.operations import Asked


class LocalStorage:
    """The storage account from `start` to `stop`.

    Args:
        settings: Of the local cloud.
        lost: Called when Azurite ends though it was not stopped.

    Attributes:
        azurite: The storage emulator; stopped, killed and started again by itself, on the ports it had.
        requests: Counts what is asked; None where that was not asked for.
        faults: What is answered otherwise than by Azurite; None where that was not asked for.
    """

    def __init__(self, settings: PlatformSettings, lost: Callable[[ChildEndedError], None]) -> None:
        self.azurite = Component("azurite", self._begin, lost)
        self.requests = RequestCounter() if settings.count_requests else None
        self._wanted = StorageEndpoints(queue_port=settings.ports.queue, table_port=settings.ports.table)
        self.faults = settings.as_azure.faults() if settings.as_azure is not None else None
        self._proxy = self._wanted_proxy()
        # Ports that were free ones are known, and kept, from the first start.
        self._emulator = self._wanted if self._proxy is None else StorageEndpoints()
        self._stack = AsyncExitStack()

    @property
    def endpoints(self) -> StorageEndpoints:
        """Where Function, agents and relay reach it; clients find the blob service at the relay."""
        return self._emulator if self._proxy is None else self._proxy.endpoints

    async def start(self, location: Path, on_line: OnLine) -> Account:
        """Start it; returns an account that is opened past the proxy, with all that a deployment brings.

        Args:
            location: Folder in which the data is kept.
            on_line: Called with each line of Azurite's output.

        Raises:
            ConfigurationError: Node or Azurite is missing, or a port is taken; the text names the cure.
            ChildEndedError: It did not come up.
        """
        self._location, self._on_line = location, on_line
        self._stack.push_async_callback(self.azurite.stop)
        await self.azurite.start()
        if self._proxy is not None:
            self._stack.push_async_callback(self._proxy.stop)
            await self._proxy.start(self._emulator, self._wanted)
        access = StorageAccess(connection_string=self._emulator.connection_string)
        account = await self._stack.enter_async_context(Account(access))
        await account.create_all()
        return account

    async def stop(self) -> None:
        """Stop it."""
        await self._stack.aclose()

    def _wanted_proxy(self) -> StorageProxy | None:
        if self.requests is None and self.faults is None:
            return None
        rule = None if self.faults is None else self.faults.answer
        return StorageProxy(rule=rule, seen=self._seen)

    def _seen(self, asked: Asked, status: int) -> None:
        if self.requests is not None:
            self.requests.count(asked, status)
        if self.faults is not None:
            self.faults.done(asked, status)

    async def _begin(self) -> ChildProcess:
        started = await start_azurite(self._emulator, location=self._location, on_line=self._on_line)
        self._emulator = started.endpoints
        return started.process
