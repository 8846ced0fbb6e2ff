"""The one binding that reads the Centralized Certificate Store; pure: reads no IIS, changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.iis.bindings import ANY_ADDRESS, SslFlags
from instance_agent.targets.iis.gateway import AddBinding
from instance_agent.targets.iis.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instance_agent.targets.iis.bindings import Site


def plan(sites: Sequence[Site], *, site_name: str | None, port: int) -> Plan:
    """Decide how one binding serves every host, with SNI; one without SNI that was made by hand does as well.

    Args:
        sites: Every site, with its bindings that have no host.
        site_name: The web site that has the binding; None is the first.
        port: The port that is served.

    Raises:
        ServerUnavailableError: There is no such site, or another binding is in the place.
    """
    web = [site for site in sites if site.web]
    site = next((it for it in web if site_name is None or it.name.lower() == site_name.lower()), None)
    if site is None:
        known = ", ".join(it.name for it in web) or "none"
        raise ServerUnavailableError(
            f"IIS has no web site {site_name or 'to bind to'}; correct CERTCAST_IIS_CCS_SITE (web sites here: {known})"
        )
    for each in site.bindings:
        if each.port == port and not each.host and each.ip == ANY_ADDRESS:
            if each.central:
                return Plan()
            raise ServerUnavailableError(
                f"the catch-all binding {each.information} of site {site.name} is in the place of the Centralized "
                "Certificate Store's; remove it, or tick 'Use Centralized Certificate Store' in it"
            )
    flags = SslFlags.SNI | SslFlags.CENTRAL_STORE
    key, information = ("", port), f"{ANY_ADDRESS}:{port}:"
    return Plan(operations=(AddBinding(key=key, site=site.name, information=information, flags=flags),))
