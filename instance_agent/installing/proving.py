"""Proof of changes that were made: a handshake for each, and the undoing of those that show another certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instance_agent.installing.result import Result, failed, live
from instance_agent.installing.sighting import Looker, Sighting, served
from instance_agent.installing.unbinding import Unbinding
from instance_agent.targets.base import Install, Key, Remove
from shared.errors import CertcastError
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome
from shared.phrasing import logger
from shared.telemetry import names
from shared.telemetry.names import Kind, Stage
from shared.telemetry.spans import note, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from instance_agent.installing.applying import Applied
    from instance_agent.installing.undoing import Undoer
    from instance_agent.targets.base import BindingTarget, InstalledBinding

Unseen = dict[Key, str]
"""The bundle's id for each host and port that this process bound, and of which nothing was seen since."""

SHORT = 16
"""Hex digits of a fingerprint in a sentence."""

log = logger(__name__)


class Prover:
    """Proves the changes of one batch.

    Args:
        target: The server, which may know why another certificate was seen.
        looker: Looks at it.
        undoer: Restores what was bound before.
        before: What was bound before, as far as the batch concerns it.
        unseen: Kept from batch to batch.
    """

    def __init__(
        self,
        target: BindingTarget,
        looker: Looker,
        undoer: Undoer,
        before: Mapping[Key, InstalledBinding],
        unseen: Unseen,
    ) -> None:
        self._target = target
        self._looker = looker
        self._undoer = undoer
        self._unbinding = Unbinding(looker, before)
        self._before = before
        self._unseen = unseen

    async def confirmed(self, unchanged: Sequence[Install]) -> list[Result]:
        """Look for a moment at what is installed already; what is not seen has no result, and is to be applied.

        What this process has applied already is not applied again because a listener does not let itself be seen: each
        time would be one more reload.
        """
        sightings = await self._look(unchanged, self._looker.pace.confirm_s)
        results: list[Result] = []
        for change, seen in zip(unchanged, sightings, strict=True):
            stages_ms = {"probe": seen.took_ms}
            if seen.met:
                self._unseen.pop(change.key, None)
                results.append(live(change, seen, stages_ms))
            elif not seen.fingerprint_sha256 and self._unseen.get(change.key) == change.bundle_id:
                results.append(self._not_seen(change, seen, stages_ms))
        return results

    async def proved(self, applied: Sequence[Applied]) -> list[Result]:
        """See what became of changes that were made, and undo installs that show another certificate."""
        took_ms = {each.change.key: each.after_ms for each in applied}
        made = {each.change.key: each.change for each in applied}
        results = await self._prove_installs([each for each in made.values() if isinstance(each, Install)], took_ms)
        removals = [each for each in made.values() if isinstance(each, Remove)]
        for each in removals:
            self._unseen.pop(each.key, None)
        return results + await self._unbinding.proved(removals, made, took_ms)

    async def _prove_installs(self, installs: Sequence[Install], took_ms: Mapping[Key, float]) -> list[Result]:
        sightings = await self._look(installs, self._looker.pace.patience_s)
        results: list[Result] = []
        others: list[tuple[Install, Sighting, dict[str, float]]] = []
        for change, seen in zip(installs, sightings, strict=True):
            stages_ms = {"apply": took_ms[change.key], "probe": seen.took_ms}
            if seen.met:
                self._unseen.pop(change.key, None)
                results.append(live(change, seen, stages_ms))
            elif seen.fingerprint_sha256:
                others.append((change, seen, stages_ms))
            else:
                results.append(self._not_seen(change, seen, stages_ms))
        explained = [await self._explain(change, seen) for change, seen, _ in others]
        undone = await self._undoer.undo([change for change, _, _ in others], self._before)
        return results + [
            Result(
                change=change,
                outcome=Outcome.PROBE_MISMATCH,
                reason=f"{explanation}; {undone[change.key]}",
                seen_fingerprint_sha256=seen.fingerprint_sha256,
                stages_ms=stages_ms,
            )
            for (change, seen, stages_ms), explanation in zip(others, explained, strict=True)
        ]

    async def _look(self, installs: Sequence[Install], patience_s: float) -> list[Sighting]:
        if not installs:
            return []
        only = installs[0] if len(installs) == 1 else None
        with span(Stage.PROBE, kind=Kind.CLIENT, host=only.host if only else None):
            note({names.BINDINGS: len(installs)} | ({names.PORT: only.port} if only else {}))
            return await self._looker.look([served(each) for each in installs], patience_s=patience_s)

    def _not_seen(self, change: Install, seen: Sighting, stages_ms: Mapping[str, float]) -> Result:
        """A binding that stays, since nothing shows that it is not served; it is looked at again."""
        self._unseen[change.key] = change.bundle_id
        if seen.unusable:
            told = "shows its certificate, which no client can make use of"
        elif seen.reached:
            told = "is bound, but no certificate was seen"
        else:
            told = "is bound, but no listener answered"
        reason = f"{change.phrased} {told}: {seen.problem}"
        return failed(change, reason, retriable=True, stages_ms=stages_ms)

    async def _explain(self, change: Install, seen: Sighting) -> str:
        """What was seen in place of the certificate just bound, and why, where the target can tell."""
        wanted = change.bundle.fingerprint_sha256[:SHORT]
        found = f"{change.phrased} serves {seen.fingerprint_sha256[:SHORT]}… in place of {wanted}…"
        if change.host == DEFAULT_HOST:
            found += f" to clients that ask for {'an unknown name' if seen.asked else 'no name'}"
        try:
            cause = await self._target.explain_mismatch(change.host, change.port, seen.fingerprint_sha256)
        except CertcastError as error:
            log.warning("no explanation for %s: %s", change.phrased, error)
            cause = None
        return f"{found}: {cause}" if cause else found
