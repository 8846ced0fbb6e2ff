"""The nginx target: chooses between nginx's two modes by what the server has."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.nginx import config, listens
from instance_agent.targets.nginx.choosing import Chooser
from instance_agent.targets.nginx.control import Control
from instance_agent.targets.nginx.dynamic import NginxDynamic
from instance_agent.targets.nginx.process import Nginx
from instance_agent.targets.parts.bindings import answering, installs_of
from instance_agent.targets.parts.own_folder import OwnFolder, trouble_with
from instance_agent.targets.parts.pem_file import name_refusal
from instance_agent.targets.parts.pem_folder import PemFolder
from instance_agent.targets.parts.templates import site_refusal
from shared.binding import phrased
from shared.bundle import CertificateBundle
from shared.errors import CertcastError, ConfigurationError
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from instance_agent.targets.base import BindingChange, Install, InstalledBinding, Key
    from instance_agent.targets.nginx.mode import NginxMode
    from instance_agent.targets.nginx.settings import NginxSettings

_SLOW_S = 1.0
"""A test that takes longer (of thousands of server blocks) is made only where something is out of order."""

log = logger(__name__)


class NginxTarget:
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
        self._control = Control(settings.socket)
        self._chooser = Chooser(settings, self._nginx, folder=self._folder, pems=self._pems, control=self._control)
        self._mode: NginxMode | None = None
        self._is_sure = True
        self._load_took_s = 0.0

    @property
    def mode(self) -> str:
        """The mode chosen by `start`; empty before it."""
        return self._mode.name if self._mode else ""

    @property
    def in_slices(self) -> bool:
        """Where no batch takes a reload."""
        return self._mode is not None and self._mode.in_slices

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

        An nginx that has loaded our include before its configuration was broken is used as it is.

        Raises:
            ConfigurationError: nginx or the mode's module is missing, or nginx does not take what we write.
            ServerUnavailableError: nginx is not running, its configuration is broken, or does not include ours.
        """
        if os.name == "nt":
            raise ConfigurationError("CERTCAST_TARGET nginx needs Linux: on Windows use iis, iis-ccs or files")
        await asyncio.to_thread(self._undo_trial)
        await asyncio.to_thread(self._chooser.read_template)
        if await self._choose():
            await self._started.prepare()
        self._is_sure = True

    async def stop(self) -> None:
        """Nothing is held: nginx goes on."""

    def forget(self) -> None:
        """Read the files again, and see whether nginx still has our include in force."""
        self._pems.forget()
        self._is_sure = False

    async def version(self) -> str:
        """The version of nginx, and the mode."""
        version = await self._nginx.version()
        return f"{version} ({self.mode})" if version and self.mode else version

    async def current(self, keys: Collection[Key] | None = None) -> frozenset[InstalledBinding]:
        """What is ours in the folder.

        Raises:
            ServerUnavailableError: The folder cannot be read, or nginx does not serve from it.
        """
        with self._folder.trouble():
            await self._assure()
            return frozenset((await asyncio.to_thread(self._started.served, keys)).values())

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Make all changes or none, as the mode does it.

        Raises:
            ApplyError: nginx does not take a change.
            ServerUnavailableError: nginx is not running, or the disk takes nothing.
        """
        installs_of(changes, self.refusal)
        with self._folder.trouble():
            await self._assure()
            try:
                await self._started.apply(changes)
            except ServerUnavailableError as error:
                # Somebody else may have made a server block the default one since: the next try gives way to it.
                self._is_sure = listens.duplicate_in(str(error)) is None
                raise

    async def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        """Nothing is left behind: what was replaced or removed went with its batch."""

    def endpoint(self, port: int) -> tuple[str, int]:
        """The listener of nginx, met over loopback where it listens on every address."""
        return self._settings.endpoints.at(port)

    def refusal(self, change: Install) -> str | None:
        """A port that nginx does not listen on, and names that cannot be a file's or a configuration's."""
        if (reason := name_refusal(*change.key) or site_refusal(change)) is not None:
            return reason
        ports = self._settings.ports
        if change.port not in ports:
            return (
                f"nginx is not set to listen for PortNumber {change.port}: add it to CERTCAST_NGINX_PORTS "
                f"({', '.join(map(str, ports))})"
            )
        taken = self._mode.parts.room.taken if self._mode else {}
        if change.host != DEFAULT_HOST or change.port not in taken:
            return None
        return (
            f"nginx has a default_server for PortNumber {change.port} in {taken[change.port]}, and allows one for an "
            "address and port: take the word from there, reload nginx and restart the agent, or upload without Default"
        )

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """Whether the fallback, another binding of ours, or something else answered."""
        try:
            ours = await asyncio.to_thread(self._pems.read)
            fallback = await asyncio.to_thread(self._fallback_fingerprint)
        except OSError:
            return None
        taken = self._mode.parts.room.taken.get(port) if self._mode else None
        if taken is None and seen_fingerprint_sha256 == fallback:
            answered = phrased(host, port)
            return f"nginx's certificate for unknown names answered for {answered}: its error log may say why"
        address, actual = self.endpoint(port)
        default = f" (the default_server of that port is in {taken})" if taken else ""
        named = "default_server" if host == DEFAULT_HOST else f"server_name {host}"
        return answering(ours.values(), seen_fingerprint_sha256) or (
            f"{address}:{actual} is answered by a server block of nginx, or by a program, that certcast did not "
            f"configure{default}: look for `listen` and `{named}` in `nginx -T`"
        )

    async def _assure(self) -> None:
        """Where we were told to forget: see that nginx has our include in force, and put it in force otherwise."""
        if self._is_sure or self._mode is None:
            return
        is_quick = self._load_took_s <= _SLOW_S
        if (is_quick or not await self._is_in_force()) and await self._choose() and not await self._is_in_force():
            await self._started.prepare()
            log.warning("nginx did not have certcast's include as it was written: it was written and loaded again")
        if isinstance(self._mode, NginxDynamic):
            await self._mode.read_again()
        self._is_sure = True

    async def _choose(self) -> bool:
        """Choose the mode again; whether nginx's configuration could be read for it."""
        begun = time.monotonic()
        chosen = await self._chooser.by_configuration()
        if isinstance(chosen, ServerUnavailableError):
            self._mode = await self._chooser.by_what_is_loaded(chosen, self._mode)
            return False
        self._mode, self._load_took_s = chosen, time.monotonic() - begun
        return True

    async def _is_in_force(self) -> bool:
        token = await self._control.loaded()
        return token is not None and await asyncio.to_thread(self._started.in_order, token)

    def _undo_trial(self) -> None:
        """Before nginx is asked anything: files that it does not take would keep every agent from starting."""
        try:
            self._folder.clear()
        except OSError as error:
            raise trouble_with(error, "run the agent as root") from None

    @property
    def _started(self) -> NginxMode:
        if self._mode is None:
            raise ServerUnavailableError("the nginx target was not started")
        return self._mode

    def _fallback_fingerprint(self) -> str:
        try:
            pem = self._folder.fallback_path(self._settings.fallback)
            return CertificateBundle.from_pem(pem.read_bytes()).fingerprint_sha256
        except CertcastError:
            return ""
