"""What IIS has bound: sites, bindings, and which of them a reader needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag, StrEnum

from instance_agent.targets.base import Key
from shared.hostnames import DEFAULT_HOST, normalise_host

ANY_ADDRESS = "*"


class SslFlags(IntFlag):
    """`sslFlags` of a binding.

    https://learn.microsoft.com/en-us/iis/configuration/system.applicationhost/sites/site/bindings/binding
    """

    NONE = 0
    SNI = 1
    CENTRAL_STORE = 2
    DISABLE_HTTP2 = 4
    DISABLE_OCSP_STAPLING = 8
    DISABLE_QUIC = 16
    DISABLE_TLS13 = 32
    DISABLE_LEGACY_TLS = 64


class SiteState(StrEnum):
    """The run-time state of a site, `ObjectState` in Microsoft.Web.Administration."""

    STARTING = "Starting"
    STARTED = "Started"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One binding of a site.

    Attributes:
        protocol: `https`, `http`, `ftp` … in lower case.
        information: `bindingInformation` exactly as IIS has it.
        ip: Address in lower case, `*` for all.
        port: TCP port.
        host: Host header in A-label form, lower case; empty for every host.
        flags: `sslFlags`.
        thumbprint: Upper-case hex SHA-1 of the bound certificate; empty when IIS knows none.
        store: LocalMachine store of that certificate.
    """

    protocol: str
    information: str
    ip: str
    port: int
    host: str
    flags: SslFlags = SslFlags.NONE
    thumbprint: str = ""
    store: str = ""

    @property
    def sni(self) -> bool:
        """Whether the certificate is chosen by the name in the ClientHello."""
        return SslFlags.SNI in self.flags

    @property
    def central(self) -> bool:
        """Whether the certificate comes from the Centralized Certificate Store."""
        return SslFlags.CENTRAL_STORE in self.flags

    @property
    def key(self) -> Key:
        """Host and port of the change that it serves: `DEFAULT_HOST` without host, address and SNI.

        http.sys looks at such a binding's record last (`shadow.lookup_order`), so it shadows no other.
        """
        is_default = not self.host and self.ip == ANY_ADDRESS and not self.sni and not self.central
        return (DEFAULT_HOST if is_default else self.host, self.port)

    @property
    def endpoint(self) -> str:
        """The certificate's http.sys record; SNI bindings of one name and port share it whatever their address."""
        if self.central:
            return f"central:{self.port}"
        if self.sni:
            return f"{self.host}:{self.port}"
        return f"{self.ip}:{self.port}"


def split_information(information: str) -> tuple[str, int, str] | None:
    """Address, port and host of an http(s) binding, or None for bindings of another form (net.pipe, msmq …)."""
    parts = information.rsplit(":", 2)
    if len(parts) != 3 or not parts[1].isdigit():  # noqa: PLR2004 - address, port, host
        return None
    ip = parts[0].strip("[]").lower()
    return (ANY_ADDRESS if ip in {"", "0.0.0.0"} else ip, int(parts[1]), a_label(parts[2]))  # noqa: S104 - compared


def a_label(text: str) -> str:
    """A host as clients ask for it, in lower case; IIS and http.sys keep international ones in their letters."""
    if text.isascii():
        return text.lower()
    try:
        return normalise_host(text)
    except ValueError:
        return text.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One site with the bindings that a `Scope` asked for.

    Attributes:
        name: Site name.
        id: Site id.
        web: Whether it has an http or https binding; an FTP site has none.
        bindings: The bindings in scope, in IIS's order.
    """

    name: str
    id: int
    web: bool
    bindings: tuple[Binding, ...] = ()


_SNI = int(SslFlags.SNI)  # an enum's own arithmetic took most of the time where there are thousands of bindings


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which bindings a reader needs, so that a change among thousands does not read them all.

    Attributes:
        keys: Host and port of wanted https bindings; None wants every one. Bindings without SNI are always wanted: they
            share an http.sys record with others.
    """

    keys: frozenset[Key] | None

    def select(self, protocol: str, information: str, flags: int) -> Binding | None:
        """The binding without its certificate if it is wanted."""
        if protocol.lower() != "https":
            return None
        parts = split_information(information)
        if parts is None:
            return None
        ip, port, host = parts
        if self.keys is not None and flags & _SNI and (host, port) not in self.keys:
            return None
        return Binding(protocol="https", information=information, ip=ip, port=port, host=host, flags=SslFlags(flags))


EVERYTHING = Scope(keys=None)
