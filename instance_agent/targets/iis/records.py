"""Certificate records of http.sys, with the settings that only it holds, as the IIS targets read and write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from instance_agent.targets.iis.bindings import a_label

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

IIS_APPLICATION: Final = "{4dc3e181-e14b-4a21-b022-59fc669b0914}"
"""The application id that IIS writes on its records."""

ANY_ADDRESSES: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, never bound

_CHECK_MODES: Final = {
    0x1: "verifyclientcertrevocation=disable",
    0x2: "verifyrevocationwithcachedclientcertonly=enable",
    0x10000: "usagecheck=disable",
}
_FLAGS: Final = {
    0x1: "dsmapperusage=enable",
    0x2: "clientcertnegotiation=enable",
    0x8: "reject=enable",
    0x10: "disablehttp2=enable",
    0x20: "disablequic=enable",
    0x40: "disabletls13=enable",
    0x80: "disableocspstapling=enable",
    0x400: "disablelegacytls=enable",
    0x1000: "disabletls12=enable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SslSettings:
    """What a record says besides its certificate; the defaults are what IIS makes a record with.

    https://learn.microsoft.com/en-us/windows/win32/api/http/ns-http-http_service_config_ssl_param

    Attributes:
        check_mode: `DefaultCertCheckMode`: how client certificates are checked.
        freshness_s: `DefaultRevocationFreshnessTime`.
        retrieval_timeout_ms: `DefaultRevocationUrlRetrievalTimeout`.
        ctl_identifier: `pDefaultSslCtlIdentifier`: which issuers of client certificates are trusted.
        ctl_store: `pDefaultSslCtlStoreName`: the store of that list.
        flags: `DefaultFlags`: negotiation of client certificates, DS mapper, and what is switched off.
    """

    check_mode: int = 0
    freshness_s: int = 0
    retrieval_timeout_ms: int = 0
    ctl_identifier: str = ""
    ctl_store: str = ""
    flags: int = 0

    def arguments(self) -> list[str]:
        """What differs from the defaults, as arguments of `netsh http update sslcert`."""
        return [
            *(argument for bit, argument in _CHECK_MODES.items() if self.check_mode & bit),
            *([f"revocationfreshnesstime={self.freshness_s}"] if self.freshness_s else []),
            *([f"urlretrievaltimeout={self.retrieval_timeout_ms}"] if self.retrieval_timeout_ms else []),
            *([f"sslctlidentifier={self.ctl_identifier}"] if self.ctl_identifier else []),
            *([f"sslctlstorename={self.ctl_store}"] if self.ctl_store else []),
            *(argument for bit, argument in _FLAGS.items() if self.flags & bit),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SslRecord:
    """One record, as `netsh http show sslcert` shows it.

    Attributes:
        ip: Address of an `ip:port` record, else None.
        host: Name of a `hostname:port` record as http.sys has it, in lower case, else None; with neither it is the
            Centralized Certificate Store's.
        port: TCP port.
        thumbprint: Upper-case hex SHA-1, empty where the record has none.
        application: Application id, lower case.
        store: Certificate store, empty where the record names none.
        settings: All else.
    """

    ip: str | None = None
    host: str | None = None
    port: int
    thumbprint: str = ""
    application: str = ""
    store: str = ""
    settings: SslSettings = field(default_factory=SslSettings)

    @property
    def label(self) -> str | None:
        """The host as clients ask for it."""
        return None if self.host is None else a_label(self.host)

    @property
    def endpoint(self) -> str:
        """As in `Binding.endpoint`."""
        if self.host is not None:
            return f"{self.label}:{self.port}"
        if self.ip is not None:
            return f"{'*' if self.ip in ANY_ADDRESSES else self.ip}:{self.port}"
        return f"central:{self.port}"

    @property
    def command(self) -> str:
        """The netsh command that writes it as it is here."""
        key = f"hostnameport={self.host}:{self.port}" if self.host is not None else f"ipport={self.ip}:{self.port}"
        words = [key, f"certhash={self.thumbprint}", f"appid={self.application}", f"certstorename={self.store or 'My'}"]
        return " ".join(["netsh http update sslcert", *words, *self.settings.arguments()])


class HttpSys(Protocol):
    """The records of this machine's http.sys. Blocking: called in a worker thread."""

    def records(self, endpoints: Collection[str] | None = None) -> Sequence[SslRecord]:
        """All of them, or those of some endpoints as far as they exist. Raises `GatewayError`."""

    def put(self, record: SslRecord) -> None:
        """Write a record in place of the one that its endpoint has. Raises `GatewayError`."""

    def delete(self, record: SslRecord) -> None:
        """Take a record away. Raises `GatewayError`."""
