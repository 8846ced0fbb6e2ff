"""The target `iis`: certificates in the machine's store and SNI bindings in IIS."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import ApplyError, Install, InstalledBinding, Key, NothingHeld, Remove
from instance_agent.targets.iis.bindings import EVERYTHING, Scope, SslFlags
from instance_agent.targets.iis.catch_all import CatchAllPolicy
from instance_agent.targets.iis.commit import carry_out
from instance_agent.targets.iis.flags import require_known
from instance_agent.targets.iis.gateway import FIRST_IIS_WITH_SNI, GatewayError, as_unavailable
from instance_agent.targets.iis.installed import installed_bindings
from instance_agent.targets.iis.keeping import SettingsKeeper
from instance_agent.targets.iis.leftovers import Leftovers
from instance_agent.targets.iis.needs import Needs
from instance_agent.targets.iis.pfx import add_intermediates, new_certificate
from instance_agent.targets.iis.plan import Bind, Circumstances, Plan
from instance_agent.targets.iis.planner import plan, scope_of, wildcard_refusal
from instance_agent.targets.iis.shadow import explain, owners_of
from instance_agent.targets.iis.stores import KNOWN_STORES
from instance_agent.targets.iis.tag import tag_of, tags_by_thumbprint
from instance_agent.targets.parts.threads import in_thread
from shared.errors import ConfigurationError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.iis.bindings import Site
    from instance_agent.targets.iis.gateway import IisGateway
    from instance_agent.targets.iis.records import HttpSys
    from instance_agent.targets.iis.stores import CertificateStores

log = logger(__name__)


class IisTarget(NothingHeld):
    """Binds certificates in IIS 8 and later.

    Args:
        gateway: Sites and bindings.
        stores: The machine's certificate stores.
        http_sys: The records of http.sys.
        store: The LocalMachine store for new certificates, `My` or `WebHosting`.
        catch_all: What to do about bindings without SNI.
        new_flags: Flags of new bindings besides SNI.
        windows_build: Build number of this Windows; it decides whether such flags are known.
        journal: File in which settings of http.sys outlive a crash until they are put back.
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
        http_sys: HttpSys,
        store: str = KNOWN_STORES[0],
        catch_all: CatchAllPolicy | None = None,
        new_flags: SslFlags = SslFlags.NONE,
        windows_build: int = 0,
        journal: Path | None = None,
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
        self._new_flags = new_flags
        self._windows_build = windows_build
        self._keeper = SettingsKeeper(http_sys, journal)
        self._role_instance = role_instance
        self._probe_address = probe_address
        self._held = held
        self._pause = pause
        self._iis = (10, 0)
        self._leftovers = Leftovers(gateway, stores, http_sys)
        self._stopped: tuple[str, ...] = ()
        self._owned: set[Key] = set()
        self._doubted = False

    def forget(self) -> None:
        """The next `apply` writes bindings again even where IIS says that they are as asked for."""
        self._leftovers.forget()
        self._doubted = True

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
        require_known(self._new_flags, self._windows_build)
        self._keeper.load()
        with as_unavailable():
            problems = self._keeper.put_back()
        for problem in problems.values():
            log.error("after an interrupted change, %s", problem)
        self._leftovers.delete_certificates(None)

    async def version(self) -> str:
        """IIS's version from the registry."""
        return f"IIS {self._iis[0]}.{self._iis[1]}"

    @in_thread
    def current(self, keys: Collection[Key] | None = None) -> frozenset[InstalledBinding]:
        """As IIS and http.sys say: see `installed.installed_bindings`."""
        wanted = None if keys is None else frozenset(keys)
        with as_unavailable():
            listing = self._stores.listing()
            with self._gateway.session() as session:
                sites = session.sites(EVERYTHING if wanted is None else Scope(keys=wanted))
            served = self._served(sites, wanted)
            fingerprints = self._leftovers.fingerprints_of(listing)
        found = installed_bindings(
            sites,
            tags=tags_by_thumbprint(listing),
            fingerprints=fingerprints,
            served=served,
            owned=self._owned,
            unsettled=self._keeper.pending,
            site_name=self._as_uploaded,
        )
        if wanted is not None:
            found = {key: installed for key, installed in found.items() if key in wanted}
        self._owned = {key for key in self._owned if wanted is not None and key not in wanted} | set(found)
        return frozenset(found.values())

    def _served(self, sites: Sequence[Site], wanted: frozenset[Key] | None) -> dict[str, str]:
        """Thumbprint by endpoint as http.sys says, of the bindings asked about; none where it cannot be read."""
        endpoints = {it.endpoint for site in sites for it in site.bindings if wanted is None or it.key in wanted}
        if not endpoints:
            return {}
        try:
            records = self._http_sys.records(None if wanted is None else sorted(endpoints))
        except GatewayError as error:
            log.warning("the records of http.sys cannot be read, so IIS is believed: %s", error.described)
            return {}
        return dict.fromkeys(endpoints, "") | {it.endpoint: it.thumbprint for it in records if it.endpoint in endpoints}

    @in_thread
    def apply(self, changes: Sequence[BindingChange]) -> None:
        """Import the certificates and make all bindings in one commit.

        Raises:
            ApplyError: As in `commit.carry_out`; or a certificate is bound without the settings that its record had.
        """
        if not changes:
            return
        with as_unavailable(), self._gateway.exclusive():
            needs = Needs(changes, self._stores.listing(), self._store)
            circumstances = self._circumstances(needs)
            once = cache(lambda: self._import(needs))

            def before_writing(made: Plan) -> None:
                once()
                self._keeper.remember(made.operations)

            endpoints = {f"{change.host}:{change.port}": change.key for change in changes}
            removed = [change for change in changes if isinstance(change, Remove)]
            try:
                self._stopped = carry_out(
                    self._gateway,
                    scope_of(needs.wanted, self._catch_all),
                    lambda sites: plan(sites, needs.wanted, circumstances),
                    before_writing=before_writing,
                    pause=self._pause,
                )
            except (ApplyError, GatewayError):
                self._keeper.put_back()
                self._discard(needs)
                raise
            self._doubted = False
            self._owned |= {change.key for change in changes if isinstance(change, Install)}
            self._clear(removed, needs)
            for endpoint, problem in self._keeper.put_back().items():
                if endpoint in endpoints:
                    raise ApplyError(problem, culprit=endpoints[endpoint])
                log.error("%s", problem)

    def _circumstances(self, needs: Needs) -> Circumstances:
        wanted = {change.thumbprint for change in needs.wanted if isinstance(change, Bind)}
        return Circumstances(
            store=self._store,
            tags=needs.tags,
            fresh=frozenset(wanted if self._doubted else needs.missing),
            catch_all=self._catch_all,
            iis_major=self._iis[0],
            new_flags=self._new_flags,
            owned=frozenset(self._owned),
            role_instance=self._role_instance,
        )

    def _clear(self, removed: Sequence[Remove], needs: Needs) -> None:
        """Leave nothing of what was removed: no settings to put back, and no record that a half-made commit left."""
        if not removed:
            return
        self._owned -= {change.key for change in removed}
        endpoints = {f"{change.host}:{change.port}" for change in removed}
        self._keeper.drop(endpoints)
        self._leftovers.delete_records(endpoints, needs.tags)

    @in_thread
    def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        """Delete the replaced certificates of ours that no site, no FTP site and no http.sys record uses."""
        fingerprints = {binding.fingerprint_sha256 for binding in replaced}
        if fingerprints:
            self._leftovers.delete_certificates(fingerprints)

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
            records = self._http_sys.records()
            near = {record.thumbprint for record in records if record.port == port}
            fingerprints = self._stores.fingerprints(it for it in self._stores.listing() if it.thumbprint in near)
            seen = [thumbprint for thumbprint, it in fingerprints.items() if it == seen_fingerprint_sha256]
            with self._gateway.session() as session:
                sites = session.sites(EVERYTHING)
        for site in sites:
            if site.name in self._stopped and any(binding.key == (host, port) for binding in site.bindings):
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
            self._leftovers.delete_certificates(
                {installs[0].bundle.fingerprint_sha256 for installs in needs.missing.values()}, held=True
            )


def _import_error(install: Install, problem: str) -> ApplyError:
    return ApplyError(
        f"the certificate for {install.host} ({install.bundle.thumbprint_sha1}) could not be imported: {problem}",
        culprit=install.key,
    )
