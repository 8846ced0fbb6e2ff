"""What a test arranges and looks at behind an IIS gateway, whether that runs in memory or over the C# assembly."""

from dataclasses import dataclass
from typing import Protocol

from instance_agent.targets.iis.bindings import SiteState
from instance_agent.targets.iis.records import SslRecord

ALL_ADDRESSES = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A binding as it stands in the committed configuration."""

    protocol: str
    information: str
    flags: int = 0
    ds_mapper: bool = False


class World(Protocol):
    """The machine under a gateway."""

    @property
    def commits(self) -> int: ...

    @property
    def open_sessions(self) -> int: ...

    @property
    def starts(self) -> list[str]: ...

    def add_site(self, name: str, *, site_id: int = 1, started: bool = True, ftp: str = "") -> None: ...

    def add_binding(
        self,
        site: str,
        information: str,
        *,
        protocol: str = "https",
        flags: int = 1,
        thumbprint: str = "",
        store: str = "My",
        ds_mapper: bool = False,
    ) -> None: ...

    def set_default_ftp(self, thumbprint: str) -> None: ...

    def rows(self, site: str) -> list[Row]: ...

    def site_names(self) -> list[str]: ...

    def records(self) -> dict[str, tuple[str, str]]:
        """Thumbprint and store of every http.sys record, by `Binding.endpoint`."""
        ...

    def state(self, site: str) -> SiteState: ...

    def require_certificates(self, *thumbprints: str) -> None:
        """From now on a commit that binds another certificate fails with 0x80070520."""
        ...

    def conflict(self, times: int, *, intruder: tuple[str, str] | None = None) -> None:
        """The next commits meet another program's, the first of which added a binding to a site."""
        ...

    def share_violation(self, times: int) -> None: ...

    def fail_commit(self, code: int) -> None: ...

    def refuse(self, information: str) -> None: ...

    def refuse_record(self, endpoint: str, code: int) -> None:
        """From now on http.sys refuses a certificate for this endpoint, after the configuration was committed."""
        ...

    def stop_on_commit(self, site: str, *, stays: bool = False) -> None: ...

    def hide_state(self, site: str, times: int) -> None:
        """The next readings of the site's state fail with 0x800710D8."""
        ...

    def hide_certificate(self, information: str) -> None:
        """Reading the binding's certificate fails, as it does where http.sys has no readable record."""
        ...


def made_record(endpoint: str, thumbprint: str, store: str) -> SslRecord:
    """The record of an endpoint as IIS makes it."""
    name, _, port = endpoint.rpartition(":")
    ip = "0.0.0.0" if name == ALL_ADDRESSES else name  # noqa: S104 - how netsh shows it
    is_address = ip.replace(".", "").isdigit() or ":" in ip
    return SslRecord(
        ip=ip if is_address else None,
        host=None if is_address else name,
        port=int(port),
        thumbprint=thumbprint,
        store=store,
        application="{4dc3e181-e14b-4a21-b022-59fc669b0914}",
    )
