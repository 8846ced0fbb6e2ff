"""The Caddy target: the agent is Caddy's certificate manager, asked at each handshake; Caddy is never reconfigured."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import ApplyError, Install, InstalledBinding, ServerUnavailableError
from instance_agent.targets.caddy.manager import Manager
from instance_agent.targets.parts import commands
from instance_agent.targets.parts.fallback_file import fallback_file
from instance_agent.targets.parts.file_batch import PRIVATE, FileBatch, clear_staging, make_folder
from instance_agent.targets.parts.pem_folder import PemFolder, name_refusal, tagged_pem
from shared.bundle import CertificateBundle
from shared.errors import ConfigurationError
from shared.hostnames import wildcard_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.caddy.settings import CaddySettings

MAX_PORT = 65535

_VERSION_TIMEOUT_S = 5.0

Key = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """What is answered for one host and port."""

    installed: InstalledBinding
    pem: bytes = field(repr=False)


class CaddyTarget:
    """Answers any number of hosts from memory, and the same after a restart from files of our own.

    Caddy keeps no answer for the next handshake: what is bound here is what Caddy serves, from the next one on.
    """

    kind: ClassVar[str] = "caddy"

    def __init__(self, settings: CaddySettings) -> None:
        self._settings = settings
        self._folder = settings.folder
        self._pems = PemFolder(settings.folder)
        self._bound: dict[Key, _Bound] = {}
        self._installed: set[InstalledBinding] = set()
        self._fallback = b""
        self._fallback_fingerprint = ""
        self._manager = Manager(self._answer, settings.password)

    async def start(self) -> None:
        """Read what was bound before, and answer Caddy at once: nothing of the cloud is needed for it.

        Raises:
            ConfigurationError: Folder, fallback or address cannot be used.
        """
        try:
            await asyncio.to_thread(self._load)
        except OSError as error:
            raise ConfigurationError(
                f"CERTCAST_CADDY_FOLDER, CERTCAST_CADDY_FALLBACK: {error.filename or self._folder} cannot be used: "
                f"{error.strerror}"
            ) from error
        address, port = self._settings.listen
        try:
            await self._manager.listen(address, port)
        except OSError as error:
            raise ConfigurationError(
                f"CERTCAST_CADDY_LISTEN: cannot listen on {address}, port {port} ({error.strerror}): end the program "
                "that does, perhaps another agent, or name another port here and in Caddy's configuration"
            ) from error

    async def stop(self) -> None:
        """Answer no more: Caddy ends new handshakes until an agent is back, and keeps open connections."""
        await self._manager.close()

    async def version(self) -> str:
        """What the `caddy` command on PATH says; empty where there is none."""
        program = shutil.which("caddy")
        if program is None:
            return ""
        finished = await commands.run([program, "version"], timeout_s=_VERSION_TIMEOUT_S)
        words = finished.output.split()
        return f"Caddy {words[0].removeprefix('v')}" if finished.failure is None and words else ""

    async def current(self, keys: Collection[tuple[str, int]] | None = None) -> frozenset[InstalledBinding]:
        """What is answered."""
        if keys is None:
            return frozenset(self._installed)
        return frozenset(self._bound[key].installed for key in keys if key in self._bound)

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Write the files, then answer with all changes at once.

        Raises:
            ApplyError: A certificate cannot be served, or its file is there and not ours.
            ServerUnavailableError: The disk did not take the files.
        """
        installs = [change for change in changes if isinstance(change, Install)]
        for install in installs:
            if (reason := self.refusal(install)) is not None:
                raise ApplyError(reason, culprit=install.key)
        try:
            await asyncio.to_thread(self._write, changes)
        except OSError as error:
            raise ServerUnavailableError(f"{error.filename or self._folder}: {error.strerror}") from error
        # Nothing below waits, so a handshake meets the table before or after the batch.
        for change in changes:
            if (old := self._bound.pop(change.key, None)) is not None:
                self._installed.discard(old.installed)
        for install in installs:
            self._bind(install.bound, install.bundle.to_pem())

    async def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        """Nothing is left behind: a renewal takes the old one's place, and a removal deletes its file."""

    def endpoint(self, port: int) -> tuple[str, int]:
        """Caddy's listener as the settings name it."""
        return self._settings.address, port + self._settings.port_offset

    def refusal(self, change: Install) -> str | None:
        """A PortNumber that the offset carries to where there is no port, or a host that is none."""
        port = change.port + self._settings.port_offset
        if not 0 < port <= MAX_PORT:
            return (
                f"{change.host}:{change.port} would be served at port {port}, and ports are 1 to {MAX_PORT}: "
                f"CERTCAST_CADDY_PORT_OFFSET is {self._settings.port_offset}"
            )
        return name_refusal(change)

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """The fallback, another of our bindings, or a Caddy that does not ask."""
        url = f"http://{self._settings.listen[0]}:{self._settings.listen[1]}/{port}"
        if port not in self._manager.asked:
            return (
                f"no Caddy has asked this agent yet at {url}, which its configuration must name with `get_certificate`"
            )
        if seen_fingerprint_sha256 == self._fallback_fingerprint:
            return f"the fallback answered for {host}:{port}"
        for bound in self._bound.values():
            if bound.installed.fingerprint_sha256 == seen_fingerprint_sha256:
                return f"the certificate bound for {bound.installed.host}:{bound.installed.port} answered"
        return "Caddy has a certificate of its own for the host, and asks for none"

    def _answer(self, name: str, port: int) -> bytes:
        bound = self._bound.get((name, port)) or self._bound.get((wildcard_of(name) or "", port))
        return bound.pem if bound is not None else self._fallback

    def _bind(self, installed: InstalledBinding, pem: bytes) -> None:
        self._bound[installed.key] = _Bound(installed=installed, pem=pem)
        self._installed.add(installed)

    def _load(self) -> None:
        make_folder(self._folder)
        staging = self._folder / ".staging"
        clear_staging(staging)
        fallback = fallback_file(
            self._settings.fallback,
            self._folder / "fallback.pem",
            access=PRIVATE,
            staging=staging,
            setting="CERTCAST_CADDY_FALLBACK",
        )
        self._fallback = fallback.read_bytes()
        self._fallback_fingerprint = CertificateBundle.from_pem(self._fallback).fingerprint_sha256
        for key, binding in self._pems.read().items():
            self._bind(binding, self._pems.path(*key).read_bytes().partition(b"\n")[2])

    def _write(self, changes: Sequence[BindingChange]) -> None:
        files = FileBatch(self._folder / ".staging")
        for change in changes:
            path = self._pems.path(*change.key)
            if isinstance(change, Install):
                if change.key not in self._bound and path.exists():
                    raise ApplyError(
                        f"{path} is there and was made by hand: move it elsewhere, or {change.host}:{change.port} "
                        "cannot be kept",
                        culprit=change.key,
                    )
                files.write(path, tagged_pem(change))
            elif change.key in self._bound:
                files.delete(path)
        files.commit()
        files.close()
