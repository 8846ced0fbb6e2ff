"""What the IIS targets ask of IIS: operations, errors and the gateway protocols."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

from instance_agent.targets.base import Key, ServerUnavailableError
from instance_agent.targets.iis.bindings import Binding, SslFlags, split_information
from instance_agent.targets.iis.hresult import described
from shared.errors import CertcastError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from instance_agent.targets.iis.bindings import Scope, Site, SiteState

FIRST_IIS_WITH_SNI = 8
"""And with the Centralized Certificate Store."""
FIRST_IIS_WITH_WILDCARDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _OnSite:
    """What every operation names.

    Attributes:
        key: Host and port of the change it serves; None for a catch-all.
        site: Site name.
    """

    key: Key | None
    site: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddBinding(_OnSite):
    """Add an https binding.

    Attributes:
        information: `bindingInformation`.
        flags: `sslFlags`.
        thumbprint: Certificate; empty for a binding of the Centralized Certificate Store.
        store: LocalMachine store of the certificate.
    """

    information: str
    flags: SslFlags
    thumbprint: str = ""
    store: str = ""

    @property
    def endpoint(self) -> str:
        """The record that the binding lives on, as in `Binding.endpoint`; empty where it has none."""
        parts = split_information(self.information)
        if parts is None:
            return ""
        ip, port, host = parts
        return Binding(
            protocol="https", information=self.information, ip=ip, port=port, host=host, flags=self.flags
        ).endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceBinding(_OnSite):
    """Put a binding with another certificate in a binding's place; its other attributes stay.

    IIS mixes certificates up when a binding is edited in place (https://github.com/win-acme/win-acme/issues/371).

    Attributes:
        old: The binding as it was read.
        flags: New `sslFlags`.
        thumbprint: New certificate.
        store: Its LocalMachine store.
        config_only: Whether the http.sys record of `old` stays because other bindings live on it.
    """

    old: Binding
    flags: SslFlags
    thumbprint: str
    store: str
    config_only: bool = False

    @property
    def endpoint(self) -> str:
        """The record that the new binding lives on."""
        return replace(self.old, flags=self.flags).endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveBinding(_OnSite):
    """Remove a binding; `old` and `config_only` are as in `ReplaceBinding`."""

    old: Binding
    config_only: bool = False


Operation = AddBinding | ReplaceBinding | RemoveBinding


class GatewayError(CertcastError):
    """IIS or Windows refused a call.

    Attributes:
        code: The HRESULT as an unsigned number, where there was one.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code

    @property
    def described(self) -> str:
        """The system's message with the code and, where it is known, the cure."""
        return described(str(self), self.code)


class CommitConflictError(GatewayError):
    """Another program committed since the configuration was read; read again, plan again."""

    retriable: ClassVar[bool] = True


@contextmanager
def as_unavailable() -> Iterator[None]:
    """Raise trouble with IIS or the stores as such, which is no change's fault, as the installer knows it."""
    try:
        yield
    except GatewayError as error:
        raise ServerUnavailableError(error.described) from error


class SiteSession(Protocol):
    """One reading of the configuration and the changes made on it: one `ServerManager`. Used from one thread."""

    def sites(self, scope: Scope) -> Sequence[Site]:
        """All sites, with the bindings in scope, in IIS's order."""

    def states(self, names: Collection[str]) -> Mapping[str, SiteState]:
        """State of these sites as far as they exist; `UNKNOWN` where IIS cannot tell (0x800710D8)."""

    def ftp_thumbprints(self) -> frozenset[str]:
        """Certificates that FTP sites and the site defaults use, upper-case hex SHA-1."""

    def perform(self, operation: Operation) -> None:
        """Make one change, not yet committed. Raises `GatewayError`."""

    def commit(self) -> None:
        """Make the changes effective. Raises `CommitConflictError` and `GatewayError`."""

    def start_site(self, name: str) -> SiteState:
        """Ask IIS to start a site and answer the state it then has."""

    def add_site(self, name: str, information: str, path: str) -> None:
        """Add a site with one http binding, not yet committed (only the self-test does)."""

    def remove_site(self, name: str) -> None:
        """Remove a site, not yet committed (only the self-test does)."""


class IisGateway(Protocol):
    """IIS on this machine. Blocking: called in a worker thread."""

    def version(self) -> tuple[int, int]:
        """Major and minor version of IIS."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep every other certcast process on this machine out. Raises `GatewayError` when one stays in."""

    def session(self) -> AbstractContextManager[SiteSession]:
        """A fresh reading; dropped at the end in any case."""
