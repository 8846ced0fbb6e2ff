"""IIS in memory: the gateway that the scenarios run on, as strict as Microsoft.Web.Administration where it matters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from instance_agent.targets.iis.bindings import Scope, Site, SiteState, SslFlags, split_information
from instance_agent.targets.iis.gateway import (
    AddBinding,
    CommitConflictError,
    GatewayError,
    Operation,
    RemoveBinding,
    ReplaceBinding,
)
from instance_agent.targets.iis.hresult import (
    ALREADY_EXISTS,
    NO_LOGON_SESSION,
    SHARING_VIOLATION,
)
from instance_agent.targets.iis.records import SslSettings
from tests.fakes.iis.world import Row

INVALID_PARAMETER = 0x80070057


@dataclass
class MemorySite:
    """A site of the committed configuration, or of a session's copy."""

    name: str
    site_id: int
    ftp: str = ""
    rows: list[Row] = field(default_factory=list)

    def copy(self) -> MemorySite:
        return replace(self, rows=list(self.rows))


class MemoryIis:
    """The `IisGateway` and the `World` behind it."""

    def __init__(self, *, version: tuple[int, int] = (10, 0)) -> None:
        self.iis_version = version
        self.sites: list[MemorySite] = []
        self.http_sys: dict[str, tuple[str, str]] = {}
        self.states: dict[str, SiteState] = {}
        self.default_ftp = ""
        self.configuration_version = 0
        self.commits = 0
        self.open_sessions = 0
        self.starts: list[str] = []
        self.lock = threading.Lock()
        self.lock_timeout_s = 5.0
        self.usable: Callable[[str], bool] = bool
        self.conflicts = 0
        self.intruder: tuple[str, str] | None = None
        self.share_violations = 0
        self.commit_code: int | None = None
        self.refused: set[str] = set()
        self.refused_records: dict[str, int] = {}
        self.settings: dict[str, SslSettings] = {}
        self.stops_on_commit: set[str] = set()
        self.stays_stopped: set[str] = set()
        self.hidden_states: dict[str, int] = {}
        self.hidden_certificates: set[str] = set()

    def version(self) -> tuple[int, int]:
        return self.iis_version

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if not self.lock.acquire(timeout=self.lock_timeout_s):
            raise GatewayError("another certcast process holds the mutex")
        try:
            yield
        finally:
            self.lock.release()

    @contextmanager
    def session(self) -> Iterator[MemorySession]:
        self.open_sessions += 1
        session = MemorySession(self)
        try:
            yield session
        finally:
            self.open_sessions -= 1
            session.disposed = True

    def add_site(self, name: str, *, site_id: int = 1, started: bool = True, ftp: str = "") -> None:
        self.sites.append(MemorySite(name=name, site_id=site_id, ftp=ftp))
        self.states[name] = SiteState.STARTED if started else SiteState.STOPPED

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
    ) -> None:
        row = Row(protocol=protocol, information=information, flags=flags, ds_mapper=ds_mapper)
        self.site(site).rows.append(row)
        if thumbprint:
            self.http_sys[endpoint_of(row)] = (thumbprint, store)

    def take_away(self, site: str, information: str) -> None:
        """As somebody does in IIS Manager."""
        (row,) = [row for row in self.site(site).rows if row.information == information]
        self.site(site).rows.remove(row)
        self.http_sys.pop(endpoint_of(row), None)
        self.settings.pop(endpoint_of(row), None)
        self.configuration_version += 1

    def set_default_ftp(self, thumbprint: str) -> None:
        self.default_ftp = thumbprint

    def rows(self, site: str) -> list[Row]:
        return list(self.site(site).rows)

    def site_names(self) -> list[str]:
        return [site.name for site in self.sites]

    def records(self) -> dict[str, tuple[str, str]]:
        return dict(self.http_sys)

    def state(self, site: str) -> SiteState:
        return self.states[site]

    def require_certificates(self, *thumbprints: str) -> None:
        self.usable = frozenset(thumbprints).__contains__

    def conflict(self, times: int, *, intruder: tuple[str, str] | None = None) -> None:
        self.conflicts, self.intruder = times, intruder

    def share_violation(self, times: int) -> None:
        self.share_violations = times

    def fail_commit(self, code: int) -> None:
        self.commit_code = code

    def refuse(self, information: str) -> None:
        self.refused.add(information)

    def refuse_record(self, endpoint: str, code: int) -> None:
        self.refused_records[endpoint] = code

    def stop_on_commit(self, site: str, *, stays: bool = False) -> None:
        self.stops_on_commit.add(site)
        if stays:
            self.stays_stopped.add(site)

    def hide_state(self, site: str, times: int) -> None:
        self.hidden_states[site] = times

    def hide_certificate(self, information: str) -> None:
        self.hidden_certificates.add(information)

    def site(self, name: str) -> MemorySite:
        return next(site for site in self.sites if site.name == name)


class MemorySession:
    """The `SiteSession`: a copy of the configuration, and what would happen to http.sys."""

    def __init__(self, iis: MemoryIis) -> None:
        self.iis = iis
        self.disposed = False
        self._read_at = iis.configuration_version
        self._sites = [site.copy() for site in iis.sites]
        self._http_sys: list[tuple[str, tuple[str, str] | None]] = []

    def sites(self, scope: Scope) -> tuple[Site, ...]:
        return tuple(self._view(site, scope) for site in self._sites)

    def states(self, names: Collection[str]) -> dict[str, SiteState]:
        return {site.name: self._state(site.name) for site in self._sites if site.name in names}

    def ftp_thumbprints(self) -> frozenset[str]:
        return frozenset(text.upper() for text in [self.iis.default_ftp, *(site.ftp for site in self._sites)] if text)

    def perform(self, operation: Operation) -> None:
        assert not self.disposed, "the manager was used after it was disposed of"
        site = next(site for site in self._sites if site.name == operation.site)
        match operation:
            case AddBinding():
                self._add(site, Row(protocol="https", information=operation.information, flags=int(operation.flags)))
                if operation.thumbprint:
                    self._certify(site.rows[-1], operation.thumbprint, operation.store)
            case RemoveBinding():
                self._remove(site, operation.old.information, config_only=operation.config_only)
            case ReplaceBinding():
                row = self._remove(site, operation.old.information, config_only=operation.config_only)
                self._add(site, replace(row, flags=int(operation.flags)))
                self._certify(site.rows[-1], operation.thumbprint, operation.store)

    def commit(self) -> None:
        assert not self.disposed, "the manager was used after it was disposed of"
        iis = self.iis
        if iis.conflicts:
            iis.conflicts -= 1
            iis.configuration_version += 1
            if iis.intruder is not None:
                iis.add_binding(iis.intruder[0], iis.intruder[1])
                iis.intruder = None
        if iis.configuration_version != self._read_at:
            raise CommitConflictError("the file has changed on disk")
        if iis.share_violations:
            iis.share_violations -= 1
            raise CommitConflictError("the file is being used by another process", code=SHARING_VIOLATION)
        if iis.commit_code is not None:
            raise GatewayError("An injected failure", code=iis.commit_code)
        self._accept()
        queued, self._http_sys = self._http_sys, []
        for endpoint, record in queued:
            self._apply(endpoint, record)

    def start_site(self, name: str) -> SiteState:
        self.iis.starts.append(name)
        if name not in self.iis.stays_stopped:
            self.iis.states[name] = SiteState.STARTED
        return self.iis.states[name]

    def add_site(self, name: str, information: str, path: str) -> None:
        assert path
        site_id = max((site.site_id for site in self._sites), default=0) + 1
        self._sites.append(MemorySite(name=name, site_id=site_id, rows=[Row(protocol="http", information=information)]))

    def remove_site(self, name: str) -> None:
        for site in [site for site in self._sites if site.name == name]:
            for row in list(site.rows):
                self._remove(site, row.information, protocol=row.protocol, config_only=False)
            self._sites.remove(site)

    def _view(self, site: MemorySite, scope: Scope) -> Site:
        bindings = []
        for row in site.rows:
            binding = scope.select(row.protocol, row.information, row.flags)
            if binding is not None:
                thumbprint, store = self.iis.http_sys.get(endpoint_of(row), ("", ""))
                if row.information in self.iis.hidden_certificates or binding.central:
                    thumbprint, store = "", ""
                bindings.append(replace(binding, thumbprint=thumbprint, store=store))
        return Site(name=site.name, id=site.site_id, web=_is_web(site), bindings=tuple(bindings))

    def _state(self, name: str) -> SiteState:
        if self.iis.hidden_states.get(name, 0):
            self.iis.hidden_states[name] -= 1
            return SiteState.UNKNOWN
        return self.iis.states[name]

    def _add(self, site: MemorySite, row: Row) -> None:
        if row.information in self.iis.refused:
            raise GatewayError("The parameter is incorrect", code=INVALID_PARAMETER)
        if any(_same(row, other.protocol, other.information) for other in site.rows):
            raise GatewayError("Cannot add duplicate collection entry of type 'binding'", code=ALREADY_EXISTS)
        site.rows.append(row)

    def _remove(self, site: MemorySite, information: str, *, config_only: bool, protocol: str = "https") -> Row:
        row = next(row for row in site.rows if _same(row, protocol, information))
        site.rows.remove(row)
        if not config_only and protocol == "https":
            self._http_sys.append((endpoint_of(row), None))
        return row

    def _certify(self, row: Row, thumbprint: str, store: str) -> None:
        assert len(bytes.fromhex(thumbprint)) == 20
        assert store
        self._http_sys.append((endpoint_of(row), (thumbprint.upper(), store)))

    def _apply(self, endpoint: str, record: tuple[str, str] | None) -> None:
        """One change of http.sys; a record that IIS makes has no settings but the plain ones."""
        iis = self.iis
        iis.settings.pop(endpoint, None)
        if record is None:
            iis.http_sys.pop(endpoint, None)
            return
        if not iis.usable(record[0]):
            raise GatewayError("A specified logon session does not exist", code=NO_LOGON_SESSION)
        if endpoint in iis.refused_records:
            raise GatewayError("An injected refusal", code=iis.refused_records[endpoint])
        iis.http_sys[endpoint] = record

    def _accept(self) -> None:
        """The configuration, which IIS writes before it gives http.sys one certificate."""
        iis = self.iis
        iis.sites = [site.copy() for site in self._sites]
        for site in iis.sites:
            iis.states.setdefault(site.name, SiteState.STARTED)
            if site.name in iis.stops_on_commit:
                iis.states[site.name] = SiteState.STOPPED
        iis.configuration_version += 1
        iis.commits += 1


def endpoint_of(row: Row) -> str:
    """The http.sys record an https binding lives on."""
    parts = split_information(row.information)
    assert parts is not None
    ip, port, host = parts
    if row.flags & SslFlags.CENTRAL_STORE:
        return f"central:{port}"
    return f"{host if row.flags & SslFlags.SNI else ip}:{port}"


def _same(row: Row, protocol: str, information: str) -> bool:
    return (row.protocol, row.information.lower()) == (protocol, information.lower())


def _is_web(site: MemorySite) -> bool:
    return any(row.protocol in {"http", "https"} for row in site.rows)
