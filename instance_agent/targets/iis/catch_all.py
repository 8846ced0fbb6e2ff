"""The policy for https bindings without SNI (`CERTCAST_IIS_CATCH_ALL`); pure, part of the planner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from instance_agent.targets.iis.gateway import Operation, RemoveBinding, ReplaceBinding
from shared.errors import ConfigurationError
from shared.hostnames import DEFAULT_HOST, normalise_host

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from instance_agent.targets.iis.bindings import Binding, Site

_SETTING = "CERTCAST_IIS_CATCH_ALL"


class CatchAllAction(StrEnum):
    """What to do about a binding without SNI."""

    KEEP = "keep"
    REMOVE = "remove"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchAllPolicy:
    """The setting, read.

    Attributes:
        action: What to do.
        host: Whose certificate the catch-all is to serve, with `replace`; `DEFAULT_HOST` for that of an upload with
            `Default=true`.
    """

    action: CatchAllAction = CatchAllAction.KEEP
    host: str | None = None

    @property
    def yields(self) -> bool:
        """Whether the catch-all of somebody else makes room for an upload with `Default=true`."""
        return self.action is CatchAllAction.REMOVE or self.host == DEFAULT_HOST

    @classmethod
    def parse(cls, text: str) -> CatchAllPolicy:
        """Read `keep`, `remove`, `replace:<host>` or `replace:*`.

        Raises:
            ConfigurationError: The setting has another form.
        """
        action, colon, host = text.strip().partition(":")
        if action.lower() in {CatchAllAction.KEEP, CatchAllAction.REMOVE} and not colon:
            return cls(action=CatchAllAction(action.lower()))
        if action.lower() == CatchAllAction.REPLACE and host:
            try:
                named = host.strip()
                named = named if named == DEFAULT_HOST else normalise_host(named)
                return cls(action=CatchAllAction.REPLACE, host=named)
            except ValueError as error:
                raise ConfigurationError(f"{_SETTING}=replace:{host} names no host: {error}") from error
        raise ConfigurationError(f"{_SETTING} is {text!r}; it must be keep, remove, replace:<host> or replace:*")


def plan_catch_alls(
    sites: Sequence[Site],
    *,
    policy: CatchAllPolicy,
    touched: Collection[tuple[str, int]],
    store: str,
    leaving: Collection[tuple[str, str]],
    certificate_of: Callable[[str, int], str | None],
    ours: Callable[[Binding], bool],
) -> tuple[list[Operation], list[str]]:
    """Decide about the catch-alls beside the SNI bindings that the batch makes.

    Bindings without SNI on one address and port share one certificate in http.sys, so a catch-all that has siblings
    is never touched.

    Args:
        sites: Every site; all bindings without SNI are among theirs.
        policy: The setting.
        touched: Site names and ports that will have an SNI binding of ours.
        store: LocalMachine store of our certificates.
        leaving: Site and information of the bindings that the batch replaces or removes anyway.
        certificate_of: Thumbprint that will be bound for a host and port, if it is ours.
        ours: Whether a binding is the one that serves an upload with `Default=true`.

    Returns:
        Operations and sentences for the log.
    """
    if policy.action is CatchAllAction.KEEP:
        return [], []
    operations: list[Operation] = []
    notices: list[str] = []
    for site, binding in _catch_alls(sites, touched):
        if ours(binding) or (site.name, binding.information) in leaving:
            continue
        thumbprint = "" if policy.host is None else certificate_of(policy.host, binding.port) or None
        if thumbprint and binding.thumbprint == thumbprint and binding.store.lower() == store.lower():
            continue
        what = f"the catch-all binding {binding.information} of site {site.name}"
        if thumbprint is None:
            missing = f"none is installed for {policy.host}:{binding.port}, which {_SETTING} names"
            notices.append(f"{what} keeps its certificate: {missing}")
        elif siblings := siblings_of(sites, binding, leaving):
            notices.append(f"{what} is left as it is, though {_SETTING} is {policy.action}: {siblings[0]}")
        elif thumbprint:
            flags = binding.flags
            operations.append(
                ReplaceBinding(key=None, site=site.name, old=binding, flags=flags, thumbprint=thumbprint, store=store)
            )
        else:
            operations.append(RemoveBinding(key=None, site=site.name, old=binding))
            effect = f"clients that send no server name get no certificate on port {binding.port} from now on"
            notices.append(f"removing {what}: {effect}")
    return operations, notices


def _catch_alls(sites: Sequence[Site], touched: Collection[tuple[str, int]]) -> list[tuple[Site, Binding]]:
    return [
        (site, binding)
        for site in sites
        for binding in site.bindings
        if not binding.host and _without_sni(binding) and (site.name, binding.port) in touched
    ]


def siblings_of(sites: Sequence[Site], catch_all: Binding, leaving: Collection[tuple[str, str]]) -> list[str]:
    """The bindings that stay and share a catch-all's certificate, each as a clause."""
    return [
        f"the binding {binding.information} of site {site.name} shares its certificate"
        for site in sites
        for binding in site.bindings
        if binding is not catch_all
        and (site.name, binding.information) not in leaving
        and _without_sni(binding)
        and binding.endpoint == catch_all.endpoint
    ]


def _without_sni(binding: Binding) -> bool:
    return not binding.sni and not binding.central
