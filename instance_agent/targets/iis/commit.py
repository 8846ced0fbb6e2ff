"""Carries a plan out in one commit, plans again after a conflict, and starts the sites that IIS stopped meanwhile."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar, NoReturn

from instance_agent.targets.base import ApplyError, ServerUnavailableError
from instance_agent.targets.iis.bindings import SiteState
from instance_agent.targets.iis.gateway import CommitConflictError, GatewayError
from instance_agent.targets.iis.half import settled
from instance_agent.targets.iis.hresult import ACCESS_DENIED, CLASS_NOT_REGISTERED
from shared.bounded import Delays
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from instance_agent.targets.iis.bindings import Scope, Site
    from instance_agent.targets.iis.gateway import IisGateway, SiteSession
    from instance_agent.targets.iis.plan import Conflict, Plan

log = logger(__name__)

_ATTEMPTS = 6
_PAUSES = Delays((0.2, 0.4, 0.8, 1.6, 3.2))
_START_ATTEMPTS = 4
_SERVER_TROUBLE = frozenset({ACCESS_DENIED, CLASS_NOT_REGISTERED})


def carry_out(
    gateway: IisGateway,
    scope: Scope,
    decide: Callable[[Sequence[Site]], Plan],
    *,
    before_writing: Callable[[Plan], None],
    pause: Callable[[float], None],
) -> tuple[str, ...]:
    """Read, decide, change and commit once, or leave IIS alone if there is nothing to do.

    After a change that was refused nothing is committed: the session with it is dropped. A commit that IIS refused in
    its middle is settled: see `half`.

    Args:
        gateway: IIS.
        scope: The bindings `decide` needs.
        decide: The planner; asked again on a fresh reading after a conflict.
        before_writing: Called with each plan without conflicts, before any change.
        pause: Waits some seconds.

    Returns:
        Names of the web sites that ran before, do not run now, and could not be started.

    Raises:
        ApplyError: IIS is as it was, but for changes of the batch that it took before it refused one; `culprit` is that
            one, where it is known.
        ServerUnavailableError: Others kept committing, or this process may not; the same batch can succeed later.
        GatewayError: IIS could not be read; IIS is as it was.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            pause(_PAUSES[attempt - 1] * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        try:
            plan, running = _attempt(gateway, scope, decide, before_writing, pause)
        except CommitConflictError:
            log.info("the IIS configuration was changed by another program; planning again")
            continue
        for notice in plan.notices:
            log.warning("%s", notice)
        return _start_stopped(gateway, running, pause)
    raise ServerUnavailableError(
        f"the IIS configuration was being changed by another program {_ATTEMPTS} times in a row; nothing was changed"
    )


def _attempt(
    gateway: IisGateway,
    scope: Scope,
    decide: Callable[[Sequence[Site]], Plan],
    before_writing: Callable[[Plan], None],
    pause: Callable[[float], None],
) -> tuple[Plan, list[str]]:
    """One reading with its commit: the plan, and the web sites that ran before it, where anything was committed."""
    with gateway.session() as session:
        sites = session.sites(scope)
        plan = decide(sites)
        if plan.conflicts:
            _refuse(plan.conflicts[0])
        before_writing(plan)
        if not plan.operations:
            return plan, []
        running = _running(session, [site.name for site in sites if site.web], pause)
        _perform(session, plan)
        try:
            session.commit()
        except CommitConflictError:
            raise
        except GatewayError as error:
            raise _told(error, settled(gateway, scope, sites, plan, error)) from error
        return plan, running


class NotYetError(ApplyError):
    """The change needs something that may come by itself: Cloud Services makes the sites after its startup tasks."""

    retriable: ClassVar[bool] = True


def _refuse(conflict: Conflict) -> NoReturn:
    raise (NotYetError if conflict.passing else ApplyError)(conflict.reason, culprit=conflict.key)


def _perform(session: SiteSession, plan: Plan) -> None:
    for operation in plan.operations:
        try:
            session.perform(operation)
        except CommitConflictError:
            raise
        except GatewayError as error:
            raise ApplyError(
                f"IIS refused a binding of site {operation.site}: {error.described}",
                culprit=operation.key,
            ) from error


def _told(error: GatewayError, blamed: ApplyError | None) -> ApplyError:
    """The refusal of a commit: of one certificate, or of all, or no matter which."""
    if blamed is not None:
        return blamed
    kind = ServerUnavailableError if error.code in _SERVER_TROUBLE else ApplyError
    return kind(f"IIS refused the changes: {error.described}")


def _running(session: SiteSession, names: Sequence[str], pause: Callable[[float], None]) -> list[str]:
    """Which of the sites run; asked a second time if IIS could not tell at first."""
    states = session.states(names)
    if SiteState.UNKNOWN in states.values():
        pause(_PAUSES[0])
        states = session.states(names)
    return [name for name, state in states.items() if state is SiteState.STARTED]


def _start_stopped(gateway: IisGateway, running: Sequence[str], pause: Callable[[float], None]) -> tuple[str, ...]:
    """Start the sites that ran before the commit and do not now; the commit stands whatever comes of it."""
    left = list(running)
    if not left:
        return ()
    for attempt in range(_START_ATTEMPTS):
        if attempt:
            pause(_PAUSES[attempt])
        try:
            with gateway.session() as session:
                states = session.states(left)
                left = [name for name in left if name in states and not _runs(session, name, states)]
        except GatewayError as error:
            log.warning("the sites' state cannot be read: %s", error.described)
        if not left:
            return ()
    for name in left:
        log.error("the site %s ran before the bindings changed and stays stopped: see the System event log", name)
    return tuple(left)


def _runs(session: SiteSession, name: str, states: Mapping[str, SiteState]) -> bool:
    if states[name] is SiteState.STARTED:
        return True
    if states[name] in {SiteState.UNKNOWN, SiteState.STARTING}:
        return False
    log.warning("the site %s stopped when its bindings changed; starting it", name)
    return session.start_site(name) is SiteState.STARTED
