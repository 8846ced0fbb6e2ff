"""What a test arranges and looks at behind an IIS gateway, whether that runs in memory or over the C# assembly."""

from dataclasses import dataclass
from typing import Protocol

from instance_agent.targets.iis.bindings import SiteState


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

    def stop_on_commit(self, site: str, *, stays: bool = False) -> None: ...

    def hide_state(self, site: str, times: int) -> None:
        """The next readings of the site's state fail with 0x800710D8."""
        ...

    def hide_certificate(self, information: str) -> None:
        """Reading the binding's certificate fails, as it does where http.sys has no readable record."""
        ...
