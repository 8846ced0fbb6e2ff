"""Proof of removals: what was removed is no longer served, unless another binding or the server's own default does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from instance_agent.installing.neighbours import after_these, heir_of
from instance_agent.installing.probe import UNKNOWN_HOST
from instance_agent.installing.result import Result
from instance_agent.installing.sighting import Expectation, Looker, Sighting
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from instance_agent.targets.base import BindingChange, InstalledBinding, Key, Remove

_SHORT = 16


class Unbinding:
    """Proves the removals of one batch.

    Args:
        looker: Looks at the server.
        before: What was bound before, as far as the batch concerns it.
    """

    def __init__(self, looker: Looker, before: Mapping[Key, InstalledBinding]) -> None:
        self._looker = looker
        self._before = before

    async def proved(
        self, removals: Sequence[Remove], made: Mapping[Key, BindingChange], took_ms: Mapping[Key, float]
    ) -> list[Result]:
        """See that each is no longer served, where nothing else of ours serves the same certificate there."""
        after = after_these(made.values(), self._before)
        results: list[Result] = []
        looked_at: list[Remove] = []
        for change in removals:
            heir = heir_of(change, after)
            was = self._before[change.key].fingerprint_sha256  # empty where the server cannot tell
            if heir is None or not was or heir.fingerprint_sha256 != was:
                looked_at.append(change)
                continue
            also = "clients that ask for no name or an unknown one" if heir.host == DEFAULT_HOST else heir.host
            reason = f"the same certificate is still served there for {also}"
            stages_ms = {"apply": took_ms[change.key]}
            results.append(Result(change=change, outcome=Outcome.REMOVED, reason=reason, stages_ms=stages_ms))
        expected = [self._gone(each.host, each) for each in looked_at]
        sightings = await self._looker.look(expected, patience_s=self._looker.pace.patience_s)
        for change, seen in zip(looked_at, sightings, strict=True):
            stages_ms = {"apply": took_ms[change.key], "probe": seen.took_ms}
            results.append(await self._judged(change, seen, stages_ms))
        return results

    async def _judged(self, change: Remove, seen: Sighting, stages_ms: Mapping[str, float]) -> Result:
        fingerprint = seen.fingerprint_sha256
        gone = Result(change=change, outcome=Outcome.REMOVED, seen_fingerprint_sha256=fingerprint, stages_ms=stages_ms)
        unbound = f"{change.phrased} is unbound"
        if not fingerprint and not seen.known:
            # The server's word is all there is; it would be all there is at another try too.
            return replace(gone, reason=f"{unbound}, but what is served there now could not be seen: {seen.problem}")
        if seen.met:
            return gone
        left = f"{unbound}, but the certificate {fingerprint[:_SHORT]}… is still served"
        if change.host != DEFAULT_HOST:
            (default,) = await self._looker.look([self._gone(UNKNOWN_HOST, change)], patience_s=0)
            if default.fingerprint_sha256 == fingerprint:
                return replace(gone, reason=f"{left}: it is also what the server answers unknown names with")
        return replace(gone, outcome=Outcome.FAILED, reason=left, retriable=True)

    def _gone(self, host: str, change: Remove) -> Expectation:
        """That the certificate which was bound for the removed host is not served for this one."""
        fingerprint = self._before[change.key].fingerprint_sha256
        return Expectation(host=host, port=change.port, fingerprint_sha256=fingerprint, served=False)
