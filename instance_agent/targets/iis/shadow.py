"""Which http.sys record answers a handshake, and why it was another than expected; pure."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from shared.hostnames import wildcard_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from instance_agent.targets.iis.bindings import Site

IIS_APPLICATION = "{4dc3e181-e14b-4a21-b022-59fc669b0914}"
"""The application id that IIS writes on its records."""

_ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, never bound


@dataclass(frozen=True, slots=True, kw_only=True)
class SslRecord:
    """One record of `netsh http show sslcert`.

    Attributes:
        ip: Address of an `ip:port` record, else None.
        host: Name of a `hostname:port` record in lower case, else None; with neither it is the Centralized
            Certificate Store's.
        port: TCP port.
        thumbprint: Upper-case hex SHA-1, empty where the record has none.
        application: Application id, lower case.
        store: Certificate store, empty where the record names none.
    """

    ip: str | None = None
    host: str | None = None
    port: int
    thumbprint: str = ""
    application: str = ""
    store: str = ""

    @property
    def endpoint(self) -> str:
        """As in `Binding.endpoint`."""
        if self.host is not None:
            return f"{self.host}:{self.port}"
        if self.ip is not None:
            return f"{'*' if self.ip in _ANY else self.ip}:{self.port}"
        return f"central:{self.port}"


def lookup_order(records: Sequence[SslRecord], *, address: str, port: int, host: str) -> list[SslRecord]:
    """The records that could answer a ClientHello for the host, the one that does first.

    An exact address goes before the name, which often surprises administrators
    (https://github.com/win-acme/win-acme/issues/94, https://github.com/win-acme/win-acme/issues/1686); then the name,
    its wildcard, the Centralized Certificate Store, and the record for all addresses.
    """
    wildcard = wildcard_of(host)

    def rank(record: SslRecord) -> int | None:
        if record.ip is not None:
            if record.ip == address:
                return 0
            return 4 if record.ip in _ANY else None
        if record.host is None:
            return 3
        if record.host == host:
            return 1
        return 2 if record.host == wildcard else None

    ranked = [(rank(record), record) for record in records if record.port == port]
    found = [(position, record) for position, record in ranked if position is not None]
    return [record for _, record in sorted(found, key=itemgetter(0))]


def owners_of(sites: Sequence[Site]) -> dict[str, str]:
    """For each http.sys record, the binding that http.sys has it from."""
    return {
        binding.endpoint: f"{binding.information} of site {site.name}" for site in sites for binding in site.bindings
    }


def explain(
    records: Sequence[SslRecord],
    *,
    address: str,
    port: int,
    host: str,
    seen: Collection[str],
    owners: Mapping[str, str],
) -> str | None:
    """The likely cause of the wrong certificate.

    Args:
        records: What http.sys holds.
        address: The address the probe connected to.
        port: TCP port.
        host: The name it asked for.
        seen: Thumbprints of the certificate it met, where it is in one of the machine's stores.
        owners: From `owners_of`.

    Returns:
        A sentence with the record and the cure, None when http.sys explains nothing.
    """
    order = lookup_order(records, address=address, port=port, host=host)
    named = next((record for record in order if record.host == host), None)
    first = next((record for record in order if record.thumbprint in seen), order[0] if order else None)
    if first is None:
        return f"http.sys has no certificate at all for port {port}; look whether another program listens there"
    what = f"thumbprint {first.thumbprint or 'none'}, {_origin(first, owners)}"
    if first.ip is not None and first.ip not in _ANY:
        return (
            f"http.sys has a record for {first.ip}:{port} ({what}), and a record for an address goes before SNI; set "
            "CERTCAST_IIS_CATCH_ALL=remove if it belongs to a catch-all binding of the site, or run "
            f"netsh http delete sslcert ipport={first.ip}:{port}"
        )
    if named is None:
        return (
            f"http.sys has no record for {host}:{port}, so {_kind(first)} answered ({what}); "
            "IIS did not apply the binding: look whether its site is stopped"
        )
    if first is named:
        return f"http.sys still has another certificate for {host}:{port} ({what}); IIS did not apply the binding"
    return None


def _origin(record: SslRecord, owners: Mapping[str, str]) -> str:
    if record.endpoint in owners:
        return f"from the binding {owners[record.endpoint]}"
    if record.application == IIS_APPLICATION:
        return "left behind by IIS without a binding"
    return f"made by the application {record.application or 'unknown'}"


def _kind(record: SslRecord) -> str:
    if record.ip is not None:
        return f"the catch-all for port {record.port}"
    if record.host is not None:
        return f"the record for {record.host}:{record.port}"
    return "the Centralized Certificate Store"
