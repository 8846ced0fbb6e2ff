"""The HAProxy target: certificates go live through the admin socket, and into files for the next start; no reload.

Settings: `CERTCAST_HAPROXY_SOCKET` (/run/haproxy/admin.sock), `CERTCAST_HAPROXY_FOLDER` (/etc/haproxy/certcast),
`CERTCAST_HAPROXY_RELOAD` (a command, for chains larger than HAProxy's buffer), `CERTCAST_HAPROXY_ADDRESS` (127.0.0.1)
and `CERTCAST_HAPROXY_PORT_OFFSET` (0): where the agent meets the listener of a PortNumber. The configuration that
belongs to it is in docs/targets/haproxy.md.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import ApplyError, Install, ServerUnavailableError
from instance_agent.targets.haproxy import mirror as haproxy_mirror
from instance_agent.targets.haproxy import runtime as haproxy_runtime
from instance_agent.targets.haproxy.batch import OversizedError, RuntimeBatch
from instance_agent.targets.haproxy.disk import Disk
from instance_agent.targets.haproxy.reload import reload
from instance_agent.targets.haproxy.session import Session
from instance_agent.targets.parts.pem_folder import name_refusal
from shared.errors import CertcastError, ConfigurationError
from shared.hostnames import covers

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from instance_agent.targets.base import BindingChange, InstalledBinding
    from instance_agent.targets.haproxy.disk import Written
    from instance_agent.targets.haproxy.mirror import Mirror
    from instance_agent.targets.haproxy.session import Identity

MAX_PORT = 65535

_PLAIN_PATH = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@")

log = logging.getLogger(__name__)


class NoListError(ApplyError):
    """HAProxy was started without a crt-list for the PortNumber; the change can succeed once it has one."""

    retriable: ClassVar[bool] = True


class ReloadError(ApplyError):
    """HAProxy could not be reloaded for a chain that its socket cannot carry; it can once the reload is well again."""

    retriable: ClassVar[bool] = True


class HAProxyTarget:
    """Certificates of one HAProxy on this machine, through its runtime API.

    What is bound is read from HAProxy once for each of its processes, and once more whenever something went wrong.
    """

    kind: ClassVar[str] = "haproxy"

    def __init__(
        self,
        *,
        socket: Path,
        folder: Path,
        reload_command: Sequence[str] = (),
        address: str = "127.0.0.1",
        port_offset: int = 0,
    ) -> None:
        """Open nothing yet.

        Args:
            socket: HAProxy's stats socket with `level admin`.
            folder: Where our crt-lists and PEM files lie.
            reload_command: Program and arguments that reload HAProxy; empty for never.
            address: Where the agent meets HAProxy's listeners.
            port_offset: PortNumber p is met at p + this.

        Raises:
            ConfigurationError: A path has characters that HAProxy's commands cannot carry.
        """
        for setting, path in (("SOCKET", socket), ("FOLDER", folder)):
            if not path.is_absolute() or not _PLAIN_PATH.issuperset(str(path)):
                raise ConfigurationError(
                    f"CERTCAST_HAPROXY_{setting} must be an absolute path of letters, digits and / . _ - + @, not "
                    f"{path}"
                )
        self._socket = socket
        self._disk = Disk(folder)
        self._reload_command = tuple(reload_command)
        self._address = address
        self._port_offset = port_offset
        self._turn = asyncio.Lock()
        self._mirror: Mirror | None = None

    async def start(self) -> None:
        """Check folder and socket; an HAProxy that is down may come up later.

        Raises:
            ConfigurationError: The folder cannot be written, or the socket lets nothing be changed.
        """
        folder = self._disk.folder
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"CERTCAST_HAPROXY_FOLDER: {folder} is not a folder this account can write: create it with `install -d "
                f"-m 700 {folder}` and a list for each port with `install -m 600 /dev/null {folder}/443.list`, then "
                "name the list in haproxy.cfg"
            )
        if self._socket.exists() and not os.access(self._socket, os.R_OK | os.W_OK):
            raise ConfigurationError(
                f"CERTCAST_HAPROXY_SOCKET: this account may not use {self._socket}: run the agent as root or as the "
                "socket's user"
            )
        try:
            async with self._turn, Session(self._socket) as session:
                if not await haproxy_runtime.may_change(session):
                    raise ConfigurationError(
                        f"CERTCAST_HAPROXY_SOCKET: {self._socket} lets no certificates be changed: add `level admin` "
                        "to its `stats socket` line"
                    )
        except ServerUnavailableError as error:
            log.warning("starting without HAProxy, which is tried again at each change: %s", error)

    async def stop(self) -> None:
        """Nothing is held open; HAProxy goes on."""

    async def version(self) -> str:
        """HAProxy's own; empty while it is down."""
        try:
            async with self._turn, Session(self._socket) as session:
                return f"HAProxy {(await session.identity()).version}"
        except ServerUnavailableError:
            return ""

    async def current(self, keys: Collection[tuple[str, int]] | None = None) -> frozenset[InstalledBinding]:
        """What this HAProxy process serves from our files.

        Raises:
            ServerUnavailableError: HAProxy did not tell.
        """
        async with self._turn, Session(self._socket) as session:
            return (await self._mirrored(session)).owned(keys)

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Write the files, then make HAProxy serve the same; both are put back when it does not take all of it.

        Raises:
            ApplyError: HAProxy refuses a certificate.
            NoListError: HAProxy has no list for a PortNumber.
            ServerUnavailableError: HAProxy is down, or the disk is full.
        """
        for change in changes:
            self._check(change)
        async with self._turn, Session(self._socket) as session:
            mirror = await self._mirrored(session)
            for change in changes:
                if isinstance(change, Install) and change.port not in mirror.ports:
                    raise NoListError(self._no_list(change.port), culprit=change.key)
            due = haproxy_mirror.differing(mirror, changes)
            before, written = await asyncio.to_thread(self._write, due)
            # Until all is well again, what HAProxy serves is not known.
            self._mirror = None
            try:
                self._mirror = await self._make(RuntimeBatch(session, self._disk, mirror, before), mirror, due, written)
            finally:
                await asyncio.to_thread(written.close)
            await self._tidy(session, self._mirror)

    async def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        """Nothing is left behind: a renewal takes the old one's place, and a removal deletes its file."""

    def endpoint(self, port: int) -> tuple[str, int]:
        """HAProxy's listener as the settings name it."""
        return self._address, port + self._port_offset

    def refusal(self, change: Install) -> str | None:
        """A PortNumber that the offset carries to where there is no port."""
        if not 0 < change.port + self._port_offset <= MAX_PORT:
            return (
                f"{change.host}:{change.port} would be served at port {change.port + self._port_offset}, and ports are "
                f"1 to {MAX_PORT}: CERTCAST_HAPROXY_PORT_OFFSET is {self._port_offset}"
            )
        return name_refusal(change)

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """Another of our bindings, an entry made by hand, or a listener without our list."""
        async with self._turn, Session(self._socket) as session:
            mirror = await self._mirrored(session)
            for binding in mirror.bound.values():
                if binding.fingerprint_sha256 == seen_fingerprint_sha256:
                    return f"the certificate bound for {binding.host}:{binding.port} answered"
            for crt_list in await haproxy_runtime.lists(session):
                for file, _, names in await haproxy_runtime.entries(session, crt_list):
                    if file != self._disk.pem(host, port) and any(covers(name.lower(), host) for name in names):
                        return f"{crt_list} has {file} for the same host, and HAProxy keeps to its first entry"
        address = self.endpoint(port)
        return (
            f"the bind line of the listener at {address[0]}:{address[1]} does not name {self._disk.crt_list(port)}, or "
            "it names a certificate by `crt` that covers the host itself"
        )

    def _check(self, change: BindingChange) -> None:
        if isinstance(change, Install) and (reason := self.refusal(change)) is not None:
            raise ApplyError(reason, culprit=change.key)

    async def _mirrored(self, session: Session) -> Mirror:
        """What the process that answers serves; read anew when it is another one than last time."""
        identity = await session.identity()
        if identity.stopping:
            raise ServerUnavailableError("HAProxy is being reloaded, and its old process still answers")
        if self._mirror is None or self._mirror.process != identity.process:
            if self._mirror is not None:
                log.info("HAProxy was restarted (now process %s): what it serves is read again", identity.pid)
            self._mirror = await haproxy_mirror.read(session, self._disk, identity.process)
        return self._mirror

    def _write(self, due: Sequence[BindingChange]) -> tuple[Mapping[tuple[str, int], bytes], Written]:
        """Write the files; blocks.

        Returns:
            What they held before, and the batch.
        """
        try:
            return self._disk.contents(due), self._disk.write(due)
        except OSError as error:
            raise ServerUnavailableError(f"{error.filename or self._disk.folder}: {error.strerror}") from error

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
        mirror.keep_in_step(due)
        return mirror

    async def _make_by_reload(self, mirror: Mirror, due: Sequence[BindingChange], oversized: OversizedError) -> Mirror:
        if not self._reload_command:
            raise ApplyError(
                f"{oversized}; set tune.bufsize 32768 in the global section of haproxy.cfg and restart HAProxy, or set "
                "CERTCAST_HAPROXY_RELOAD",
                culprit=oversized.culprit,
            ) from oversized
        log.warning("HAProxy is reloaded, which closes idle connections: %s", oversized)
        try:
            identity: Identity = await reload(self._reload_command, self._socket, mirror.process)
        except ServerUnavailableError as error:
            raise ReloadError(f"{oversized}; {error}", culprit=oversized.culprit) from error
        async with Session(self._socket) as session:
            renewed = await haproxy_mirror.read(session, self._disk, identity.process)
        if left := haproxy_mirror.differing(renewed, due):
            raise ServerUnavailableError(
                f"HAProxy was reloaded and does not serve {left[0].host}:{left[0].port} as its files say"
            )
        return renewed

    async def _restore_files(self, written: Written) -> bool:
        try:
            await asyncio.to_thread(written.undo)
        except OSError as error:
            log.error("files in %s could not be put back: %s", self._disk.folder, error.strerror)
            return False
        return True

    async def _tidy(self, session: Session, mirror: Mirror) -> None:
        """Delete what interrupted batches left; what fails is tried again when HAProxy is read anew."""
        if not mirror.stray_files and not mirror.stray_names:
            return
        needed = {self._disk.pem(*key) for key in mirror.bound}
        names = mirror.stray_names - needed
        files = mirror.stray_files - needed
        mirror.stray_names, mirror.stray_files = set(), set()
        try:
            for name in names:
                await haproxy_runtime.drop(session, name)
            await asyncio.to_thread(self._disk.delete, files)
        except (CertcastError, OSError) as error:
            log.warning("what an interrupted batch left in %s could not be deleted: %s", self._disk.folder, error)

    def _no_list(self, port: int) -> str:
        crt_list = self._disk.crt_list(port)
        return (
            f"HAProxy was started without a list for PortNumber {port}: create it with `install -m 600 /dev/null "
            f"{crt_list}`, add `crt-list {crt_list}` to the bind line of that port, and reload HAProxy"
        )
