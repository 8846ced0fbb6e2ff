"""What to do about a commit that IIS made in part.

`CommitChanges` writes the configuration first and then gives http.sys one certificate after the other: a refusal in the
middle leaves the configuration committed, the certificates before it bound and those after it not, and nothing queued
(Microsoft.Web.Administration 7.0.0.0, as its code shows). What is bound may stay, since the batch is tried again
without the one to blame; only that one is put back as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError
from instance_agent.targets.iis.bindings import Scope
from instance_agent.targets.iis.gateway import AddBinding, GatewayError, RemoveBinding, ReplaceBinding
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instance_agent.targets.iis.bindings import Binding, Site
    from instance_agent.targets.iis.gateway import IisGateway
    from instance_agent.targets.iis.plan import Plan

log = logger(__name__)

_Place = tuple[str, str]
"""Site and `bindingInformation`."""


def settled(
    gateway: IisGateway, scope: Scope, before: Sequence[Site], plan: Plan, refusal: GatewayError
) -> ApplyError | None:
    """Find out how far a refused commit came, and put the binding that was refused back as it was.

    Args:
        gateway: IIS.
        scope: The bindings that matter.
        before: How they were.
        plan: What was committed.
        refusal: What IIS said.

    Returns:
        The error that blames the change whose certificate was refused; None where nothing was changed at all.
    """
    try:
        with gateway.session() as session:
            after = _by_place(session.sites(scope))
    except GatewayError as error:
        log.warning("the bindings cannot be read after a refused commit: %s", error.described)
        return None
    if after == _by_place(before):
        return None
    made = [it for it in plan.operations if not isinstance(it, RemoveBinding)]
    refused = next((it for it in made if _lacks(it, after)), None)
    if refused is None:
        return ApplyError(f"IIS refused a part of the changes: {refusal.described}")
    what = f"IIS refused the certificate {refused.thumbprint} of the binding {_information(refused)}"
    left = _put_back(gateway, refused, after[(refused.site, _information(refused))])
    return ApplyError(f"{what} of site {refused.site}: {refusal.described}{left}", culprit=refused.key)


def _by_place(sites: Sequence[Site]) -> dict[_Place, Binding]:
    return {(site.name, binding.information): binding for site in sites for binding in site.bindings}


def _lacks(operation: AddBinding | ReplaceBinding, after: dict[_Place, Binding]) -> bool:
    """Whether the binding is in the configuration and has not the certificate that it was to get."""
    binding = after.get((operation.site, _information(operation)))
    return binding is not None and bool(operation.thumbprint) and binding.thumbprint != operation.thumbprint


def _information(operation: AddBinding | ReplaceBinding) -> str:
    return operation.information if isinstance(operation, AddBinding) else operation.old.information


def _put_back(gateway: IisGateway, refused: AddBinding | ReplaceBinding, there: Binding) -> str:
    """Restore one binding; what remains to be said of it, as the end of a sentence."""
    has_no_record = not there.thumbprint
    undo: RemoveBinding | ReplaceBinding
    if isinstance(refused, AddBinding):
        undo = RemoveBinding(key=refused.key, site=refused.site, old=there, config_only=has_no_record)
    else:
        old = refused.old
        if not old.thumbprint or (there.thumbprint, there.flags) == (old.thumbprint, old.flags):
            return ""
        undo = ReplaceBinding(
            key=refused.key,
            site=refused.site,
            old=there,
            flags=old.flags,
            thumbprint=old.thumbprint,
            store=old.store,
            config_only=has_no_record,
        )
    try:
        with gateway.session() as session:
            session.sites(Scope(keys=frozenset({(there.host, there.port)})))
            session.perform(undo)
            session.commit()
    except GatewayError as error:
        log.error("the binding %s could not be put back as it was: %s", there.information, error.described)
        return f"; and the binding could not be put back as it was: {error.described}"
    return ""
