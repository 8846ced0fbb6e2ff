"""The embedded target: TLS listeners of our own that swap certificates in memory; no other server is known here.

Settings, read by the agent's configuration and given to `EmbeddedTarget`: `CERTCAST_EMBEDDED_ADDRESS` (127.0.0.1),
`CERTCAST_EMBEDDED_PORT_OFFSET` (0), `CERTCAST_EMBEDDED_FALLBACK` (path of a PEM with key, leaf and intermediates; a
self-signed one is made where none is named) and `CERTCAST_EMBEDDED_CONTEXTS` (5000).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import platform
import ssl
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

from instance_agent.targets.base import ApplyError, Install, InstalledBinding, ServerUnavailableError
from instance_agent.targets.embedded_contexts import ContextStore, server_context
from instance_agent.targets.embedded_page import PageServer, Served
from instance_agent.targets.fallback import self_made_fallback
from shared.bundle import CertificateBundle
from shared.errors import ConfigurationError
from shared.hostnames import wildcard_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from instance_agent.targets.base import BindingChange

HTTPS_PORT = 443
MAX_PORT = 65535
DEFAULT_MAX_CONTEXTS = 5000

_BACKLOG = 1024
_HANDSHAKE_TIMEOUT_S = 15.0
_SHUTDOWN_TIMEOUT_S = 1.0  # for a client that does not answer our close_notify
_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound

_log = logging.getLogger(__name__)


class ListenerError(ApplyError):
    """A port could not be listened on; the change can succeed once the port is free."""

    retriable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """What is served for one host and port."""

    installed: InstalledBinding
    bundle: CertificateBundle


class EmbeddedTarget:
    """Serves any number of hosts on each port from this process, and a fallback where no binding answers.

    State lives in memory: a restarted agent starts empty and installs everything before it is ready. A listener, once
    opened, stays open until `stop`, so that the fallback answers where the last binding was removed.
    """

    kind: ClassVar[str] = "embedded"

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        port_offset: int = 0,
        fallback: CertificateBundle | None = None,
        max_contexts: int = DEFAULT_MAX_CONTEXTS,
    ) -> None:
        """Open nothing yet.

        Args:
            address: Address to listen on; empty, `0.0.0.0` and `::` mean every one.
            port_offset: PortNumber p is served at p + this.
            fallback: Served for an unknown or missing SNI; self-signed when None.
            max_contexts: TLS contexts kept built; beyond it the one used longest ago is built again on its next use.
        """
        self._address = address
        self._port_offset = port_offset
        self.fallback = fallback or self_made_fallback(datetime.now(UTC))
        self._fallback_served = Served(host="", fingerprint_sha256=self.fallback.fingerprint_sha256)
        self._bound: Mapping[tuple[str, int], _Bound] = {}
        self._uses: Counter[CertificateBundle] = Counter()
        self._contexts = ContextStore(max_contexts)
        self._listeners: dict[int, asyncio.Server] = {}
        self._served: WeakKeyDictionary[ssl.SSLObject, Served] = WeakKeyDictionary()
        self._pages = PageServer(self._served_on)

    async def start(self) -> None:
        """Listen for PortNumber 443, so that a fresh instance answers with the fallback at once.

        Raises:
            ConfigurationError: The port or address cannot be had, or the fallback cannot be served.
        """
        try:
            await self._listen(HTTPS_PORT)
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"the certificate named by CERTCAST_EMBEDDED_FALLBACK cannot be served: {_spoken(error)}"
            ) from error
        except OSError as error:
            raise ConfigurationError(self._listener_trouble(HTTPS_PORT, error)) from error

    async def stop(self) -> None:
        """Close the listeners, finish the responses in hand, then close the connections."""
        for listener in self._listeners.values():
            listener.close()
        await self._pages.finish()
        for listener in self._listeners.values():
            await listener.wait_closed()
        self._listeners.clear()

    async def version(self) -> str:
        """Python's and OpenSSL's."""
        return f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}"

    async def current(self) -> frozenset[InstalledBinding]:
        """Everything bound since the start."""
        return frozenset(bound.installed for bound in self._bound.values())

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Build what is new, open what is missing, then swap the whole table at once.

        Raises:
            ApplyError: A certificate cannot be served.
            ListenerError: A port cannot be listened on.
        """
        installs = [change for change in changes if isinstance(change, Install)]
        for install in installs:
            if (reason := self.refusal(install)) is not None:
                raise ApplyError(reason, culprit=install.key)
        known = {install.bundle for install in installs if install.bundle in self._contexts}
        built = await asyncio.to_thread(_build, installs, known)
        await self._open_for(installs)
        for bundle, context in built.items():
            self._contexts.put(bundle, context)
        table = dict(self._bound)
        before = [table.pop(change.key) for change in changes if change.key in table]
        after = [_Bound(installed=_installed(install), bundle=install.bundle) for install in installs]
        self._bound = table | {bound.installed.key: bound for bound in after}
        self._uses.update(bound.bundle for bound in after)
        self._uses.subtract(bound.bundle for bound in before)
        for bundle in {bound.bundle for bound in before}:
            if self._uses[bundle] == 0:
                del self._uses[bundle]
                self._contexts.discard(bundle)

    async def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        """Nothing is left behind: what is no longer bound went with the swap."""

    def endpoint(self, port: int) -> tuple[str, int]:
        """Our own listener, met over loopback where it listens on every address."""
        return _EVERY_ADDRESS.get(self._address, self._address), port + self._port_offset

    def refusal(self, change: Install) -> str | None:
        """A PortNumber that the offset carries to where there is no port."""
        port = change.port + self._port_offset
        if 0 < port <= MAX_PORT:
            return None
        return (
            f"{change.host}:{change.port} would be served at port {port}, and ports are 1 to {MAX_PORT}: "
            f"CERTCAST_EMBEDDED_PORT_OFFSET is {self._port_offset}"
        )

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """Whether the fallback or another of our bindings answered."""
        if seen_fingerprint_sha256 == self.fallback.fingerprint_sha256:
            return f"the fallback answered for {host}:{port}"
        for bound in self._bound.values():
            if bound.installed.fingerprint_sha256 == seen_fingerprint_sha256:
                return f"the certificate bound for {bound.installed.host}:{bound.installed.port} answered"
        return f"a program other than this agent answered at {self.endpoint(port)[0]}:{self.endpoint(port)[1]}"

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
                self._served[connection] = self._fallback_served
                return None
            connection.context = self._contexts.get(bound.bundle)
            self._served[connection] = Served(host=host, fingerprint_sha256=bound.installed.fingerprint_sha256)
        except Exception:  # noqa: BLE001 - OpenSSL's callback is no place to raise from
            _log.exception("a TLS handshake on port %d was ended: its certificate could not be loaded", port)
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None

    def _served_on(self, connection: ssl.SSLObject) -> Served:
        """What `_choose` gave the connection."""
        return self._served.get(connection, self._fallback_served)

    async def _open_for(self, installs: Sequence[Install]) -> None:
        """Open the listeners the installs need; when one cannot be opened, close those opened here."""
        opened: list[int] = []
        for install in installs:
            if install.port in self._listeners:
                continue
            try:
                await self._listen(install.port)
            except OSError as error:
                for port in opened:
                    self._listeners.pop(port).close()
                raise ListenerError(self._listener_trouble(install.port, error), culprit=install.key) from error
            opened.append(install.port)

    async def _listen(self, port: int) -> None:
        context = server_context(self.fallback)

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            return self._choose(port, connection, name)

        context.sni_callback = choose
        self._listeners[port] = await asyncio.get_running_loop().create_server(
            self._pages,
            self._address or None,
            port + self._port_offset,
            ssl=context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S,
            ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
        )

    def _listener_trouble(self, port: int, error: OSError) -> str:
        cures = {
            errno.EADDRINUSE: "another program listens there: end it, or set CERTCAST_EMBEDDED_PORT_OFFSET",
            errno.EACCES: "this account may not: run as administrator, or set CERTCAST_EMBEDDED_PORT_OFFSET",
            errno.EADDRNOTAVAIL: "CERTCAST_EMBEDDED_ADDRESS is not an address of this machine",
        }
        # asyncio itself tells that no address could be bound, without a number, from Python 3.13 on.
        number = errno.EADDRNOTAVAIL if error.errno is None else error.errno
        cure = cures.get(
            number, f"check CERTCAST_EMBEDDED_ADDRESS and CERTCAST_EMBEDDED_PORT_OFFSET ({error.strerror})"
        )
        return f"cannot listen on {self._address or 'every address'}, port {port + self._port_offset}: {cure}"


def _build(
    installs: Sequence[Install], known: AbstractSet[CertificateBundle]
) -> dict[CertificateBundle, ssl.SSLContext]:
    """The contexts for bundles that have none yet: the proof that OpenSSL will serve each. Runs in a thread.

    Raises:
        ApplyError: One cannot be served.
    """
    built: dict[CertificateBundle, ssl.SSLContext] = {}
    for install in installs:
        if install.bundle.leaf.public_key() != install.bundle.key.public_key():
            raise ApplyError(
                f"the certificate for {install.host}:{install.port} cannot be served: its private key does not belong "
                f"to it",
                culprit=install.key,
            )
        if install.bundle in known or install.bundle in built:
            continue
        try:
            built[install.bundle] = server_context(install.bundle)
        except ssl.SSLError as error:
            raise ApplyError(
                f"the certificate for {install.host}:{install.port} cannot be served: {_spoken(error)}",
                culprit=install.key,
            ) from error
        except OSError as error:
            raise ServerUnavailableError(
                f"the TLS context for {install.host}:{install.port} cannot be built now: {error.strerror}"
            ) from error
    return built


def _installed(change: Install) -> InstalledBinding:
    return InstalledBinding(
        host=change.host,
        port=change.port,
        bundle_id=change.bundle_id,
        fingerprint_sha256=change.bundle.fingerprint_sha256,
        site=change.site,
    )


def _spoken(error: ssl.SSLError) -> str:
    """OpenSSL's reason in its own words, without file and line."""
    return (error.reason or "unknown reason").replace("_", " ").lower()
