"""One part of the local cloud that runs as a process: started, stopped, killed, and missed when it ends by itself."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from local_azure.processes.child import ChildEndedError
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from local_azure.processes.child import ChildProcess

_WRONG_SETTING = 2


@asynccontextmanager
async def becoming_ready(process: ChildProcess) -> AsyncIterator[None]:
    """Wait for a new process in here: it is stopped if it does not become ready.

    Raises:
        ConfigurationError: It ended with exit code 2, by which certcast's programs say that a setting is wrong; the
            text is its last line.
    """
    try:
        yield
    except BaseException as error:
        await process.stop()
        if isinstance(error, ChildEndedError) and process.returncode == _WRONG_SETTING and process.last_lines:
            raise ConfigurationError(process.last_lines[-1]) from None
        raise


class Component:
    """A part that runs as a child process.

    Attributes:
        name: What log lines and errors call it.
    """

    def __init__(
        self, name: str, begin: Callable[[], Awaitable[ChildProcess]], lost: Callable[[ChildEndedError], None]
    ) -> None:
        """Start nothing yet.

        Args:
            name: As in the attributes.
            begin: Starts the process and returns once it is ready; leaves nothing running when it fails.
            lost: Called when the process ends though it was not stopped.
        """
        self.name = name
        self._begin = begin
        self._lost = lost
        self._process: ChildProcess | None = None
        self._wanted = False

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    async def start(self) -> None:
        """Start it and wait until it is ready; does nothing when it runs already."""
        if self.running:
            return
        self._process = await self._begin()
        self._wanted = True
        self._process.call_when_gone(self._miss)

    async def stop(self) -> None:
        """Have it end in good order, and wait until it and all it started are gone."""
        self._wanted = False
        if self._process is not None:
            await self._process.stop()

    async def kill(self) -> None:
        """End it as a power failure would, and wait until it and all it started are gone."""
        self._wanted = False
        if self._process is not None:
            await self._process.kill()

    def _miss(self, process: ChildProcess) -> None:
        if self._wanted:
            self._lost(process.ended_error())
