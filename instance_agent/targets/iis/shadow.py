"""Which http.sys record answers a handshake, and why it was another than expected; pure."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from instance_agent.targets.iis.records import ANY_ADDRESSES, IIS_APPLICATION
from shared.hostnames import DEFAULT_HOST, wildcard_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from instance_agent.targets.iis.bindings import Site
    from instance_agent.targets.iis.records import SslRecord


def lookup_order(records: Sequence[SslRecord], *, address: str, port: int, host: str) -> list[SslRecord]:
    """The records that could answer a ClientHello for the host, the one that does first.

    Exact address, exact name, Centralized Certificate Store, all IPv6 addresses, all addresses: so says Microsoft in
    "Users can't log in using AD FS from an external network" (AD FS troubleshooting). It does not say where the record
    of a wildcard comes; that it comes after the exact name is all that is relied on.
    """
    wildcard = wildcard_of(host)

    def rank(record: SslRecord) -> int | None:
        if record.ip is not None:
            if record.ip == address:
                return 0
            return 4 if record.ip in ANY_ADDRESSES else None
        if record.host is None:
            return 3
        if record.label == host:
            return 1
        return 2 if record.label == wildcard else None

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
    default = host == DEFAULT_HOST
    named = next((it for it in order if (it.ip in ANY_ADDRESSES if default else it.label == host)), None)
    first = next((record for record in order if record.thumbprint in seen), order[0] if order else None)
    if first is None:
        return f"http.sys has no certificate at all for port {port}; look whether another program listens there"
    what = f"thumbprint {first.thumbprint or 'none'}, {_origin(first, owners)}"
    if first.ip is not None and first.ip not in ANY_ADDRESSES:
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
