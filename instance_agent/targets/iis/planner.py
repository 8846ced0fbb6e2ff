"""Decides which bindings to add, replace and remove; pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from instance_agent.targets.iis.bindings import ANY_ADDRESS, Binding, Scope, Site, SslFlags
from instance_agent.targets.iis.catch_all import plan_catch_alls, siblings_of
from instance_agent.targets.iis.gateway import (
    FIRST_IIS_WITH_WILDCARDS,
    AddBinding,
    Operation,
    RemoveBinding,
    ReplaceBinding,
)
from instance_agent.targets.iis.international import in_letters
from instance_agent.targets.iis.plan import Bind, Circumstances, Conflict, Plan
from instance_agent.targets.iis.tag import is_ours
from shared.hostnames import DEFAULT_HOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instance_agent.targets.base import HostPort, Key, Remove
    from instance_agent.targets.iis.catch_all import CatchAllPolicy


def scope_of(changes: Sequence[Bind | Remove], catch_all: CatchAllPolicy) -> Scope:
    """Which bindings `plan` must see for these changes."""
    keys = {change.key for change in changes}
    if catch_all.host is not None:
        keys |= {(catch_all.host, change.port) for change in changes}
    return Scope(keys=frozenset(keys))


def wildcard_refusal(host: str, iis_major: int) -> str | None:
    """Why this IIS cannot serve the host; None when it can.

    https://learn.microsoft.com/en-us/iis/get-started/whats-new-in-iis-10/wildcard-host-header-support
    """
    if host.startswith("*.") and iis_major < FIRST_IIS_WITH_WILDCARDS:
        return (
            f"IIS {iis_major} has no wildcard host headers, which {host} needs: they exist from IIS 10 "
            "(Windows Server 2016) on; upload with HostHeader naming each host"
        )
    return None


def information_of(change: HostPort) -> str:
    """`bindingInformation` of a new binding for all addresses: without host for the default, in letters for others."""
    host = "" if change.host == DEFAULT_HOST else in_letters(change.host)
    return f"{ANY_ADDRESS}:{change.port}:{host}"


def plan(sites: Sequence[Site], changes: Sequence[Bind | Remove], circumstances: Circumstances) -> Plan:
    """Decide what to do so that IIS serves what the changes ask for; done and planned again, nothing is left to do.

    Args:
        sites: Every site, with the bindings of `scope_of(changes)`.
        changes: At most one for each host and port.
        circumstances: Store, ownership, policy and version.
    """
    planner = _Planner(sites, circumstances)
    for change in sorted(changes, key=lambda it: it.host == DEFAULT_HOST):  # what shares its record may be leaving
        if isinstance(change, Bind):
            planner.bind(change)
        else:
            planner.unbind(change)
    if planner.conflicts:
        return Plan(conflicts=tuple(planner.conflicts))
    planner.catch_alls()
    return planner.finished()


class _Planner:
    """The bindings as they will be, and the operations that get there."""

    def __init__(self, sites: Sequence[Site], circumstances: Circumstances) -> None:
        self.sites = sites
        self.circumstances = circumstances
        self.conflicts: list[Conflict] = []
        self.notices: list[str] = []
        self.operations: list[Operation] = []
        self.by_key: dict[Key, list[tuple[Site, Binding]]] = defaultdict(list)
        self.certificates: dict[Key, str] = {}
        self.touched: set[tuple[str, int]] = set()
        for site in sites:
            for binding in site.bindings:
                self.by_key[binding.key].append((site, binding))

    def bind(self, change: Bind) -> None:
        """Make the change's binding exist once, on its site, with its certificate."""
        site = self._site(change)
        if isinstance(site, str):
            self.conflicts.append(Conflict(key=change.key, reason=site, passing=True))
            return
        refusal = wildcard_refusal(change.host, self.circumstances.iis_major)
        present = self.by_key.get(change.key, [])
        refusal = refusal or self._obstacle(site, present) or self._shared(change, present)
        if refusal is not None:
            self.conflicts.append(Conflict(key=change.key, reason=refusal))
            return
        self.operations += [
            RemoveBinding(key=change.key, site=other.name, old=binding)
            for other, binding in present
            if other is not site
        ]
        here = [binding for other, binding in present if other is site]
        self.operations += [
            ReplaceBinding(
                key=change.key,
                site=site.name,
                old=binding,
                flags=binding.flags | self._sni(change),
                thumbprint=change.thumbprint,
                store=self.circumstances.store,
            )
            for binding in here
            if not self._serves(binding, change)
        ]
        if not any(binding.ip == ANY_ADDRESS for binding in here):
            self.operations.append(
                AddBinding(
                    key=change.key,
                    site=site.name,
                    information=information_of(change),
                    flags=self._sni(change) | self.circumstances.new_flags,
                    thumbprint=change.thumbprint,
                    store=self.circumstances.store,
                )
            )
        self.certificates[change.key] = change.thumbprint
        self.touched.add((site.name, change.port))

    def unbind(self, change: Remove) -> None:
        """Remove what is ours for the change's host and port."""
        for site, binding in self.by_key.get(change.key, []):
            if is_ours(binding, self.circumstances.tags) or change.key in self.circumstances.owned:
                self.operations.append(RemoveBinding(key=change.key, site=site.name, old=binding))
            else:
                self.notices.append(
                    f"left the binding {binding.information} of site {site.name} alone: its certificate was not put "
                    "there by certcast; remove it by hand if it should go"
                )

    def catch_alls(self) -> None:
        """Apply the policy to bindings without SNI on the sites and ports that were bound."""
        operations, notices = plan_catch_alls(
            self.sites,
            policy=self.circumstances.catch_all,
            touched=self.touched,
            store=self.circumstances.store,
            leaving=self._leaving(),
            certificate_of=self._certificate_of,
            ours=lambda binding: is_ours(binding, self.circumstances.tags),
        )
        self.operations += operations
        self.notices += notices

    def finished(self) -> Plan:
        """The plan, with every http.sys record kept that another binding still lives on."""
        leaving = self._leaving()
        staying = {
            binding.endpoint
            for site in self.sites
            for binding in site.bindings
            if (site.name, binding.information) not in leaving
        }
        return Plan(
            operations=tuple(
                operation
                if isinstance(operation, AddBinding) or operation.old.endpoint not in staying
                else replace(operation, config_only=True)
                for operation in self.operations
            ),
            notices=tuple(self.notices),
        )

    def _leaving(self) -> frozenset[tuple[str, str]]:
        """Site and information of every binding that will be removed or replaced."""
        return frozenset(
            (operation.site, operation.old.information)
            for operation in self.operations
            if not isinstance(operation, AddBinding)
        )

    def _site(self, change: Bind) -> Site | str:
        """The site the change is for, or why there is none."""
        web = [site for site in self.sites if site.web]
        if change.site is None:
            return web[0] if web else "IIS has no web site to bind to; create one, or name it in SiteName"
        names = [change.site.lower()]
        if self.circumstances.role_instance:
            names.append(f"{self.circumstances.role_instance}_{change.site}".lower())
        for name in names:
            for site in web:
                if site.name.lower() == name:
                    return site
        if any(site.name.lower() == names[0] for site in self.sites):
            return f"the site {change.site} has no http or https binding, so it is no web site"
        known = ", ".join(site.name for site in web[:10]) or "none"
        return f"IIS has no web site {change.site}; correct SiteName (web sites here: {known})"

    def _obstacle(self, site: Site, present: Sequence[tuple[Site, Binding]]) -> str | None:
        """What of others stands in the way."""
        for other, binding in present:
            if binding.central:
                return (
                    f"the binding {binding.information} of site {other.name} takes its certificate from the "
                    "Centralized Certificate Store; use the target iis-ccs, or remove that binding"
                )
            if other is not site and not is_ours(binding, self.circumstances.tags):
                return (
                    f"the site {other.name} already has the binding {binding.information}, and one name and port can "
                    f"belong to one site only; remove it there, or upload with SiteName {other.name}"
                )
        return None

    def _shared(self, change: Bind, present: Sequence[tuple[Site, Binding]]) -> str | None:
        """What of others has the default's place, or would get its certificate: without SNI all share one record."""
        if change.host != DEFAULT_HOST:
            return None
        if any(
            is_ours(binding, self.circumstances.tags) or change.key in self.circumstances.owned
            for _, binding in present
        ):
            return None
        for other, binding in present:
            if not self.circumstances.catch_all.yields:
                return (
                    f"the site {other.name} has a catch-all binding {binding.information} of its own, which answers "
                    "clients without SNI: remove it, or set CERTCAST_IIS_CATCH_ALL=replace:* and it gets this one"
                )
        place = Binding(protocol="https", information="", ip=ANY_ADDRESS, port=change.port, host="")
        own = {(other.name, binding.information) for other, binding in present}
        if siblings := siblings_of(self.sites, place, {*self._leaving(), *own}):
            return (
                f"{siblings[0]} with what clients without SNI get on port {change.port}, and would get this one; give "
                "it SNI, or remove it"
            )
        return None

    def _sni(self, change: Bind) -> SslFlags:
        return SslFlags.NONE if change.host == DEFAULT_HOST else SslFlags.SNI

    def _serves(self, binding: Binding, change: Bind) -> bool:
        return (
            binding.sni is (change.host != DEFAULT_HOST)
            and binding.thumbprint == change.thumbprint
            and binding.store.lower() == self.circumstances.store.lower()
            and change.thumbprint not in self.circumstances.fresh
        )

    def _certificate_of(self, host: str, port: int) -> str | None:
        """The certificate of ours that will be bound for the host and port."""
        if (host, port) in self.certificates:
            return self.certificates[(host, port)]
        leaving = self._leaving()
        for site, binding in self.by_key.get((host, port), []):
            if is_ours(binding, self.circumstances.tags) and (site.name, binding.information) not in leaving:
                return binding.thumbprint
        return None
