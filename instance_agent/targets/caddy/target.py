"""The Caddy target: the agent is Caddy's certificate manager, asked at each handshake; Caddy is never reconfigured."""

from __future__ import annotations

import asyncio
import errno
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import NothingHeld, ServerUnavailableError
from instance_agent.targets.caddy.hindrances import hindrances
from instance_agent.targets.caddy.manager import Manager
from instance_agent.targets.parts import commands
from instance_agent.targets.parts.access import make_folder
from instance_agent.targets.parts.bindings import Bindings, answering, installs_of
from instance_agent.targets.parts.own_folder import OwnFolder, trouble_with
from instance_agent.targets.parts.pem_file import name_refusal
from instance_agent.targets.parts.pem_folder import PemFolder
from shared.binding import phrased
from shared.bundle import CertificateBundle, bundle_id_of
from shared.errors import ConfigurationError
from shared.hostnames import hosts_for
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from instance_agent.targets.base import BindingChange, Install, InstalledBinding, Key
    from instance_agent.targets.caddy.settings import CaddySettings

log = logger(__name__)

_VERSION_TIMEOUT_S = 5.0
_NO_ADDRESS = {errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT}
"""What makes an address one that cannot be listened on, whatever else runs (bind(2))."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What Caddy is given: key and chain."""

    pem: bytes = field(default=b"", repr=False)


class CaddyTarget(NothingHeld):
    """Answers any number of hosts from memory, and the same after a restart from files of our own.

    Caddy keeps no answer for the next handshake: what is bound here is what Caddy serves, from the next one on.
    """

    kind: ClassVar[str] = "caddy"
    in_slices: ClassVar[bool] = True

    def __init__(self, settings: CaddySettings) -> None:
        self._settings = settings
        self._folder = OwnFolder(settings.folder, "CADDY")
        self._pems = PemFolder(settings.folder)
        self._bound = Bindings()
        self._answers: dict[Key, _Answer] = {}
        self._fallback = _Answer()
        self._fallback_fingerprint = ""
        self._manager = Manager(self._answer, settings.password)
        self._forgotten = False
        self._changed: set[Key] = set()
        self._hindrances: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """By the folder: what it holds is answered at one address."""
        return f"Caddy with the folder {self._settings.folder.absolute()}"

    def held(self) -> AbstractContextManager[None]:
        """By a lock in the folder.

        Raises:
            ConfigurationError: Another agent has it.
        """
        return self._folder.held(self.place, alone=False)

    async def start(self) -> None:
        """Read what was bound before, and answer Caddy at once: nothing of the cloud is needed for it.

        Raises:
            ConfigurationError: Folder, fallback or address are none that can be used.
            ServerUnavailableError: They cannot be used now: another program has the address, or the disk is full.
        """
        try:
            await asyncio.to_thread(self._load)
        except OSError as error:
            raise trouble_with(error, "correct CERTCAST_CADDY_FOLDER or CERTCAST_CADDY_FALLBACK") from error
        address, port = self._settings.listen
        try:
            self._manager.listen(address, port)
        except OSError as error:
            trouble = f"CERTCAST_CADDY_LISTEN: cannot listen on {address}, port {port} ({error.strerror})"
            if error.errno in _NO_ADDRESS:
                raise ConfigurationError(f"{trouble}: name another one here and in Caddy's configuration") from error
            raise ServerUnavailableError(
                f"{trouble}: end the program that does, perhaps another agent, or name another port here and in "
                "Caddy's configuration"
            ) from error
        await self._look_at_caddy()

    async def stop(self) -> None:
        """Stop answering: Caddy ends new handshakes until an agent is back, and keeps open connections."""
        await self._manager.close()

    async def version(self) -> str:
        """What the `caddy` command on PATH says; empty where there is none."""
        program = shutil.which("caddy")
        if program is None:
            return ""
        finished = await commands.run([program, "version"], timeout_s=_VERSION_TIMEOUT_S)
        words = finished.output.split()
        return f"Caddy {words[0].removeprefix('v')}" if finished.failure is None and words else ""

    async def current(self, keys: Collection[Key] | None = None) -> frozenset[InstalledBinding]:
        """What is answered; where somebody else changed its file, as something else than was asked for.

        Caddy's own configuration is looked at as often as all this: what is wrong in it is said in the log.

        Raises:
            ServerUnavailableError: The files cannot be read.
        """
        if self._forgotten:
            with self._folder.trouble():
                found = await asyncio.to_thread(self._pems.read)
            self._changed = {binding.key for binding in self._bound.values() if found.get(binding.key) != binding}
            await self._look_at_caddy()
            self._forgotten = False
        owned = self._bound.owned(keys)
        return frozenset(map(self._as_filed, owned)) if self._changed else owned

    def forget(self) -> None:
        """Read files and Caddy's configuration when next asked for what is bound: both are others' to change too."""
        self._pems.forget()
        self._forgotten = True

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Write the files, then answer with all changes at once.

        Raises:
            ApplyError: A certificate cannot be served, or its file is there and not ours.
            ServerUnavailableError: The disk did not take the files.
        """
        installs = installs_of(changes, self.refusal)
        with self._folder.trouble():
            await asyncio.to_thread(self._write, changes)
        # Nothing below waits, so a handshake meets the table before or after the batch.
        self._bound.take_up(changes)
        self._changed.difference_update(change.key for change in changes)
        for change in changes:
            self._answers.pop(change.key, None)
        self._answers |= {install.key: _Answer(install.bundle.to_pem()) for install in installs}

    def endpoint(self, port: int) -> tuple[str, int]:
        """Caddy's listener as the settings name it."""
        return self._settings.endpoints.at(port)

    def refusal(self, change: Install) -> str | None:
        """A PortNumber that the offset carries to where there is no port, or a host that is none."""
        return self._settings.endpoints.refusal(change) or name_refusal(*change.key)

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """The fallback, another of our bindings, or a Caddy that does not ask."""
        url = f"http://{self._settings.listen[0]}:{self._settings.listen[1]}/{port}"
        if port not in self._manager.asked:
            return (
                f"no Caddy has asked this agent yet at {url}, which its configuration must name with `get_certificate`"
            )
        if seen_fingerprint_sha256 == self._fallback_fingerprint:
            return f"the fallback answered for {phrased(host, port)}"
        if (answered := answering(self._bound.values(), seen_fingerprint_sha256)) is not None:
            return answered
        await self._look_at_caddy()
        own = "Caddy has a certificate of its own there, and asks for none"
        return f"{own}. {'. '.join(self._hindrances)}" if self._hindrances else own

    def _answer(self, name: str, port: int) -> bytes:
        found = (self._answers.get((host, port)) for host in hosts_for(name))
        return next((answer for answer in found if answer is not None), self._fallback).pem

    def _as_filed(self, binding: InstalledBinding) -> InstalledBinding:
        """A binding under an id that no bundle has where its file is not as it was written: to be written again."""
        if binding.key not in self._changed:
            return binding
        return replace(binding, bundle_id=bundle_id_of(binding.fingerprint_sha256, b"changed by hand"))

    async def _look_at_caddy(self) -> None:
        """Say once of each thing in Caddy's configuration that it keeps Caddy from asking."""
        before, self._hindrances = self._hindrances, hindrances(await self._settings.admin.configuration())
        for hindrance in self._hindrances:
            if hindrance not in before:
                log.warning("%s", hindrance)

    def _load(self) -> None:
        make_folder(self._settings.folder)
        self._folder.clear()
        fallback = self._folder.fallback(self._settings.fallback)
        self._fallback = _Answer(fallback.read_bytes())
        self._fallback_fingerprint = CertificateBundle.from_pem(self._fallback.pem).fingerprint_sha256
        found = self._pems.read()
        self._bound = Bindings(found.values())
        self._answers = {key: _Answer(self._pems.path(*key).read_bytes().partition(b"\n")[2]) for key in found}

    def _write(self, changes: Sequence[BindingChange]) -> None:
        files = self._folder.batch()
        self._pems.enter(changes, files)
        files.commit()
        files.close()
