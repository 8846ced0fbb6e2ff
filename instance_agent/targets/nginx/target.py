"""The nginx target: chooses between nginx's two modes by what the server has."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import NothingHeld, ServerUnavailableError
from instance_agent.targets.nginx import config
from instance_agent.targets.nginx.blocks import NginxBlocks
from instance_agent.targets.nginx.control import Control
from instance_agent.targets.nginx.dynamic import NginxDynamic
from instance_agent.targets.nginx.mode import NginxMode, NginxParts
from instance_agent.targets.nginx.process import Nginx
from instance_agent.targets.parts.access import PRIVATE, Access
from instance_agent.targets.parts.bindings import answering, installs_of
from instance_agent.targets.parts.own_folder import OwnFolder
from instance_agent.targets.parts.pem_file import name_refusal
from instance_agent.targets.parts.pem_folder import PemFolder
from instance_agent.targets.parts.templates import site_refusal
from shared.bundle import CertificateBundle
from shared.errors import CertcastError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from instance_agent.targets.base import BindingChange, Install, InstalledBinding, Key
    from instance_agent.targets.nginx.settings import NginxSettings


class NginxTarget(NothingHeld):
    """Serves from nginx on this machine. All state is in our folder, so that a restarted nginx serves the same."""

    kind: ClassVar[str] = "nginx"

    def __init__(self, settings: NginxSettings) -> None:
        """Look at nothing yet.

        Args:
            settings: From `NginxSettings.from_env`.
        """
        self._settings = settings
        self._nginx = Nginx(settings.command, timeout_s=settings.reload_timeout_s)
        self._folder = OwnFolder(settings.folder, "NGINX")
        self._pems = PemFolder(settings.folder / config.LIVE_NAME)
        self._parts: NginxParts | None = None
        self._mode: NginxMode | None = None

    @property
    def mode(self) -> str:
        """The mode chosen by `start`; empty before it."""
        return self._mode.name if self._mode else ""

    @property
    def in_slices(self) -> bool:
        """In the mode that never reloads nginx."""
        return isinstance(self._mode, NginxDynamic)

    @property
    def place(self) -> str:
        """By the folder, which nginx's configuration includes."""
        return f"nginx with the folder {self._settings.folder.absolute()}"

    def held(self) -> AbstractContextManager[None]:
        """By a lock in the folder.

        Raises:
            ConfigurationError: Another agent has it, or it is not ours.
        """
        return self._folder.held(self.place)

    async def start(self) -> None:
        """Read nginx's configuration, choose the mode, and bring our include into force.

        Raises:
            ConfigurationError: nginx is missing, broken, lacks the include, or does not take ours.
        """
        if os.name == "nt":
            raise ConfigurationError("CERTCAST_TARGET nginx needs Linux: on Windows use iis, iis-ccs or files")
        settings = self._settings
        await asyncio.to_thread(self._undo_trial)
        loaded = await self._nginx.load()
        if settings.mode == "dynamic" and not loaded.has_lua:
            raise ConfigurationError(
                "CERTCAST_NGINX_MODE is dynamic and nginx has no Lua module: choose blocks, or install it (on Debian "
                "libnginx-mod-http-lua, lua-resty-core and lua-resty-lrucache)"
            )
        dynamic = settings.mode == "dynamic" or (settings.mode == "auto" and loaded.has_lua)
        self._parts = NginxParts(
            settings=settings,
            folder=self._folder,
            nginx=self._nginx,
            control=Control(settings.socket),
            pems=self._pems,
            # The workers read certificates in dynamic mode only; else the master does, which is root.
            access=Access(group=loaded.worker_group) if dynamic else PRIVATE,
            template=config.body_template(settings.template),
            loaded=loaded,
        )
        self._mode = NginxDynamic(self._parts) if dynamic else NginxBlocks(self._parts)
        await self._mode.prepare()

    async def version(self) -> str:
        """The version of nginx, and the mode."""
        version = await self._nginx.version()
        return f"{version} ({self.mode})" if version and self.mode else version

    async def current(self, keys: Collection[Key] | None = None) -> frozenset[InstalledBinding]:
        """What is ours in the folder.

        Raises:
            ServerUnavailableError: The folder cannot be read.
        """
        with self._folder.trouble():
            return frozenset((await asyncio.to_thread(self._started.served, keys)).values())

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Make all changes or none, as the mode does it.

        Raises:
            ApplyError: nginx does not take a change.
            ServerUnavailableError: nginx is not running, or the disk takes nothing.
        """
        installs_of(changes, self.refusal)
        with self._folder.trouble():
            await self._started.apply(changes)

    def endpoint(self, port: int) -> tuple[str, int]:
        """The listener of nginx, met over loopback where it listens on every address."""
        return self._settings.endpoints.at(port)

    def refusal(self, change: Install) -> str | None:
        """A port that nginx does not listen on, and names that cannot be a file's or a configuration's."""
        if (reason := name_refusal(*change.key) or site_refusal(change)) is not None:
            return reason
        ports = self._settings.ports
        if change.port in ports:
            return None
        return (
            f"nginx is not set to listen for PortNumber {change.port}: add it to CERTCAST_NGINX_PORTS "
            f"({', '.join(map(str, ports))})"
        )

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """Whether the fallback, another binding of ours, or something else answered."""
        try:
            ours = await asyncio.to_thread(self._started.served)
            fallback = await asyncio.to_thread(self._fallback_fingerprint)
        except OSError:
            return None
        if seen_fingerprint_sha256 == fallback:
            return f"nginx's certificate for unknown names answered for {host}:{port}: its error log may say why"
        address, actual = self.endpoint(port)
        return answering(ours.values(), seen_fingerprint_sha256) or (
            f"{address}:{actual} is answered by a server block of nginx, or by a program, that certcast did not "
            f"configure: look for `listen` and `server_name {host}` in `nginx -T`"
        )

    def _undo_trial(self) -> None:
        """Before nginx is asked anything: files that it does not take would keep every agent from starting."""
        try:
            self._folder.clear()
        except OSError as error:
            raise ConfigurationError(
                f"{error.filename} cannot be put back as it was ({error.strerror}): run the agent as root"
            ) from None

    @property
    def _started(self) -> NginxMode:
        if self._mode is None:
            raise ServerUnavailableError("the nginx target was not started")
        return self._mode

    def _fallback_fingerprint(self) -> str:
        if self._parts is None:
            return ""
        try:
            return CertificateBundle.from_pem(self._parts.fallback.read_bytes()).fingerprint_sha256
        except CertcastError:
            return ""
