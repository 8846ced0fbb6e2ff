"""The web server of one instance: which there are, whether they can be had here, and one as a part of the cloud.

How each is configured and started is known to its own module in `local_azure.servers`.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from local_azure.processes.component import Component
from local_azure.servers.caddy import find_caddy, start_caddy
from local_azure.servers.haproxy import find_haproxy, start_haproxy
from local_azure.servers.nginx import find_nginx, start_nginx
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from pathlib import Path

    from local_azure.processes.child import ChildEndedError, ChildProcess, OnLine

EMBEDDED = "embedded"
"""The target that is a listener of the agent's own, and needs no server."""


class Launched(Protocol):
    """A server as the modules of `local_azure.servers` start it."""

    @property
    def process(self) -> ChildProcess:
        """The one that runs, or ran last."""

    @property
    def agent_environment(self) -> dict[str, str]:
        """The settings of an agent beside it."""

    async def start_again(self) -> None:
        """Start it over the same files once it has ended."""

    async def close(self) -> None:
        """End it for good."""


class _Start(Protocol):
    def __call__(
        self, folder: Path, *, port_offset: int, name: str, log: Path | None, on_line: OnLine | None
    ) -> Awaitable[Launched]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """One kind of server.

    Attributes:
        find: Where the program is; raises ConfigurationError with the package that brings it.
        start: Starts it on PortNumber 443.
        path: What its folder's path must match, since it becomes part of its configuration.
    """

    find: Callable[[], str]
    start: _Start
    path: re.Pattern[str]


_PROGRAMS = {
    "nginx": _Program(find=find_nginx, start=start_nginx, path=re.compile(r"[A-Za-z0-9 ._/@+=,:~-]*\Z")),
    "haproxy": _Program(find=find_haproxy, start=start_haproxy, path=re.compile(r"[A-Za-z0-9._/@+-]*\Z")),
    "caddy": _Program(find=find_caddy, start=start_caddy, path=re.compile(r"")),
}

TARGETS = (EMBEDDED, *_PROGRAMS)
"""What the instances of the local cloud can install on."""


def check_targets(targets: Iterable[str], folder: Path | None) -> None:
    """See that every server can be started here, before anything is.

    Args:
        targets: Names out of `TARGETS`.
        folder: The local cloud's data folder, when one was chosen.

    Raises:
        ConfigurationError: One is unknown, not installed, or cannot work in the folder; one line, with the cure.
    """
    for target in targets:
        if target not in TARGETS:
            raise ConfigurationError(f"there is no target {target!r}: choose {', '.join(TARGETS)}")
        program = _PROGRAMS.get(target)
        if program is None:
            continue
        program.find()
        if folder is not None and not program.path.match(str(folder.resolve())):
            raise ConfigurationError(
                f"{target} cannot be configured with files in {folder.resolve()}, for the characters in that path: "
                "choose another data folder"
            )


class WebServer(Component):
    """A server in a folder of its own that is new when it is first started, and the same when it is started again."""

    def __init__(
        self,
        name: str,
        target: str,
        *,
        folder: Path,
        port_offset: int,
        log: Path,
        on_line: OnLine,
        lost: Callable[[ChildEndedError], None],
    ) -> None:
        """Start nothing yet.

        Args:
            name: What log lines and errors call it.
            target: One of `TARGETS`, but not the embedded one.
            folder: Its own; whatever is in it is deleted at the first start.
            port_offset: PortNumber p is served at p + this.
            log: File its output is appended to.
            on_line: Called with each line of its output, on another thread.
            lost: Called when it ends though nobody stopped it.
        """
        super().__init__(name, self._launch, lost)
        self._target = target
        self._folder = folder
        self._port_offset = port_offset
        self._log = log
        self._on_line = on_line
        self._launched: Launched | None = None

    @property
    def agent_environment(self) -> dict[str, str]:
        """The settings of an agent beside it, once it was started."""
        if self._launched is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._launched.agent_environment

    async def close(self) -> None:
        """End it for good, and wait until it is gone."""
        await self.stop()
        launched, self._launched = self._launched, None
        if launched is not None:
            await launched.close()

    async def _launch(self) -> ChildProcess:
        if self._launched is None:
            await asyncio.to_thread(self._empty)
            self._launched = await _PROGRAMS[self._target].start(
                self._folder, port_offset=self._port_offset, name=self.name, log=self._log, on_line=self._on_line
            )
        else:
            await self._launched.start_again()
        return self._launched.process

    def _empty(self) -> None:
        # An earlier run's files name its ports and sockets; the agent installs everything anew.
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._folder.parent.mkdir(mode=0o700, exist_ok=True)
        self._folder.mkdir(mode=0o700)
