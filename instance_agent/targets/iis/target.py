"""The target `iis`: certificates in the machine's store and SNI bindings in IIS."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import ApplyError, Install, InstalledBinding, Key, NothingHeld
from instance_agent.targets.iis.bindings import EVERYTHING, Scope
from instance_agent.targets.iis.catch_all import CatchAllPolicy
from instance_agent.targets.iis.commit import carry_out
from instance_agent.targets.iis.gateway import FIRST_IIS_WITH_SNI, GatewayError, as_unavailable
from instance_agent.targets.iis.needs import Needs
from instance_agent.targets.iis.pfx import add_intermediates, new_certificate
from instance_agent.targets.iis.plan import Circumstances
from instance_agent.targets.iis.planner import plan, scope_of, wildcard_refusal
from instance_agent.targets.iis.shadow import explain, owners_of
from instance_agent.targets.iis.stores import KNOWN_STORES
from instance_agent.targets.iis.tag import is_ours, read_tag, tag_of, tags_by_thumbprint
from instance_agent.targets.parts.threads import in_thread
from shared.errors import ConfigurationError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from contextlib import AbstractContextManager

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.iis.gateway import IisGateway
    from instance_agent.targets.iis.shadow import SslRecord
    from instance_agent.targets.iis.stores import CertificateStores, StoredCertificate

log = logger(__name__)


class IisTarget(NothingHeld):
    """Binds certificates in IIS 8 and later.

    Args:
        gateway: Sites and bindings.
        stores: The machine's certificate stores.
        http_sys: Reads the records of http.sys; blocking.
        store: The LocalMachine store for new certificates, `My` or `WebHosting`.
        catch_all: What to do about bindings without SNI.
        role_instance: The cloud role instance's name, which Cloud Services puts before the site's name.
        probe_address: The address of this machine that clients reach; a record for this address goes before SNI, so a
            probe of the loopback address would not see what clients see.
        held: Keeps other agents of this machine away; nothing does where it is None.
        pause: Waits some seconds between attempts.
    """

    kind: ClassVar[str] = "iis"
    in_slices: ClassVar[bool] = False
    place = "IIS on this machine"

    def __init__(
        self,
        gateway: IisGateway,
        stores: CertificateStores,
        *,
        http_sys: Callable[[], Sequence[SslRecord]],
        store: str = KNOWN_STORES[0],
        catch_all: CatchAllPolicy | None = None,
        role_instance: str | None = None,
        probe_address: str = "127.0.0.1",
        held: Callable[[str], AbstractContextManager[None]] | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gateway = gateway
        self._stores = stores
        self._http_sys = http_sys
        self._store = store
        self._catch_all = catch_all or CatchAllPolicy()
        self._role_instance = role_instance
        self._probe_address = probe_address
        self._held = held
        self._pause = pause
        self._iis = (10, 0)
        self._fingerprints: dict[str, str] = {}
        self._stopped: tuple[str, ...] = ()

    def held(self) -> AbstractContextManager[None]:
        """By a lock in the agent's private folder.

        Raises:
            ConfigurationError: Another agent has it.
        """
        return nullcontext() if self._held is None else self._held(self.place)

    @in_thread
    def start(self) -> None:
        """Check that this IIS has SNI, and delete certificates of ours that an earlier run left unused."""
        if self._store not in KNOWN_STORES:
            raise ConfigurationError(f"CERTCAST_IIS_STORE is {self._store!r}; it must be My or WebHosting")
        with as_unavailable():
            self._iis = self._gateway.version()
        if self._iis[0] < FIRST_IIS_WITH_SNI:
            raise ConfigurationError(
                f"IIS {self._iis[0]}.{self._iis[1]} has no SNI; Windows Server 2012 (IIS 8) or later is needed"
            )
        self._delete_unused(None)

    async def version(self) -> str:
        """IIS's version from the registry."""
        return f"IIS {self._iis[0]}.{self._iis[1]}"

    @in_thread
    def current(self, keys: Collection[Key] | None = None) -> frozenset[InstalledBinding]:
        """The SNI bindings whose certificate carries our tag for their host."""
        with as_unavailable():
            listing = self._stores.listing()
            with self._gateway.session() as session:
                sites = session.sites(EVERYTHING if keys is None else Scope(keys=frozenset(keys)))
            tags = tags_by_thumbprint(listing)
            fingerprints = self._fingerprints_of(listing)
        found: dict[Key, InstalledBinding] = {}
        for site in sites:
            for binding in site.bindings:
                if is_ours(binding, tags) and binding.thumbprint in fingerprints:
                    fingerprint = fingerprints[binding.thumbprint]
                    content = tags[binding.thumbprint].marks[binding.host].content
                    installed = InstalledBinding(
                        host=binding.host,
                        port=binding.port,
                        bundle_id=f"{fingerprint}/{content}" if content else "",
                        fingerprint_sha256=fingerprint,
                        site=self._as_uploaded(site.name),
                        site_in_any_case=True,
                    )
                    found.setdefault(installed.key, installed)
        return frozenset(found.values())

    @in_thread
    def apply(self, changes: Sequence[BindingChange]) -> None:
        """Import the certificates and make all bindings in one commit."""
        if not changes:
            return
        with as_unavailable(), self._gateway.exclusive():
            needs = Needs(changes, self._stores.listing(), self._store)
            circumstances = Circumstances(
                store=self._store,
                tags=needs.tags,
                fresh=frozenset(needs.missing),
                catch_all=self._catch_all,
                iis_major=self._iis[0],
                role_instance=self._role_instance,
            )
            try:
                self._stopped = carry_out(
                    self._gateway,
                    scope_of(needs.wanted, self._catch_all),
                    lambda sites: plan(sites, needs.wanted, circumstances),
                    before_writing=lambda: self._import(needs),
                    pause=self._pause,
                )
            except (ApplyError, GatewayError):
                self._discard(needs)
                raise

    @in_thread
    def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        """Delete the replaced certificates of ours that no site, no FTP site and no http.sys record uses."""
        fingerprints = {binding.fingerprint_sha256 for binding in replaced}
        if fingerprints:
            self._delete_unused(fingerprints)

    def endpoint(self, port: int) -> tuple[str, int]:
        """The probe address; bindings listen on every address."""
        return (self._probe_address, port)

    def refusal(self, change: Install) -> str | None:
        """A wildcard on an IIS before 10 is refused."""
        return wildcard_refusal(change.host, self._iis[0])

    @in_thread
    def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """Name a stopped site, or the http.sys record that answered instead."""
        with as_unavailable():
            records = self._http_sys()
            near = {record.thumbprint for record in records if record.port == port}
            fingerprints = self._stores.fingerprints(it for it in self._stores.listing() if it.thumbprint in near)
            seen = [thumbprint for thumbprint, it in fingerprints.items() if it == seen_fingerprint_sha256]
            with self._gateway.session() as session:
                sites = session.sites(EVERYTHING)
        for site in sites:
            if site.name in self._stopped and any(b.host == host and b.port == port for b in site.bindings):
                return f"the site {site.name} stopped when its bindings changed and could not be started again"
        return explain(records, address=self._probe_address, port=port, host=host, seen=seen, owners=owners_of(sites))

    def _as_uploaded(self, site: str) -> str:
        """The site's name as an upload's SiteName gives it, which is the same for every role instance."""
        return site.removeprefix(f"{self._role_instance}_") if self._role_instance else site

    def _import(self, needs: Needs) -> None:
        """Put what is missing into the stores, and look with fresh eyes whether it can be used."""
        for thumbprint, installs in needs.missing.items():
            try:
                self._stores.add(self._store, new_certificate(installs[0], tag_of(installs)))
            except ApplyError as error:
                raise _import_error(installs[0], str(error)) from error
            except GatewayError as error:
                raise _import_error(installs[0], error.described) from error
            log.info("imported the certificate %s for %s", thumbprint, ", ".join(i.host for i in installs))
        add_intermediates(self._stores, needs.chains)
        for certificate, tag in needs.retagged:
            self._stores.rename(certificate, str(tag))
        problems = self._stores.key_problems(self._store, needs.missing) if needs.missing else {}
        for thumbprint, problem in problems.items():
            raise _import_error(needs.missing[thumbprint][0], problem)

    def _discard(self, needs: Needs) -> None:
        """Delete what a failed batch imported, so that the server is as it was."""
        if needs.missing:
            self._delete_unused(
                {installs[0].bundle.fingerprint_sha256 for installs in needs.missing.values()}, held=True
            )

    def _delete_unused(self, fingerprints: Collection[str] | None, *, held: bool = False) -> None:
        """Delete certificates of ours that nothing uses: those with these fingerprints, or all."""
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

    def _delete(self, fingerprints: Collection[str] | None) -> None:
        listing = self._stores.listing()
        known = self._fingerprints_of(listing)
        ours = [certificate for certificate in listing if read_tag(certificate.friendly_name) is not None]
        doomed = [it for it in ours if fingerprints is None or known.get(it.thumbprint) in fingerprints]
        if not doomed:
            return
        with self._gateway.session() as session:
            used = {binding.thumbprint for site in session.sites(EVERYTHING) for binding in site.bindings}
            used |= session.ftp_thumbprints()
        used |= {record.thumbprint for record in self._http_sys()}
        for certificate in doomed:
            if certificate.thumbprint not in used:
                self._stores.remove(certificate)
                log.info("deleted the certificate %s (%s)", certificate.thumbprint, certificate.friendly_name)

    def _fingerprints_of(self, listing: Sequence[StoredCertificate]) -> dict[str, str]:
        """SHA-256 by thumbprint of the certificates of ours; each is read once in the agent's life."""
        ours = [certificate for certificate in listing if read_tag(certificate.friendly_name) is not None]
        unread = [certificate for certificate in ours if certificate.thumbprint not in self._fingerprints]
        read = {**self._fingerprints, **(self._stores.fingerprints(unread) if unread else {})}
        self._fingerprints = {it.thumbprint: read[it.thumbprint] for it in ours if it.thumbprint in read}
        return self._fingerprints


def _import_error(install: Install, problem: str) -> ApplyError:
    return ApplyError(
        f"the certificate for {install.host} ({install.bundle.thumbprint_sha1}) could not be imported: {problem}",
        culprit=install.key,
    )
