"""Deletes what nothing uses any more: certificates of ours, and records of http.sys that no binding is left of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instance_agent.targets.iis.bindings import EVERYTHING
from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.records import ANY_ADDRESSES, IIS_APPLICATION
from instance_agent.targets.iis.tag import read_tag
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from instance_agent.targets.iis.gateway import IisGateway
    from instance_agent.targets.iis.records import HttpSys, SslRecord
    from instance_agent.targets.iis.stores import CertificateStores, StoredCertificate
    from instance_agent.targets.iis.tag import Tag

log = logger(__name__)


class Leftovers:
    """The machine's stores and http.sys, as far as things of ours are left there.

    Args:
        gateway: Sites and bindings.
        stores: The certificate stores.
        http_sys: The records.
    """

    def __init__(self, gateway: IisGateway, stores: CertificateStores, http_sys: HttpSys) -> None:
        self._gateway = gateway
        self._stores = stores
        self._http_sys = http_sys
        self._fingerprints: dict[str, str] = {}

    def forget(self) -> None:
        """Read the stores again."""
        self._fingerprints = {}

    def fingerprints_of(self, listing: Sequence[StoredCertificate]) -> dict[str, str]:
        """SHA-256 by thumbprint of the certificates of ours; each is read once."""
        ours = [certificate for certificate in listing if read_tag(certificate.friendly_name) is not None]
        unread = [certificate for certificate in ours if certificate.thumbprint not in self._fingerprints]
        read = {**self._fingerprints, **(self._stores.fingerprints(unread) if unread else {})}
        self._fingerprints = {it.thumbprint: read[it.thumbprint] for it in ours if it.thumbprint in read}
        return self._fingerprints

    def delete_certificates(self, fingerprints: Collection[str] | None, *, held: bool = False) -> None:
        """Delete certificates of ours that nothing uses: those with these fingerprints, or all.

        Args:
            fingerprints: Lower-case hex SHA-256; None for all.
            held: Whether the caller keeps other processes out already.
        """
        try:
            if held:
                self._delete(fingerprints)
            else:
                with self._gateway.exclusive():
                    self._delete(fingerprints)
        except GatewayError as error:
            log.warning(
                "certificates no longer used could not be deleted (tried again at the next start): %s",
                error.described,
            )

    def delete_records(self, endpoints: Collection[str], tags: Mapping[str, Tag]) -> None:
        """Delete records of ours that a half-made commit left without a binding: they would go on answering.

        Args:
            endpoints: Of bindings that were removed.
            tags: Tags of the certificates of ours.
        """
        try:
            ours = [it for it in self._http_sys.records(sorted(endpoints)) if _is_ours(it, tags)]
            if not ours:
                return
            with self._gateway.session() as session:
                bound = {binding.endpoint for site in session.sites(EVERYTHING) for binding in site.bindings}
            for record in ours:
                if record.endpoint not in bound:
                    self._http_sys.delete(record)
                    log.warning("deleted the record of http.sys for %s, which no binding was left of", record.endpoint)
        except GatewayError as error:
            log.warning("it cannot be told whether http.sys still has records of removed bindings: %s", error.described)

    def _delete(self, fingerprints: Collection[str] | None) -> None:
        listing = self._stores.listing()
        known = self.fingerprints_of(listing)
        ours = [certificate for certificate in listing if read_tag(certificate.friendly_name) is not None]
        doomed = [it for it in ours if fingerprints is None or known.get(it.thumbprint) in fingerprints]
        if not doomed:
            return
        with self._gateway.session() as session:
            used = {binding.thumbprint for site in session.sites(EVERYTHING) for binding in site.bindings}
            used |= session.ftp_thumbprints()
        used |= {record.thumbprint for record in self._http_sys.records()}
        for certificate in doomed:
            if certificate.thumbprint not in used:
                self._stores.remove(certificate)
                log.info("deleted the certificate %s (%s)", certificate.thumbprint, certificate.friendly_name)


def _is_ours(record: SslRecord, tags: Mapping[str, Tag]) -> bool:
    if record.application != IIS_APPLICATION or record.thumbprint not in tags:
        return False
    host = DEFAULT_HOST if record.ip in ANY_ADDRESSES else record.label
    return host in tags[record.thumbprint].marks
