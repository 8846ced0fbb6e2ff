"""The HAProxy target: certificates go live through the admin socket, and into files for the next start; no reload."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import ApplyError, NothingHeld, ServerUnavailableError
from instance_agent.targets.haproxy import reading, runtime
from instance_agent.targets.haproxy.batch import NotDefaultError, OversizedError, RuntimeBatch
from instance_agent.targets.haproxy.default import how_to_name
from instance_agent.targets.haproxy.disk import Disk
from instance_agent.targets.haproxy.exceptions import planned, require_room
from instance_agent.targets.haproxy.mirror import differing, read_mirror
from instance_agent.targets.haproxy.reload import reloaded
from instance_agent.targets.haproxy.session import Session
from instance_agent.targets.parts.bindings import answering, installs_of
from instance_agent.targets.parts.holding import holding
from instance_agent.targets.parts.pem_file import name_refusal
from shared.errors import CertcastError, ConfigurationError
from shared.hostnames import DEFAULT_HOST, wildcard_of
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from instance_agent.targets.base import BindingChange, Install, InstalledBinding, Key
    from instance_agent.targets.haproxy.disk import Written
    from instance_agent.targets.haproxy.mirror import Mirror
    from instance_agent.targets.haproxy.settings import HAProxySettings

log = logger(__name__)


class NoListError(ApplyError):
    """HAProxy was started without a crt-list for the PortNumber; the change can succeed once it has one."""

    retriable: ClassVar[bool] = True


class ReloadError(ApplyError):
    """HAProxy could not be reloaded for a chain that its socket cannot carry; it can once the reload is well again."""

    retriable: ClassVar[bool] = True


class HAProxyTarget(NothingHeld):
    """Certificates of one HAProxy on this machine, through its runtime API.

    What is bound is read from HAProxy once for each of its processes, whenever something went wrong, and when it is to
    be forgotten.
    """

    kind: ClassVar[str] = "haproxy"
    in_slices: ClassVar[bool] = True

    def __init__(self, settings: HAProxySettings) -> None:
        self._settings = settings
        self._socket = settings.socket
        self._disk = Disk(settings.folder)
        self._turn = asyncio.Lock()
        self._mirror: Mirror | None = None

    @property
    def place(self) -> str:
        """By the folder, whose lists its configuration names."""
        return f"HAProxy with the folder {self._disk.folder.absolute()}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """By a lock in the folder.

        Raises:
            ConfigurationError: Another agent has it, or it cannot be written.
        """
        self._require_folder()
        with holding(self._disk.folder, self.place):
            yield

    async def start(self) -> None:
        """Check folder and socket; an HAProxy that is down may come up later.

        Raises:
            ConfigurationError: The folder cannot be written, or the socket lets nothing be changed.
        """
        self._require_folder()
        if self._socket.exists() and not os.access(self._socket, os.R_OK | os.W_OK):
            raise ConfigurationError(
                f"CERTCAST_HAPROXY_SOCKET: this account may not use {self._socket}: run the agent as root or as the "
                "socket's user"
            )
        try:
            async with self._turn, Session(self._socket) as session:
                if not await runtime.may_change(session):
                    raise ConfigurationError(
                        f"CERTCAST_HAPROXY_SOCKET: {self._socket} lets no certificates be changed: add `level admin` "
                        "to its `stats socket` line"
                    )
        except ServerUnavailableError as error:
            log.warning("starting without HAProxy, which is tried again at each change: %s", error)

    def _require_folder(self) -> None:
        folder = self._disk.folder
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"CERTCAST_HAPROXY_FOLDER: {folder} is not a folder this account can write: create it with `install -d "
                f"-m 700 {folder}` and a list for each port with `install -m 600 /dev/null {folder}/443.list`, then "
                "name the list in haproxy.cfg"
            )

    async def version(self) -> str:
        """HAProxy's own; empty while it is down."""
        try:
            async with self._turn, Session(self._socket) as session:
                return f"HAProxy {(await session.identity()).version}"
        except ServerUnavailableError:
            return ""

    def forget(self) -> None:
        """Read HAProxy, its lists and its files when next asked."""
        self._mirror = None

    async def current(self, keys: Collection[Key] | None = None) -> frozenset[InstalledBinding]:
        """What this HAProxy process serves from our files.

        Raises:
            ServerUnavailableError: HAProxy did not tell.
        """
        async with self._turn, Session(self._socket) as session:
            return (await self._mirrored(session)).bound.owned(keys)

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Write the files, then make HAProxy serve the same; both are put back when it does not take all of it.

        Raises:
            ApplyError: HAProxy refuses a certificate.
            NoListError: HAProxy has no list for a PortNumber.
            ServerUnavailableError: HAProxy is down, or the disk is full.
        """
        installs = installs_of(changes, self.refusal)
        async with self._turn, Session(self._socket) as session:
            mirror = await self._mirrored(session)
            for install in installs:
                self._require_list(mirror, install)
            due = differing(mirror, changes)
            plan = planned(mirror, due)
            await require_room(session, self._disk, mirror, due, plan)
            before, written = await asyncio.to_thread(self._write, due, plan)
            # Until all is well again, what HAProxy serves is not known.
            self._mirror = None
            try:
                batch = RuntimeBatch(session, self._disk, mirror, before, plan)
                self._mirror = await self._make(batch, mirror, due, written)
            finally:
                await asyncio.to_thread(written.close)
            await self._tidy(session, self._mirror)

    def endpoint(self, port: int) -> tuple[str, int]:
        """HAProxy's listener as the settings name it."""
        return self._settings.endpoints.at(port)

    def refusal(self, change: Install) -> str | None:
        """A PortNumber that the offset carries to where there is no port."""
        return self._settings.endpoints.refusal(change) or name_refusal(*change.key)

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """Another of our bindings, an entry made by hand, or a listener without our list."""
        async with self._turn, Session(self._socket) as session:
            mirror = await self._mirrored(session)
            if (answered := answering(mirror.bound.values(), seen_fingerprint_sha256)) is not None:
                return answered
            ours = {self._disk.pem(*key) for key in mirror.bound}
            for crt_list in await reading.lists(session):
                for entry in await reading.entries(session, crt_list):
                    if entry.file in ours or host in entry.excepted:
                        continue
                    if host in entry.names:
                        return f"{crt_list} has {entry.file} for the same host, and HAProxy uses the first entry"
                    if wildcard_of(host) in entry.names:
                        return (
                            f"{crt_list} has {entry.file} for {wildcard_of(host)}, and HAProxy prefers the type of its "
                            f"key to the exact name: add `!{host}` to that line and reload HAProxy"
                        )
        address = self.endpoint(port)
        if host == DEFAULT_HOST:
            return how_to_name(Path(self._disk.default_list(port)), Path(self._disk.pem(host, port)))
        return (
            f"the bind line of the listener at {address[0]}:{address[1]} does not name {self._disk.crt_list(port)}, or "
            "it names a certificate by `crt` that covers the host itself"
        )

    async def _mirrored(self, session: Session) -> Mirror:
        """What the process that answers serves; read again when it is another one than last time."""
        identity = await session.identity()
        if identity.stopping:
            raise ServerUnavailableError("HAProxy is being reloaded, and its old process still answers")
        if self._mirror is None or self._mirror.process != identity.process:
            if self._mirror is not None:
                log.info("HAProxy was restarted (now process %s): what it serves is read again", identity.pid)
            self._mirror = await read_mirror(session, self._disk, identity.process)
        return self._mirror

    def _write(
        self, due: Sequence[BindingChange], plan: Mapping[Key, frozenset[str]]
    ) -> tuple[Mapping[Key, bytes], Written]:
        """Write the files; blocks.

        Returns:
            What they held before, and the batch.
        """
        with self._disk.own.trouble():
            return self._disk.contents(due), self._disk.write(due, plan)

    async def _make(
        self, batch: RuntimeBatch, mirror: Mirror, due: Sequence[BindingChange], written: Written
    ) -> Mirror:
        """Bring HAProxy to what the files say; on failure bring both back.

        Returns:
            What is bound then.
        """
        try:
            try:
                await batch.make(due)
            except OversizedError as error:
                return await self._make_by_reload(mirror, due, error)
        except BaseException as error:
            restored = await self._restore_files(written)
            if await batch.undo() and restored and not isinstance(error, ServerUnavailableError):
                self._mirror = mirror
            raise
        mirror.take_up(due, batch.plan)
        return mirror

    async def _make_by_reload(self, mirror: Mirror, due: Sequence[BindingChange], oversized: OversizedError) -> Mirror:
        if not self._settings.reload:
            raise ApplyError(
                f"{oversized}; set tune.bufsize 32768 in the global section of haproxy.cfg and restart HAProxy, or set "
                "CERTCAST_HAPROXY_RELOAD",
                culprit=oversized.culprit,
            ) from oversized
        log.warning("HAProxy is reloaded, which closes idle connections: %s", oversized)
        try:
            async with reloaded(self._settings.reload, self._socket, mirror.process) as (session, identity):
                renewed = await read_mirror(session, self._disk, identity.process)
        except ServerUnavailableError as error:
            raise ReloadError(f"{oversized}; {error}", culprit=oversized.culprit) from error
        if left := differing(renewed, due):
            raise ServerUnavailableError(f"HAProxy was reloaded and does not serve {left[0].phrased} as its files say")
        return renewed

    async def _restore_files(self, written: Written) -> bool:
        try:
            await asyncio.to_thread(written.undo)
        except OSError as error:
            log.error("files in %s could not be put back: %s", self._disk.folder, error.strerror)
            return False
        return True

    async def _tidy(self, session: Session, mirror: Mirror) -> None:
        """Delete what interrupted batches left; what fails is tried when HAProxy is read the next time."""
        if not mirror.stray_files and not mirror.stray_names:
            return
        needed = {self._disk.pem(*key) for key in mirror.bound}
        names = mirror.stray_names - needed
        files = mirror.stray_files - needed
        mirror.stray_names, mirror.stray_files = set(), set()
        try:
            for name in names:
                await runtime.drop(session, name)
            await asyncio.to_thread(self._disk.delete, files)
        except (CertcastError, OSError) as error:
            log.warning("what an interrupted batch left in %s could not be deleted: %s", self._disk.folder, error)

    def _require_list(self, mirror: Mirror, install: Install) -> None:
        if install.host == DEFAULT_HOST and install.port not in mirror.defaults:
            crt_list, pem = Path(self._disk.default_list(install.port)), Path(self._disk.pem(*install.key))
            raise NotDefaultError(
                f"HAProxy was started without {crt_list} for PortNumber {install.port}: {how_to_name(crt_list, pem)}",
                culprit=install.key,
            )
        if install.host != DEFAULT_HOST and install.port not in mirror.ports:
            raise NoListError(self._no_list(install.port), culprit=install.key)

    def _no_list(self, port: int) -> str:
        crt_list = self._disk.crt_list(port)
        return (
            f"HAProxy was started without a list for PortNumber {port}: create it with `install -m 600 /dev/null "
            f"{crt_list}`, add `crt-list {crt_list}` to the bind line of that port, and reload HAProxy"
        )
