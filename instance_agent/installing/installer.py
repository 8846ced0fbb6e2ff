"""One batch of changes made on a server, proved by handshakes, undone where the proof fails.

The order is store, bind, probe, clean up the old: what a binding replaced goes only when the new one was seen served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from instance_agent.installing.applying import apply_all, clean_up
from instance_agent.installing.batch import triage
from instance_agent.installing.neighbours import heirs_of
from instance_agent.installing.proving import Prover
from instance_agent.installing.result import Result, failed
from instance_agent.installing.sighting import Looker, Pace
from instance_agent.installing.takeover import Takeovers
from instance_agent.installing.undoing import Undoer
from instance_agent.targets.base import Install, InstalledBinding
from shared.errors import CertcastError
from shared.messages import InstallOutcome as Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from instance_agent.installing.probe import Probe
    from instance_agent.installing.proving import Unseen
    from instance_agent.installing.undoing import Recall
    from instance_agent.targets.base import BindingChange, BindingTarget, Key
    from shared.bundle import CertificateBundle

_USUAL_PACE = Pace()


async def nothing_to_recall(_: InstalledBinding) -> CertificateBundle | None:
    """Given to `install` where no earlier bundle can be fetched."""
    return None


async def install(
    target: BindingTarget,
    changes: Sequence[BindingChange],
    probe: Probe,
    *,
    recall: Recall = nothing_to_recall,
    pace: Pace = _USUAL_PACE,
    unseen: Unseen | None = None,
) -> list[Result]:
    """Make the changes, see that they are served, and restore what was there where another certificate is seen.

    A binding of which nothing can be seen stays, and is to be tried again; one that takes a neighbour over goes.

    One bad change never holds up the others. A cancellation waits for the `apply` in hand; what is then bound but not
    seen yet is looked at when the same change comes again.

    Args:
        target: The server.
        changes: At most one for each host and port.
        probe: Shakes hands with a listener; a `ListenerProbe`, except in tests.
        recall: Fetches the bundle of a binding that was replaced, by its bundle id, so after an agent's restart too;
            None when that is impossible.
        pace: How long and how often to look.
        unseen: What earlier batches of this process bound and could not see, to be given again with the next: such a
            binding is looked at, and not applied once more. Changed here.

    Returns:
        Exactly one result for each change, in their order.

    Raises:
        ValueError: Two changes are for the same host and port.
    """
    try:
        before = {binding.key: binding for binding in await target.current(_concerned(changes))}
    except CertcastError as error:
        return [failed(change, str(error), retriable=error.retriable) for change in changes]
    sorted_out = triage(changes, before, target.refusal)
    looker = Looker(target, probe, pace)
    undoer = Undoer(target=target, looker=looker, recall=recall)
    prover = Prover(target, looker, undoer, before, {} if unseen is None else unseen)
    results = [Result(change=each, outcome=Outcome.REFUSED, reason=reason) for each, reason in sorted_out.refused]
    results += [Result(change=each, outcome=Outcome.REMOVED) for each in sorted_out.absent]
    results += await prover.confirmed(sorted_out.unchanged)
    known = {result.change.key for result in results}
    applied = await apply_all(target.apply, [change for change in changes if change.key not in known])
    results += [
        failed(each.change, each.failure, retriable=each.retriable, stages_ms={"apply": each.after_ms})
        for each in applied
        if each.failure
    ]
    proved = await prover.proved([each for each in applied if not each.failure])
    takeovers = Takeovers(target=target, looker=looker, prover=prover, undoer=undoer, before=before)
    results += await takeovers.judged(proved)
    by_key = {result.change.key: result for result in results}
    tried = [(before[each.change.key], by_key[each.change.key]) for each in applied if each.change.key in before]
    await clean_up(target, [binding for binding, result in tried if _is_over(binding, result)])
    return [by_key[change.key] for change in changes]


def _concerned(changes: Iterable[BindingChange]) -> set[Key]:
    """What must be known of the server; a hint about one host costs the same however much is bound."""
    return {key for change in changes for key in (change.key, *heirs_of(change))}


def _is_over(binding: InstalledBinding, result: Result) -> bool:
    """Whether a binding that was there is no longer needed: its successor was seen, or it was seen to be gone."""
    if isinstance(result.change, Install):
        return result.outcome is Outcome.LIVE and not result.change.is_done_by(binding)
    return result.outcome is Outcome.REMOVED
