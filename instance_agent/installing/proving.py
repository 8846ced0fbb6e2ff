"""Proof of changes that were made: a handshake for each, and the undoing of those that show another certificate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from instance_agent.installing.result import Result, failed, live
from instance_agent.installing.sighting import Expectation, Looker, Sighting, served
from instance_agent.targets.base import Install, Remove
from shared.errors import CertcastError
from shared.hostnames import wildcard_of
from shared.messages import InstallOutcome as Outcome
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from instance_agent.installing.applying import Applied
    from instance_agent.installing.undoing import Undoer
    from instance_agent.targets.base import BindingChange, BindingTarget, InstalledBinding, Key

_UNKNOWN_HOST = "*.invalid"  # RFC 2606: probing it shows the server's default certificate
_SHORT = 16  # hex digits of a fingerprint in a sentence

log = logger(__name__)


class Prover:
    """Proves the changes of one batch.

    Args:
        target: The server, which may know why another certificate was seen.
        looker: Looks at it.
        undoer: Restores what was bound before.
        before: What was bound before, as far as the batch concerns it.
    """

    def __init__(
        self, target: BindingTarget, looker: Looker, undoer: Undoer, before: Mapping[Key, InstalledBinding]
    ) -> None:
        self._target = target
        self._looker = looker
        self._undoer = undoer
        self._before = before

    async def confirmed(self, unchanged: Sequence[Install]) -> list[Result]:
        """Look for a moment at what is installed already; what is not seen has no result, and is to be applied."""
        sightings = await self._look([served(each) for each in unchanged], self._looker.pace.confirm_s)
        looked = zip(unchanged, sightings, strict=True)
        return [live(change, seen, {"probe": seen.took_ms}) for change, seen in looked if seen.met]

    async def proved(self, applied: Sequence[Applied]) -> list[Result]:
        """See what became of changes that were made, and undo installs that show another certificate."""
        took_ms = {each.change.key: each.after_ms for each in applied}
        made = {each.change.key: each.change for each in applied}
        installs = [each for each in made.values() if isinstance(each, Install)]
        removals = [each for each in made.values() if isinstance(each, Remove)]
        results = await self._prove_installs(installs, took_ms)
        return results + await self._prove_removals(removals, made, took_ms)

    async def _prove_installs(self, installs: Sequence[Install], took_ms: Mapping[Key, float]) -> list[Result]:
        sightings = await self._look([served(each) for each in installs], self._looker.pace.patience_s)
        results: list[Result] = []
        unseen: list[tuple[Install, Sighting, dict[str, float]]] = []
        for change, seen in zip(installs, sightings, strict=True):
            stages_ms = {"apply": took_ms[change.key], "probe": seen.took_ms}
            if seen.met:
                results.append(live(change, seen, stages_ms))
            elif not seen.reached:
                reason = f"{change.host}:{change.port} is bound, but no listener answered: {seen.problem}"
                results.append(failed(change, reason, retriable=True, stages_ms=stages_ms))
            else:
                unseen.append((change, seen, stages_ms))
        explained = [await self._explain(change, seen) for change, seen, _ in unseen]
        undone = await self._undoer.undo([change for change, _, _ in unseen], self._before)
        return results + [
            Result(
                change=change,
                outcome=Outcome.PROBE_MISMATCH,
                reason=f"{explanation}; {undone[change.key]}",
                seen_fingerprint_sha256=seen.fingerprint_sha256,
                stages_ms=stages_ms,
            )
            for (change, seen, stages_ms), explanation in zip(unseen, explained, strict=True)
        ]

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
        self, removals: Sequence[Remove], made: Mapping[Key, BindingChange], took_ms: Mapping[Key, float]
    ) -> list[Result]:
        """See that what was removed is no longer served, unless a wildcard or the server's default serves it too."""
        results: list[Result] = []
        looked_at: list[Remove] = []
        for change in removals:
            wildcard = (wildcard_of(change.host) or "", change.port)
            if self._bound_to(wildcard, made) == self._before[change.key].fingerprint_sha256:
                reason = f"the same certificate is still served there for {wildcard[0]}"
                stages_ms = {"apply": took_ms[change.key]}
                results.append(Result(change=change, outcome=Outcome.REMOVED, reason=reason, stages_ms=stages_ms))
            else:
                looked_at.append(change)
        sightings = await self._look([self._gone(each.host, each) for each in looked_at], self._looker.pace.patience_s)
        for change, seen in zip(looked_at, sightings, strict=True):
            stages_ms = {"apply": took_ms[change.key], "probe": seen.took_ms}
            results.append(await self._removed(change, seen, stages_ms))
        return results

    async def _removed(self, change: Remove, seen: Sighting, stages_ms: Mapping[str, float]) -> Result:
        fingerprint = seen.fingerprint_sha256
        gone = Result(change=change, outcome=Outcome.REMOVED, seen_fingerprint_sha256=fingerprint, stages_ms=stages_ms)
        if seen.met:
            return gone
        left = f"{change.host}:{change.port} is unbound, but the certificate {fingerprint[:_SHORT]}… is still served"
        (default,) = await self._look([self._gone(_UNKNOWN_HOST, change)], 0)
        if default.met:
            return replace(gone, outcome=Outcome.FAILED, reason=left, retriable=True)
        return replace(gone, reason=f"{left}: it is also what the server answers unknown names with")

    def _bound_to(self, key: Key, made: Mapping[Key, BindingChange]) -> str | None:
        """The fingerprint bound to a host and port now that the changes are made; None when there is none."""
        change = made.get(key)
        if change is None:
            return self._before[key].fingerprint_sha256 if key in self._before else None
        return change.bundle.fingerprint_sha256 if isinstance(change, Install) else None

    def _gone(self, host: str, change: Remove) -> Expectation:
        """That the certificate which was bound for the removed host is not served for this one."""
        fingerprint = self._before[change.key].fingerprint_sha256
        return Expectation(host=host, port=change.port, fingerprint_sha256=fingerprint, served=False)

    async def _look(self, expectations: Sequence[Expectation], patience_s: float) -> list[Sighting]:
        return await self._looker.look(expectations, patience_s=patience_s)
