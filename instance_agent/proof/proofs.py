"""When each binding was last seen served, and which is to be looked at next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from shared.bounded import Delays
from shared.messages import InstallOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from instance_agent.memory import Attempt
    from instance_agent.targets.base import Key

MOST_LOOKS_PER_S = 5
AIM = 0.9
"""The part of a cycle in which everything is looked at, so that what comes together is in time as well."""
DOUBT_WAITS = Delays((5, 15, 30, 60, 120))
"""Waits before a binding that was not seen is looked at again."""
HURRY_EVERY_S = 600
"""Everything is looked at out of turn no more often than this, however often something gives reason to."""

_BETWEEN_S = 1 / MOST_LOOKS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That a binding was seen served.

    Attributes:
        at: When, in seconds since 1970; None where the server has no listener to be met.
        not_after: When the certificate ends, as its row says.
    """

    at: float | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """That a binding was not seen, with no other certificate in its place, or that what was seen led to nothing.

    Attributes:
        since: When it was first not seen, in seconds since 1970; None where it was not unseen.
        looks: How many looks there have been from then on.
        again_at: When to look again.
    """

    since: float | None
    looks: int
    again_at: float


class Proofs:
    """What is proved, and the order of looks: the one looked at least lately comes first.

    Bindings are looked at evenly spread, each once in a cycle, however they come and go, and never more than
    `MOST_LOOKS_PER_S`; where they are too many for that, a cycle takes longer.

    Args:
        now: The clock.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._proofs: dict[Key, Proof] = {}
        self._looked: dict[Key, float] = {}  # in the order of their times
        self._doubts: dict[Key, Doubt] = {}
        self._last_look = self._now_s()
        self._hurried_at = float("-inf")

    @property
    def watched(self) -> int:
        """Bindings that are looked at."""
        return len(self._looked)

    @property
    def known(self) -> Mapping[Key, Proof]:
        """The last proof of each binding that there is, also of those that fail by now."""
        return self._proofs

    def enter(self, attempts: Iterable[Attempt]) -> None:
        """Take up what an installation proved, took away or could not prove."""
        for attempt in attempts:
            report = attempt.report
            if report.outcome is InstallOutcome.LIVE:
                seen = bool(report.fingerprint_sha256)
                self._proofs[attempt.key] = Proof(at=self._now_s() if seen else None, not_after=attempt.not_after)
                self._put_last(attempt.key, watched=seen)
            else:
                self._put_last(attempt.key, watched=False)
                if report.outcome is InstallOutcome.REMOVED:
                    self._proofs.pop(attempt.key, None)

    def seen(self, key: Key) -> None:
        """Enter that a look showed what is bound."""
        if (before := self._proofs.get(key)) is not None:
            self._proofs[key] = Proof(at=self._now_s(), not_after=before.not_after)
        self._doubts.pop(key, None)

    def doubted(self, key: Key) -> float:
        """Enter that a look showed nothing; look again soon.

        Returns:
            For how many seconds that has been so.
        """
        if key not in self._looked:
            return 0.0
        now = self._now_s()
        before = self._doubts.get(key)
        since = now if before is None or before.since is None else before.since
        self._doubt(key, since)
        return now - since

    def unfinished(self, key: Key) -> None:
        """Enter that nothing came of a look, whatever it showed; look again soon."""
        if key in self._looked:
            before = self._doubts.get(key)
            self._doubt(key, None if before is None else before.since)

    def hurry(self) -> None:
        """Look at everything once out of turn, as fast as looks may be made."""
        if self._now_s() - self._hurried_at >= HURRY_EVERY_S:
            self._hurried_at = self._now_s()

    def wait_s(self, cycle_s: float) -> float | None:
        """How long to wait before the next look; None where there is nothing to look at."""
        if not self._looked:
            return None
        oldest = next(iter(self._looked.values()))
        aim_s = AIM * cycle_s
        at = min(self._last_look + aim_s / len(self._looked), oldest + aim_s)
        if oldest < self._hurried_at:
            at = self._hurried_at
        doubt = min((each.again_at for each in self._doubts.values()), default=at)
        return max(0.0, max(min(at, doubt), self._last_look + _BETWEEN_S) - self._now_s())

    def take(self) -> Key | None:
        """The binding to look at now."""
        now = self._now_s()
        due = min(self._doubts, key=lambda key: self._doubts[key].again_at, default=None)
        if due is None or self._doubts[due].again_at > now:
            due = next(iter(self._looked), None)
        if due is not None:
            self.looks_again()
            self._put_last(due, watched=True, keeps_doubt=True)
            if (doubt := self._doubts.get(due)) is not None:
                # Should nothing come of this look, the others have their turn before it is made again.
                self._doubts[due] = replace(doubt, again_at=now + DOUBT_WAITS[doubt.looks])
        return due

    def looks_again(self) -> None:
        """Enter that a look is made now, so that the next one keeps its distance."""
        self._last_look = self._now_s()

    def _doubt(self, key: Key, since: float | None) -> None:
        looks = self._doubts[key].looks if key in self._doubts else 0
        self._doubts[key] = Doubt(since=since, looks=looks + 1, again_at=self._now_s() + DOUBT_WAITS[looks])

    def _put_last(self, key: Key, *, watched: bool, keeps_doubt: bool = False) -> None:
        self._looked.pop(key, None)
        if watched:
            self._looked[key] = self._now_s()
        if not keeps_doubt:
            self._doubts.pop(key, None)

    def _now_s(self) -> float:
        return self._now().timestamp()


def too_many(bindings: int, cycle_s: float) -> bool:
    """Whether so many bindings cannot all be looked at within a cycle."""
    return bindings / MOST_LOOKS_PER_S > cycle_s
