"""A web server on loopback ports, configured for an agent beside it, which brings the certificates."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from local_azure.processes.child import ChildProcess, OnLine, start_child
from local_azure.processes.component import becoming_ready
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_START_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.02
# Debian keeps servers where only root's PATH looks.
_MORE_FOLDERS = os.pathsep.join(("/usr/sbin", "/usr/local/sbin"))
# sun_path in unix(7) has 107 characters; HAProxy binds to this path with ".<pid>.tmp" behind it, and renames then.
_LONGEST_SOCKET_PATH = 96


@dataclass(kw_only=True)
class WebServer(ABC):
    """One server in a folder of its own; it can be started again over the same files once it has ended.

    Attributes:
        folder: Holds its configuration and what the agent keeps; made if need be.
        port_offset: PortNumber p is served at p + this.
        port_numbers: PortNumbers that uploads may name.
        name: What log lines and errors call it.
        on_line: Called with each line of its output.
    """

    title: ClassVar[str]
    """What people call it."""
    program: ClassVar[str]
    """Its file's name."""
    packages: ClassVar[str]
    """What `apt-get install` is to be given."""
    folders: ClassVar[re.Pattern[str]] = re.compile(r"")
    """What its folder's path must match, since it becomes part of its configuration."""

    folder: Path
    port_offset: int
    port_numbers: tuple[int, ...] = (443,)
    name: str = ""
    on_line: OnLine | None = None
    _process: ChildProcess | None = field(init=False, default=None, repr=False)
    _configured: bool = field(init=False, default=False)
    _far_folder: Path | None = field(init=False, default=None)

    @classmethod
    def find(cls) -> str:
        """Path of the program.

        Raises:
            ConfigurationError: It is not installed.
        """
        path = shutil.which(cls.program) or shutil.which(cls.program, path=_MORE_FOLDERS)
        if path is None:
            cure = f"install it, for example with `apt-get install {cls.packages}`"
            raise ConfigurationError(f"{cls.title} was not found: {cure}")
        return path

    @property
    def process(self) -> ChildProcess:
        """The one that runs, or ran last."""
        if self._process is None:
            raise RuntimeError(f"{self.program} has not been started")
        return self._process

    @property
    def certificates(self) -> Path:
        """The folder it shares with the agent."""
        return self.folder / "certcast"

    @property
    @abstractmethod
    def agent_environment(self) -> dict[str, str]:
        """The settings of an agent beside it, once it was started."""

    async def start(self) -> ChildProcess:
        """Start it and wait until it is ready for an agent.

        Raises:
            ConfigurationError: It is not installed.
            ChildEndedError: It did not come up.
        """
        await asyncio.to_thread(self._prepare)
        process = self._process = await start_child(
            self.name or self.program,
            self._command(),
            environment=os.environ | self._environment(),
            folder=self.folder,
            on_line=self.on_line,
        )
        async with becoming_ready(process):
            await process.until(self._is_ready, timeout_s=_START_TIMEOUT_S, every_s=_LOOK_EVERY_S)
        return process

    async def stop(self) -> None:
        """End it and wait until it is gone."""
        if self._process is not None:
            await self._process.stop()

    async def close(self) -> None:
        """End it for good."""
        await self.stop()
        await asyncio.to_thread(self.forget)

    def forget(self) -> None:
        """Delete what it has outside its folder, once it has ended for good."""
        if self._far_folder is not None:
            shutil.rmtree(self._far_folder, ignore_errors=True)

    def _socket_path(self, name: str) -> Path:
        """Where a socket of it lies, in a folder only for its owner: elsewhere when the path here is too long."""
        near = self.folder / "run"
        if len(str(near / name)) <= _LONGEST_SOCKET_PATH:
            near.mkdir(mode=0o700, exist_ok=True)
            return near / name
        self._far_folder = Path(tempfile.mkdtemp(prefix="certcast-"))
        return self._far_folder / name

    def _prepare(self) -> None:
        """Before each start, off the event loop."""
        if not self._configured:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path, content in self._files().items():
                path.parent.mkdir(mode=0o700, exist_ok=True)
                path.touch(mode=0o600)
                path.write_bytes(content)
            self._configured = True

    @abstractmethod
    def _files(self) -> Mapping[Path, bytes]:
        """Its configuration."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Program and arguments."""

    def _environment(self) -> Mapping[str, str]:
        """What it is given beside this process's own environment."""
        return {}

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Whether an agent can begin."""
