"""The TLS listeners: which certificate a connection gets, and how that changes while connections come."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

from instance_agent.targets.base import ApplyError, Install, ServerUnavailableError
from instance_agent.targets.embedded.contexts import contexts_for, openssl_reason, server_context
from instance_agent.targets.embedded.page import page
from instance_agent.targets.parts.connections import Connections
from instance_agent.targets.parts.small_http import answer_requests
from shared.binding import phrased
from shared.errors import ConfigurationError
from shared.hostnames import DEFAULT_HOST, hosts_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.embedded.settings import EmbeddedSettings
    from instance_agent.targets.parts.small_http import Response
    from shared.bundle import CertificateBundle

HTTPS_PORT = 443

_BACKLOG = 1024
_NOT_TO_BE_HAD = {errno.EACCES, errno.EADDRNOTAVAIL}
_CURES = {
    errno.EADDRINUSE: "another program has it, perhaps another agent: end it, or set CERTCAST_EMBEDDED_PORT_OFFSET",
    errno.EACCES: "this account may not: run as administrator, or set CERTCAST_EMBEDDED_PORT_OFFSET",
    errno.EADDRNOTAVAIL: "CERTCAST_EMBEDDED_ADDRESS is not an address of this machine",
    errno.EMFILE: "the agent has no file descriptors left: raise its limit (LimitNOFILE, ulimit -n)",
}


class ListenerError(ApplyError):
    """A port could not be listened on; the change can succeed once the port is free."""

    retriable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """What is served for one host and port."""

    context: ssl.SSLContext
    fingerprint_sha256: str


class Listeners:
    """Serves any number of hosts on each port, and a fallback where no binding answers.

    The listener for PortNumber 443 is open from `reserved`, or `start`, on; another one as long as it has a binding.
    """

    def __init__(self, settings: EmbeddedSettings, fallback: CertificateBundle) -> None:
        self._settings = settings
        self._fallback = fallback
        self._bound: dict[tuple[str, int], _Bound] = {}
        self._pages: WeakKeyDictionary[ssl.SSLObject, Response] = WeakKeyDictionary()
        self._fallbacks_page = page("", fallback.fingerprint_sha256)
        self._quiet = ExitStack()
        self._accepting: dict[int, tuple[socket.socket, asyncio.Task[None]]] = {}
        self._reserved: socket.socket | None = None
        self._connections = Connections(self._converse, most=settings.max_connections, handshake_s=settings.handshake_s)

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Have the port for PortNumber 443 before `start`.

        Raises:
            ConfigurationError: Another program has it.
        """
        try:
            self._reserved = self._open(HTTPS_PORT)
        except OSError as error:
            raise ConfigurationError(self._trouble(HTTPS_PORT, error)) from error
        with self._reserved:
            yield

    async def start(self) -> None:
        """Listen for PortNumber 443, so that a fresh instance answers with the fallback at once.

        Raises:
            ConfigurationError: The port or address is none that can be had, or the fallback cannot be served.
            ServerUnavailableError: The port is another program's now, or there are no file descriptors left.
        """
        try:
            context = self._context(HTTPS_PORT)
            self._accept_from(HTTPS_PORT, self._reserved or self._open(HTTPS_PORT), context)
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"the certificate named by CERTCAST_EMBEDDED_FALLBACK cannot be served: {openssl_reason(error)}"
            ) from error
        except OSError as error:
            kind = ConfigurationError if error.errno in _NOT_TO_BE_HAD else ServerUnavailableError
            raise kind(self._trouble(HTTPS_PORT, error)) from error
        self._quiet.enter_context(_quiet_about_server_names())

    async def stop(self) -> None:
        """Close the ports and the connections; an answer that was begun is sent."""
        await self._close(list(self._accepting))
        await self._connections.end()
        self._quiet.close()

    async def swap(self, changes: Sequence[BindingChange]) -> None:
        """Make the changes, all or none: build what is new, open what is missing, then change the table at once.

        A port whose last binding went is closed then; what is connected there stays as long as it would have.

        Raises:
            ApplyError: A certificate cannot be served.
            ListenerError: A port cannot be listened on.
        """
        installs = [change for change in changes if isinstance(change, Install)]
        contexts = await asyncio.to_thread(contexts_for, installs)
        self._open_for(installs)
        for change in changes:  # handshakes ask on this event loop, so they see all of it or nothing
            if isinstance(change, Install):
                self._bound[change.key] = _Bound(
                    context=contexts[change.key], fingerprint_sha256=change.bundle.fingerprint_sha256
                )
            else:
                self._bound.pop(change.key, None)
        needed = {port for _, port in self._bound} | {HTTPS_PORT}
        await self._close([port for port in self._accepting if port not in needed])

    def _choose(self, port: int, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Give a connection its certificate, in the middle of its handshake; the one it came with is the fallback's."""
        host = next((host for host in hosts_for(name) if (host, port) in self._bound), None)
        if host is not None:
            bound = self._bound[host, port]
            connection.context = bound.context
            title = phrased(host, port) if host == DEFAULT_HOST else (name or "").lower().removesuffix(".")
            self._pages[connection] = page(title, bound.fingerprint_sha256)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = self._pages.get(writer.get_extra_info("ssl_object"), self._fallbacks_page)
        idle_s = self._settings.idle_s
        used = self._connections.used
        await answer_requests(reader, writer, lambda _: answer, first_s=idle_s, idle_s=idle_s, answered=used)

    def _open_for(self, installs: Iterable[Install]) -> None:
        """Open the listeners the installs need, or none of them."""
        opened: dict[int, tuple[socket.socket, ssl.SSLContext]] = {}
        for install in installs:
            if install.port in self._accepting or install.port in opened:
                continue
            try:
                context = self._context(install.port)
                opened[install.port] = self._open(install.port), context
            except OSError as error:
                for listening, _ in opened.values():
                    listening.close()
                raise ListenerError(self._trouble(install.port, error), culprit=install.key) from error
        for port, (listening, context) in opened.items():
            self._accept_from(port, listening, context)

    def _context(self, port: int) -> ssl.SSLContext:
        context = server_context(self._fallback)
        context.sni_callback = partial(self._choose, port)
        return context

    def _open(self, port: int) -> socket.socket:
        address = self._settings.endpoints.address
        listening = socket.create_server(
            (address, self._settings.endpoints.listened_on(port)),
            family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            backlog=_BACKLOG,
        )
        listening.setblocking(False)
        return listening

    def _accept_from(self, port: int, listening: socket.socket, context: ssl.SSLContext) -> None:
        task = asyncio.create_task(self._connections.accept(listening, context))
        self._accepting[port] = listening, task

    async def _close(self, ports: Sequence[int]) -> None:
        """Accept no more from these ports."""
        closing = [self._accepting.pop(port) for port in ports]
        for _, task in closing:
            task.cancel()
        await asyncio.gather(*(task for _, task in closing), return_exceptions=True)
        for listening, _ in closing:
            listening.close()

    def _trouble(self, port: int, error: OSError) -> str:
        cure = _CURES.get(
            error.errno or 0, f"check CERTCAST_EMBEDDED_ADDRESS and CERTCAST_EMBEDDED_PORT_OFFSET ({error.strerror})"
        )
        where = self._settings.endpoints
        return f"cannot listen on {where.address}, port {where.listened_on(port)}: {cure}"


@contextmanager
def _quiet_about_server_names() -> Iterator[None]:
    """Keep ssl from printing a stack trace where a server name is not ASCII; it ends that handshake too."""
    outer = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not (isinstance(unraisable.exc_value, UnicodeDecodeError) and isinstance(unraisable.object, bytes)):
            outer(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        if sys.unraisablehook is hook:
            sys.unraisablehook = outer
