"""What both ways of using nginx share: their parts, what others leave to us, and the folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from instance_agent.targets.nginx import config, listens
from instance_agent.targets.nginx.control import Control
from instance_agent.targets.nginx.process import Nginx
from instance_agent.targets.nginx.settings import NginxSettings
from instance_agent.targets.parts.access import PRIVATE, Access, make_folder
from instance_agent.targets.parts.own_folder import OwnFolder, trouble_with
from instance_agent.targets.parts.pem_folder import PemFolder
from instance_agent.targets.parts.templates import ConfigTemplate
from instance_agent.targets.parts.tested_batch import Interval
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from instance_agent.targets.base import BindingChange, InstalledBinding, Key
    from instance_agent.targets.nginx.process import Loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the rest of nginx's configuration leaves to us.

    Attributes:
        hash_sizes: Whether we make room for names: it may be made once only.
        taken: The PortNumbers whose default server is somebody else's, and the file that says so.
    """

    hash_sizes: bool
    taken: Mapping[int, str]

    @classmethod
    def beside(cls, loaded: Loaded, settings: NginxSettings) -> Room:
        """What others leave; blocks."""
        main = settings.folder / config.MAIN_NAME
        sizes = any(loaded.sets(f"server_names_hash_{each}_size", outside=main) for each in ("max", "bucket"))
        return cls(hash_sizes=not sizes, taken=listens.taken_by_others(loaded.files, settings))

    @classmethod
    def as_written(cls, ours: Sequence[str], settings: NginxSettings) -> Room:
        """What others left when our own files were written; blocks."""
        text = "\n".join(ours)
        return cls(hash_sizes="server_names_hash" in text, taken=listens.not_claimed_in(text, settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxParts:
    """What a mode works with.

    Attributes:
        settings: The settings.
        folder: Our own folder.
        nginx: The program.
        control: The unix socket.
        pems: Our PEM files.
        access: Who reads them.
        template: Body of a server block.
        room: What others leave to us.
        included: Whether nginx's configuration was found to include ours.
        interval: Keeps reloads apart.
    """

    settings: NginxSettings
    folder: OwnFolder
    nginx: Nginx
    control: Control
    pems: PemFolder
    access: Access
    template: ConfigTemplate
    room: Room
    included: bool
    interval: Interval

    @property
    def main(self) -> Path:
        """Our include."""
        return self.settings.folder / config.MAIN_NAME

    @property
    def fallback(self) -> Path:
        """The PEM that answers for unknown names."""
        return self.folder.fallback_path(self.settings.fallback)


class NginxMode(Protocol):
    """One way of having nginx serve what is in our folder."""

    name: str
    parts: NginxParts

    @property
    def in_slices(self) -> bool:
        """As `BindingTarget.in_slices`."""

    def in_order(self, token: str) -> bool:
        """Whether what nginx was told of by this token is on disk as it should be; blocks."""

    async def prepare(self) -> None:
        """Bring folder and include up to date, and into force where nginx runs.

        Raises:
            ConfigurationError: nginx does not take them.
            ServerUnavailableError: It is not running, or does not include ours.
        """

    def served(self, keys: Collection[Key] | None = None) -> dict[Key, InstalledBinding]:
        """What of our folder nginx serves, of these keys or of all; blocks."""

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """As `BindingTarget.apply`."""


def prepare_folder(parts: NginxParts) -> None:
    """Make the folder and its fallback, and clear away what a killed agent left; blocks.

    Raises:
        ConfigurationError: This user may not, or the fallback is none.
        ServerUnavailableError: The disk takes nothing now.
    """
    settings = parts.settings
    try:
        parts.folder.take_over(parts.access)
        _private_place(settings.socket.parent)
        parts.folder.clear()
        for folder in (parts.pems.folder, *(parts.pems.folder / str(port) for port in settings.ports)):
            make_folder(folder, parts.access)
        parts.folder.fallback(settings.fallback)
    except OSError as error:
        raise trouble_with(
            error,
            "run the agent as root, or set CERTCAST_NGINX_FOLDER, CERTCAST_NGINX_SOCKET and CERTCAST_NGINX_FALLBACK to "
            "what it may use",
        ) from None


def _private_place(folder: Path) -> None:
    """The socket's folder, which alone keeps others from it: nginx makes its sockets writable for everybody."""
    if not folder.is_dir():
        make_folder(folder, PRIVATE)
    elif folder.stat().st_mode & 0o077:
        raise ConfigurationError(
            f"{folder} may be entered by others than its owner: make CERTCAST_NGINX_SOCKET a path in a folder of its "
            "own with permissions 0700"
        )
