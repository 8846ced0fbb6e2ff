"""Looks at the neighbours of what a batch changed, and takes back a change that took one of them over.

A server chooses among all certificates that it has: a wildcard with another kind of key can win over an exact host, and
the first certificate of a list can be its default. A change that was itself seen served may have done that.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from instance_agent.installing.applying import apply_all
from instance_agent.installing.neighbours import after_these, neighbours_of
from instance_agent.installing.proving import Prover
from instance_agent.installing.result import failed
from instance_agent.installing.sighting import Looker
from instance_agent.installing.undoing import Undoer
from instance_agent.targets.base import BindingTarget, InstalledBinding, Key, Remove
from shared.errors import CertcastError
from shared.messages import InstallOutcome as Outcome
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instance_agent.installing.neighbours import Neighbour
    from instance_agent.installing.result import Result
    from instance_agent.installing.sighting import Sighting
    from instance_agent.targets.base import BindingChange, Install

MOST_NEIGHBOURS = 20
"""Looked at after one batch, chosen at random; the continued proof comes to the others."""

_SHORT = 16

log = logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeovers:
    """What looking for takeovers needs.

    Attributes:
        target: The server.
        looker: Looks at it.
        prover: Proves what is put back.
        undoer: Takes back changes.
        before: What was bound before, as far as the batch and what is above its hosts are concerned.
    """

    target: BindingTarget
    looker: Looker
    prover: Prover
    undoer: Undoer
    before: Mapping[Key, InstalledBinding]

    async def judged(self, results: Sequence[Result]) -> list[Result]:
        """The results of changes that were made and proved, in the light of what they did to their neighbours.

        Nothing is looked at where nothing near is bound.
        """
        judged = {result.change.key: result for result in results}
        made = [result.change for result in results if result.outcome in {Outcome.LIVE, Outcome.REMOVED}]
        unproved = [result.change for result in results if result.outcome is Outcome.FAILED]
        neighbours = await self._neighbours(made, after_these(unproved, self.before))
        looks = await self._look(neighbours)
        harmed = [(each, seen) for each, seen in zip(neighbours, looks, strict=True) if each.is_harmed(seen)]
        lost = await self._lost_before([neighbour for neighbour, _ in harmed])
        taken: dict[Key, tuple[Install, Neighbour]] = {}
        for neighbour, seen in harmed:
            if neighbour.expected.key in lost:
                continue
            culprit = neighbour.taken_by(seen)
            if culprit is not None:
                taken.setdefault(culprit.key, (culprit, neighbour))
            else:
                for cause in neighbour.causes:
                    judged[cause.key] = _with_word(judged[cause.key], neighbour, seen)
        return list((judged | await self._taken_back(list(taken.values()), judged)).values())

    async def _neighbours(self, made: Sequence[BindingChange], bound: dict[Key, InstalledBinding]) -> list[Neighbour]:
        """What to look at; `bound` has what was before, and changes of the batch that were made and are unproved."""
        if any(change.host.startswith("*") for change in made):
            try:
                bound |= {each.key: each for each in await self.target.current() if each.key not in bound}
            except CertcastError as error:  # the changes are made and seen all the same
                log.warning("the neighbours of what changed could not be looked at: %s", error)
        found = neighbours_of(made, bound)
        return found if len(found) <= MOST_NEIGHBOURS else random.sample(found, MOST_NEIGHBOURS)

    async def _lost_before(self, neighbours: Sequence[Neighbour]) -> set[Key]:
        """Those that the server, asked once more, no longer has: something else changed them, no change of ours.

        What is remembered of a server may be older than what somebody did there; the continued proof puts it right.
        """
        expected = {each.expected.key: each.expected.fingerprint_sha256 for each in neighbours if each.is_bound}
        if not expected:
            return set()
        self.target.forget()
        try:
            found = {each.key: each.fingerprint_sha256 for each in await self.target.current(expected.keys())}
        except CertcastError as error:
            log.warning("what is bound beside the changes could not be read again: %s", error)
            return set(expected)
        return {key for key, fingerprint in expected.items() if found.get(key) != fingerprint}

    async def _look(self, neighbours: Sequence[Neighbour]) -> list[Sighting]:
        patience_s = self.looker.pace.confirm_s
        return await self.looker.look([each.expected for each in neighbours], patience_s=patience_s)

    async def _taken_back(
        self, taken: Sequence[tuple[Install, Neighbour]], judged: Mapping[Key, Result]
    ) -> dict[Key, Result]:
        """Take back what took a neighbour over; a renewal is made again where that did not help the neighbour."""
        if not taken:
            return {}
        told = await self.undoer.undo([change for change, _ in taken], self.before)
        looks = await self._look([neighbour for _, neighbour in taken])
        results: dict[Key, Result] = {}
        innocent: dict[Key, tuple[Install, Neighbour]] = {}
        for (change, neighbour), seen in zip(taken, looks, strict=True):
            if change.key in self.before and neighbour.is_harmed(seen) and neighbour.taken_by(seen) is None:
                innocent[change.key] = (change, neighbour)
                continue
            reason = f"{change.phrased} is served, but {neighbour.expected.phrased} now gets its certificate too"
            results[change.key] = replace(
                judged[change.key], outcome=Outcome.PROBE_MISMATCH, reason=f"{reason}; {told[change.key]}"
            )
        return results | await self._made_again(innocent)

    async def _made_again(self, innocent: Mapping[Key, tuple[Install, Neighbour]]) -> dict[Key, Result]:
        applied = await apply_all(self.target.apply, [change for change, _ in innocent.values()])
        results = [failed(each.change, each.failure, retriable=each.retriable) for each in applied if each.failure]
        results += await self.prover.proved([each for each in applied if not each.failure])
        told = {
            key: f"{neighbour.expected.phrased} gets its certificate too, as it did the one before"
            for key, (_, neighbour) in innocent.items()
        }
        return {
            result.change.key: replace(result, reason=_joined(told[result.change.key], result.reason))
            for result in results
        }


def _with_word(result: Result, neighbour: Neighbour, seen: Sighting) -> Result:
    """A removal's result with what a host beside it gets since; what is no new certificate is no install's doing."""
    if not isinstance(result.change, Remove):
        return result
    wanted, found = neighbour.expected.fingerprint_sha256[:_SHORT], seen.fingerprint_sha256[:_SHORT]
    word = f"{neighbour.expected.phrased} serves {found}… since, in place of {wanted}…"
    return replace(result, reason=_joined(result.reason, word))


def _joined(*clauses: str) -> str:
    return "; ".join(clause for clause in clauses if clause)
