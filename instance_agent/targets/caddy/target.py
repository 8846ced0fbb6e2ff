"""The Caddy target: the agent is Caddy's certificate manager, asked at each handshake; Caddy is never reconfigured."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import NothingHeld
from instance_agent.targets.caddy.manager import Manager
from instance_agent.targets.parts import commands
from instance_agent.targets.parts.access import make_folder
from instance_agent.targets.parts.bindings import Bindings, answering, installs_of
from instance_agent.targets.parts.own_folder import OwnFolder
from instance_agent.targets.parts.pem_file import name_refusal
from instance_agent.targets.parts.pem_folder import PemFolder
from shared.bundle import CertificateBundle
from shared.errors import ConfigurationError
from shared.hostnames import wildcard_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from instance_agent.targets.base import BindingChange, Install, InstalledBinding, Key
    from instance_agent.targets.caddy.settings import CaddySettings

_VERSION_TIMEOUT_S = 5.0


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
            ConfigurationError: Folder, fallback or address cannot be used.
        """
        try:
            await asyncio.to_thread(self._load)
        except OSError as error:
            raise ConfigurationError(
                f"CERTCAST_CADDY_FOLDER, CERTCAST_CADDY_FALLBACK: {error.filename or self._settings.folder} cannot be "
                f"used: {error.strerror}"
            ) from error
        address, port = self._settings.listen
        try:
            self._manager.listen(address, port)
        except OSError as error:
            raise ConfigurationError(
                f"CERTCAST_CADDY_LISTEN: cannot listen on {address}, port {port} ({error.strerror}): end the program "
                "that does, perhaps another agent, or name another port here and in Caddy's configuration"
            ) from error

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
        """What is answered."""
        return self._bound.owned(keys)

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
            return f"the fallback answered for {host}:{port}"
        own = "Caddy has a certificate of its own for the host, and asks for none"
        return answering(self._bound.values(), seen_fingerprint_sha256) or own

    def _answer(self, name: str, port: int) -> bytes:
        exact, wildcard = self._answers.get((name, port)), self._answers.get((wildcard_of(name) or "", port))
        return (exact or wildcard or self._fallback).pem

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
