"""The TLS listeners of one process: which certificate a connection gets, and how that changes while connections come.

It serves in the agent's own process, or in each worker's; who tells it what to serve is not known here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from instance_agent.targets.base import Install
from instance_agent.targets.embedded.building import contexts_for, refuse_strangers_keys, spoken
from instance_agent.targets.embedded.contexts import ContextStore, server_context
from instance_agent.targets.embedded.http import HttpBounds, HttpServer
from instance_agent.targets.embedded.page import answer_with_page
from instance_agent.targets.embedded.ports import ListenerError, listener_trouble
from instance_agent.targets.embedded.proxy import Patience, ReverseProxy
from instance_agent.targets.embedded.served import Served
from shared.bundle import CertificateBundle
from shared.errors import ConfigurationError
from shared.hostnames import wildcard_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence

    from instance_agent.targets.base import BindingChange

HTTPS_PORT = 443

_BACKLOG = 1024
_HANDSHAKE_TIMEOUT_S = 15.0
_SHUTDOWN_TIMEOUT_S = 1.0  # for a client that does not answer our close_notify

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a process that serves must know.

    Attributes:
        address: Address to listen on; empty means every one.
        port_offset: PortNumber p is served at p + this.
        fallback: Served for an unknown or missing server name.
        max_contexts: TLS contexts kept built.
        max_connections: Connections open at a time.
        upstream: Where requests are passed to; None for the small page.
        idle_s: Longest silence in a request passed on.
        shares_ports: Whether other processes listen on the same ports.
    """

    address: str
    port_offset: int
    fallback: CertificateBundle
    max_contexts: int
    max_connections: int
    upstream: str | None
    idle_s: float
    shares_ports: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """What is served for one host and port."""

    bundle: CertificateBundle
    served: Served


class Listeners:
    """Serves any number of hosts on each port, and a fallback where no binding answers.

    A listener, once opened, stays open until `stop`, so that the fallback answers where the last binding was removed.
    """

    def __init__(self, serving: Serving) -> None:
        self.contexts = ContextStore(serving.max_contexts)
        self._serving = serving
        self._fallback = _served("", serving.fallback)
        self._bound: dict[tuple[str, int], _Bound] = {}
        self._uses: Counter[CertificateBundle] = Counter()
        self._pending: Sequence[BindingChange] = ()
        self._listeners: dict[int, asyncio.Server] = {}
        self._doors: dict[int, ssl.SSLContext] = {}
        self._opened: list[int] = []
        self._served: WeakKeyDictionary[ssl.SSLObject, Served] = WeakKeyDictionary()
        self._proxy = (
            None if serving.upstream is None else ReverseProxy(serving.upstream, Patience(idle_s=serving.idle_s))
        )
        self._http = HttpServer(
            answer_with_page if self._proxy is None else self._proxy,
            lambda connection: self._served.get(connection, self._fallback),
            HttpBounds(connections=serving.max_connections),
        )

    async def start(self) -> None:
        """Listen for PortNumber 443, so that a fresh instance answers with the fallback at once.

        Raises:
            ConfigurationError: The port or address cannot be had, or the fallback cannot be served.
        """
        await self.open([HTTPS_PORT])

    async def open(self, ports: Iterable[int]) -> None:
        """Listen on these ports too.

        Raises:
            ConfigurationError: As for `start`.
        """
        for port in ports:
            try:
                await self._listen(port)
            except ssl.SSLError as error:
                raise ConfigurationError(
                    f"the certificate named by CERTCAST_EMBEDDED_FALLBACK cannot be served: {spoken(error)}"
                ) from error
            except OSError as error:
                raise ConfigurationError(
                    listener_trouble(self._serving.address, port + self._serving.port_offset, error)
                ) from error

    async def stop(self) -> None:
        """Close the listeners, finish the answers in hand, then close the connections."""
        for listener in self._listeners.values():
            listener.close()
        if self._proxy is not None:
            self._proxy.end_tunnels()
        await self._http.finish()
        for listener in self._listeners.values():
            await listener.wait_closed()
        self._listeners.clear()
        if self._proxy is not None:
            await self._proxy.close()

    async def swap(self, changes: Sequence[BindingChange]) -> None:
        """Make the changes, all or none.

        Raises:
            ApplyError: As `prepare`.
        """
        await self.prepare(changes)
        self.commit()

    async def prepare(self, changes: Sequence[BindingChange], *, listening: bool = True) -> None:
        """Build what is new and open what is missing, so that `commit` cannot fail; `abort` takes it back.

        Args:
            changes: What is to change.
            listening: Whether ports are opened; else `open` does it later.

        Raises:
            ApplyError: A certificate cannot be served; nothing is left of the try.
            ListenerError: A port cannot be listened on; the same.
        """
        refuse_strangers_keys(changes)
        installs = [change for change in changes if isinstance(change, Install)]
        known = {install.bundle for install in installs if install.bundle in self.contexts}
        built = await asyncio.to_thread(contexts_for, installs, known)
        if listening:
            await self._open_for(installs)
        for bundle, context in built.items():
            self.contexts.put(bundle, context)
        self._pending = changes

    def commit(self) -> None:
        """Make what was prepared what is served.

        In place, because copying the table would cost the more the more is bound: handshakes ask on the event loop, and
        so see all of it or nothing.
        """
        changes, self._pending, self._opened = self._pending, (), []
        before = [self._bound.pop(change.key) for change in changes if change.key in self._bound]
        after = {
            change.key: _Bound(bundle=change.bundle, served=_served(change.host, change.bundle))
            for change in changes
            if isinstance(change, Install)
        }
        self._bound |= after
        self._uses.update(bound.bundle for bound in after.values())
        self._uses.subtract(bound.bundle for bound in before)
        self._forget_unused(bound.bundle for bound in before)

    def abort(self) -> None:
        """Take back what was prepared."""
        changes, self._pending = self._pending, ()
        self._close_opened()
        self._forget_unused(change.bundle for change in changes if isinstance(change, Install))

    def served(self) -> Iterable[tuple[str, int, str]]:
        """Host, port and fingerprint of everything that new connections get."""
        return [(host, port, bound.served.fingerprint_sha256) for (host, port), bound in self._bound.items()]

    async def adopt(self, port: int, connected: socket.socket) -> None:
        """Serve a connection that was not accepted here just as one that was.

        Raises:
            OSError: Its handshake failed, or nothing listens for the port.
        """
        door = self._doors.get(port)
        if door is None or port not in self._listeners:
            connected.close()
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nothing listens for port {port}")
        await asyncio.get_running_loop().connect_accepted_socket(
            self._http,
            connected,
            ssl=door,
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S,
            ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
        )

    def _choose(self, port: int, connection: ssl.SSLObject, name: str | None) -> int | None:
        """Give a connection its certificate; the context it came with is the fallback's.

        Called by OpenSSL in the middle of a handshake, where an exception would be printed and lost.

        Returns:
            None to go on, else the TLS alert to end the handshake with (RFC 8446, section 6).
        """
        try:
            host = (name or "").lower().rstrip(".")
            bound = self._bound.get((host, port)) or self._bound.get((wildcard_of(host) or "", port))
            if bound is None:
                self._served[connection] = self._fallback
                return None
            connection.context = self.contexts.get(bound.bundle)
            self._served[connection] = Served(
                host=host, fingerprint_sha256=bound.served.fingerprint_sha256, names=bound.served.names
            )
        except Exception:  # noqa: BLE001 - OpenSSL's callback is no place to raise from
            _log.exception("a TLS handshake on port %d was ended: its certificate could not be loaded", port)
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None

    def _forget_unused(self, bundles: Iterable[CertificateBundle]) -> None:
        for bundle in set(bundles):
            if self._uses[bundle] == 0:
                del self._uses[bundle]
                self.contexts.discard(bundle)

    async def _open_for(self, installs: Sequence[Install]) -> None:
        """Open the listeners the installs need; when one cannot be opened, close those opened here."""
        for install in installs:
            if install.port in self._listeners:
                continue
            try:
                await self._listen(install.port)
            except OSError as error:
                self._close_opened()
                raise ListenerError(
                    listener_trouble(self._serving.address, install.port + self._serving.port_offset, error),
                    culprit=install.key,
                ) from error
            self._opened.append(install.port)

    def _close_opened(self) -> None:
        for port in self._opened:
            self._listeners.pop(port).close()
        self._opened = []

    async def _listen(self, port: int) -> None:
        context = server_context(self._serving.fallback)

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            return self._choose(port, connection, name)

        context.sni_callback = choose
        self._doors[port] = context
        self._listeners[port] = await asyncio.get_running_loop().create_server(
            self._http,
            self._serving.address or None,
            port + self._serving.port_offset,
            ssl=context,
            backlog=_BACKLOG,
            reuse_port=self._serving.shares_ports or None,
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S,
            ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
        )


def _served(host: str, bundle: CertificateBundle) -> Served:
    return Served(host=host, fingerprint_sha256=bundle.fingerprint_sha256, names=bundle.dns_names)
