"""One batch of changes made on a server, proved by handshakes, undone where the proof fails; no server is known here.

The order is store, bind, probe, clean up the old: what a binding replaced goes only when the new one was seen served.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from instance_agent.installing.applying import apply_all, clean_up
from instance_agent.installing.batch import plan
from instance_agent.installing.sighting import Expectation, Pace, Sighting, look
from instance_agent.installing.undoing import Undoer
from instance_agent.targets.base import BindingChange, Install, InstalledBinding, Remove
from shared.errors import CertcastError
from shared.hostnames import wildcard_of
from shared.messages import InstallOutcome as Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from instance_agent.installing.batch import Key
    from instance_agent.installing.probe import Probe
    from instance_agent.installing.undoing import Recall
    from instance_agent.targets.base import BindingTarget
    from shared.bundle import CertificateBundle

_NOBODYS_HOST = "*.invalid"  # RFC 2606: probing it shows the server's default certificate
_NO_STAGES: Mapping[str, float] = MappingProxyType({})
_SHORT = 16  # hex digits of a fingerprint in a sentence

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one change, for the report.

    Attributes:
        change: The change.
        outcome: What became of it.
        reason: A sentence for people; empty where all went as usual.
        seen_fingerprint_sha256: The certificate the probe met; empty when it met none.
        retriable: Whether the same change may succeed later.
        stages_ms: Milliseconds by stage, `apply` and `probe`, for the stages it came to.
    """

    change: BindingChange
    outcome: Outcome
    reason: str = ""
    seen_fingerprint_sha256: str = ""
    retriable: bool = False
    stages_ms: Mapping[str, float] = field(default_factory=dict)


async def nothing_to_recall(_: InstalledBinding) -> CertificateBundle | None:
    """For `install` where no earlier bundle can be had."""
    return None


_USUAL_PACE = Pace()


async def install(
    target: BindingTarget,
    changes: Sequence[BindingChange],
    probe: Probe,
    *,
    recall: Recall = nothing_to_recall,
    pace: Pace = _USUAL_PACE,
) -> list[Result]:
    """Make the changes, see that they are served, and restore what was there where another certificate is seen.

    One bad change never holds up the others. A cancellation waits for the `apply` in hand; what is then bound but not
    seen yet is looked at when the same change comes again.

    Args:
        target: The server.
        changes: At most one for each host and port.
        probe: `served_fingerprint` in earnest.
        recall: Gets back the bundle of a binding that was replaced, by its bundle id, so after an agent's restart too;
            None when it cannot be had.
        pace: How long and how often to look.

    Returns:
        Exactly one result for each change, in their order.

    Raises:
        ValueError: Two changes are for the same host and port.
    """
    try:
        before = {binding.key: binding for binding in await target.current(_concerned(changes))}
    except CertcastError as error:
        return [_failed(change, str(error), retriable=error.retriable) for change in changes]
    planned = plan(changes, before, target.refusal)
    run = _Installation(Undoer(target=target, probe=probe, recall=recall, pace=pace), before)
    run.record(Result(change=each, outcome=Outcome.REFUSED, reason=reason) for each, reason in planned.refused)
    run.record(Result(change=each, outcome=Outcome.REMOVED) for each in planned.absent)
    due = {change.key for change in planned.pending} | await run.confirm(planned.unchanged)
    await run.make([change for change in changes if change.key in due])
    return [run.results[change.key] for change in changes]


def _concerned(changes: Iterable[BindingChange]) -> set[Key]:
    """What must be known of the server: not all that is bound, for a hint about one host is to cost the same always."""
    keys = {change.key for change in changes}
    removals = [change for change in changes if isinstance(change, Remove)]
    wildcards = {(wildcard_of(change.host), change.port) for change in removals}
    return keys | {(wildcard, port) for wildcard, port in wildcards if wildcard is not None}


class _Installation:
    """One call of `install`: its results so far and what they are found with."""

    def __init__(self, undoer: Undoer, before: Mapping[Key, InstalledBinding]) -> None:
        self.results: dict[Key, Result] = {}
        self._undoer = undoer
        self._target = undoer.target
        self._before = before

    def record(self, results: Iterable[Result]) -> None:
        """Settle what became of some changes."""
        self.results.update({result.change.key: result for result in results})

    async def confirm(self, unchanged: Sequence[Install]) -> set[Key]:
        """Look for a moment at what is installed already.

        Returns:
            The keys of what is not seen, to be installed again.
        """
        sightings = await self._look([_served(change) for change in unchanged], patience_s=self._undoer.pace.confirm_s)
        looked = list(zip(unchanged, sightings, strict=True))
        self.record(_live(change, seen, {"probe": seen.took_ms}) for change, seen in looked if seen.met)
        return {change.key for change, seen in looked if not seen.met}

    async def make(self, changes: Sequence[BindingChange]) -> None:
        """Apply, prove, undo what is not proved, and clean up after what is."""
        applied = await apply_all(self._target.apply, changes)
        self.record(
            _failed(each.change, each.failure, retriable=each.retriable, stages_ms={"apply": each.after_ms})
            for each in applied
            if each.failure
        )
        installs: list[tuple[Install, float]] = []
        removals: list[tuple[Remove, float]] = []
        for each in applied:
            if each.failure:
                continue
            if isinstance(each.change, Install):
                installs.append((each.change, each.after_ms))
            else:
                removals.append((each.change, each.after_ms))
        await self._prove_installs(installs)
        await self._prove_removals(removals, {each.change.key: each.change for each in applied if not each.failure})
        await self._retire([each.change.key for each in applied])

    async def _prove_installs(self, installs: Sequence[tuple[Install, float]]) -> None:
        sightings = await self._look([_served(change) for change, _ in installs], patience_s=self._undoer.pace.settle_s)
        unseen: list[tuple[Install, Sighting, Mapping[str, float]]] = []
        for (change, apply_ms), seen in zip(installs, sightings, strict=True):
            stages_ms = {"apply": apply_ms, "probe": seen.took_ms}
            if seen.met:
                self.record([_live(change, seen, stages_ms)])
            elif not seen.reached:
                reason = f"{change.host}:{change.port} is bound, but no listener answered: {seen.problem}"
                self.record([_failed(change, reason, retriable=True, stages_ms=stages_ms)])
            else:
                unseen.append((change, seen, stages_ms))
        explained = [await self._explain(change, seen) for change, seen, _ in unseen]
        undone = await self._undoer.undo([change for change, _, _ in unseen], self._before)
        for (change, seen, took_ms), explanation in zip(unseen, explained, strict=True):
            result = Result(
                change=change,
                outcome=Outcome.PROBE_MISMATCH,
                reason=f"{explanation}; {undone[change.key]}",
                seen_fingerprint_sha256=seen.fingerprint_sha256,
                stages_ms=took_ms,
            )
            self.record([result])

    async def _explain(self, change: Install, seen: Sighting) -> str:
        """What was seen in place of the certificate just bound, and why, where the target can tell."""
        wanted = change.bundle.fingerprint_sha256[:_SHORT]
        if not seen.fingerprint_sha256:
            return f"{change.host}:{change.port} does not serve the certificate {wanted}…: {seen.problem}"
        found = f"{change.host}:{change.port} serves {seen.fingerprint_sha256[:_SHORT]}… in place of {wanted}…"
        try:
            cause = await self._target.explain_mismatch(change.host, change.port, seen.fingerprint_sha256)
        except CertcastError as error:
            log.warning("no explanation for %s:%d: %s", change.host, change.port, error)
            cause = None
        return f"{found}: {cause}" if cause else found

    async def _prove_removals(
        self, removals: Sequence[tuple[Remove, float]], made: Mapping[Key, BindingChange]
    ) -> None:
        """See that what was removed is served no more, unless a wildcard or the server's default serves it too."""
        looked_at: list[tuple[Remove, float]] = []
        for change, apply_ms in removals:
            wildcard = (wildcard_of(change.host) or "", change.port)
            if self._bound_to(wildcard, made) == self._before[change.key].fingerprint_sha256:
                reason = f"the same certificate is still served there for {wildcard[0]}"
                apply_only = {"apply": apply_ms}
                self.record([Result(change=change, outcome=Outcome.REMOVED, reason=reason, stages_ms=apply_only)])
            else:
                looked_at.append((change, apply_ms))
        gone = [self._gone(change.host, change) for change, _ in looked_at]
        sightings = await self._look(gone, patience_s=self._undoer.pace.settle_s)
        for (change, apply_ms), seen in zip(looked_at, sightings, strict=True):
            stages_ms = {"apply": apply_ms, "probe": seen.took_ms}
            outcome, reason = Outcome.REMOVED, ""
            if not seen.met:
                (default,) = await self._look([self._gone(_NOBODYS_HOST, change)], patience_s=0)
                outcome = Outcome.FAILED if default.met else Outcome.REMOVED
                short = f"{seen.fingerprint_sha256[:_SHORT]}…"
                reason = f"{change.host}:{change.port} is unbound, but the certificate {short} is still served there"
                reason += "" if default.met else ": it is also what the server answers unknown names with"
            result = Result(
                change=change,
                outcome=outcome,
                reason=reason,
                seen_fingerprint_sha256=seen.fingerprint_sha256,
                retriable=outcome is Outcome.FAILED,
                stages_ms=stages_ms,
            )
            self.record([result])

    def _bound_to(self, key: Key, made: Mapping[Key, BindingChange]) -> str | None:
        """The fingerprint bound to a host and port now that the changes are made; None when there is none."""
        change = made.get(key)
        if change is None:
            return self._before[key].fingerprint_sha256 if key in self._before else None
        return change.bundle.fingerprint_sha256 if isinstance(change, Install) else None

    async def _retire(self, tried: Iterable[Key]) -> None:
        """Let the target clean up after bindings whose successor was seen, or that were seen to be gone."""
        replaced = [
            self._before[key] for key in tried if key in self._before and _is_over(self._before[key], self.results[key])
        ]
        await clean_up(self._target, replaced)

    async def _look(self, expectations: Sequence[Expectation], *, patience_s: float) -> list[Sighting]:
        undoer = self._undoer
        return await look(undoer.target, undoer.probe, expectations, patience_s=patience_s, pace=undoer.pace)

    def _gone(self, host: str, change: Remove) -> Expectation:
        """That the certificate which was bound for the removed host is not served for this one."""
        fingerprint = self._before[change.key].fingerprint_sha256
        return Expectation(host=host, port=change.port, fingerprint_sha256=fingerprint, served=False)


def _served(change: Install) -> Expectation:
    return Expectation(host=change.host, port=change.port, fingerprint_sha256=change.bundle.fingerprint_sha256)


def _is_over(binding: InstalledBinding, result: Result) -> bool:
    """Whether a binding that was there is no longer needed."""
    if isinstance(result.change, Install):
        return result.outcome is Outcome.LIVE and not result.change.is_done_by(binding)
    return result.outcome is Outcome.REMOVED


def _live(change: Install, seen: Sighting, stages_ms: Mapping[str, float]) -> Result:
    reason = (
        "" if seen.fingerprint_sha256 else "bound, but not looked at: this server has no listener the agent could meet"
    )
    return Result(
        change=change,
        outcome=Outcome.LIVE,
        reason=reason,
        seen_fingerprint_sha256=seen.fingerprint_sha256,
        stages_ms=stages_ms,
    )


def _failed(
    change: BindingChange, reason: str, *, retriable: bool, stages_ms: Mapping[str, float] = _NO_STAGES
) -> Result:
    return Result(change=change, outcome=Outcome.FAILED, reason=reason, retriable=retriable, stages_ms=stages_ms)
