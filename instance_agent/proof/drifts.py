"""What something else than certcast changed on the server: when that was seen, and how often it is put right."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from instance_agent.memory import DONE, REASON_CHARS
from shared.binding import phrased
from shared.bounded import Delays
from shared.messages import InstallOutcome
from shared.phrasing import day, logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from instance_agent.memory import Attempt
    from instance_agent.targets.base import Key
    from shared.binding import DesiredBinding
    from shared.messages import BindingReport

log = logger(__name__)

REPAIR_WAITS = Delays((0, 0, 30, 60, 120, 300, 600))
"""Waits before a binding is put right, by how often that was tried in the last hour: two programs that fight over one
must not keep a server reloading."""
LATELY = timedelta(hours=1)
OFTEN = 3
"""Changes of one binding within an hour that are told to be so many."""


class Change(Enum):
    """What was done to a binding: how it is told, and how its repair is."""

    REPLACED = ("changed behind certcast's back at {at}", "put right")
    LOST = ("was no longer bound, noticed at {at}", "bound again")
    RETURNED = ("was bound again behind certcast's back at {at}", "removed again")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drift:
    """One change that is not put right yet.

    Attributes:
        change: What was done.
        role, generation: The row that was obeyed.
        at: When it was seen.
    """

    change: Change
    role: str
    generation: int
    at: datetime

    @property
    def sentence(self) -> str:
        """What was done, and when that was seen."""
        return self.change.value[0].format(at=day(self.at))

    def is_about(self, what: BindingReport | DesiredBinding) -> bool:
        return (self.role, self.generation) == (what.role, what.generation)


@dataclass(slots=True, kw_only=True)
class _History:
    """Of one binding: the times of the last hour."""

    seen: deque[datetime] = field(default_factory=deque)
    tried: deque[datetime] = field(default_factory=deque)
    drift: _Drift | None = None

    def let_go(self, now: datetime) -> None:
        for times in (self.seen, self.tried):
            while times and now - times[0] >= LATELY:
                times.popleft()


class Drifts:
    """The changes of all bindings.

    Args:
        now: The clock.

    Attributes:
        found: How many were seen.
        repaired: How many were put right.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.found = 0
        self.repaired = 0
        self._now = now
        self._of: dict[Key, _History] = {}

    def find(self, last: BindingReport, change: Change) -> None:
        """Enter that a binding is no longer as it was when this was reported of it."""
        history = self._lately((last.host, last.port))
        if history.drift is not None and history.drift.is_about(last):
            return
        now = self._now()
        history.drift = _Drift(change=change, role=last.role, generation=last.generation, at=now)
        history.seen.append(now)
        self.found += 1
        log.warning("%s %s", phrased(last.host, last.port), history.drift.sentence)

    def put_off(self, row: DesiredBinding) -> bool:
        """Whether the row's binding was put right so often that the next repair is to wait."""
        until = self._put_off_until(row)
        return until is not None and until > self._now()

    def waiting(self, row: DesiredBinding) -> str:
        """What to say of a row that is put off."""
        key = (row.host, row.port)
        until = self._put_off_until(row)
        when = "soon" if until is None or until <= self._now() else f"at {day(until)} or soon after"
        return f"{self._told(key)}; it will be put right {when}{self._advice(key)}"

    def concluded(self, attempt: Attempt, *, tried: bool = True) -> Attempt:
        """What came of a binding, with what was seen to be changed on it.

        Args:
            attempt: What came of it.
            tried: Whether that was a try to put it right.
        """
        history = self._of.get(attempt.key)
        if history is None or history.drift is None:
            return attempt
        drift, report = history.drift, attempt.report
        if not drift.is_about(report):
            history.drift = None  # the row moved on: it is as the new one says, or not
            return attempt
        if not tried:
            return replace(attempt, report=replace(report, drifted_at=drift.at))
        history.tried.append(self._now())
        told, advice = self._told(attempt.key), self._advice(attempt.key)
        if report.outcome in DONE:
            also = f" ({report.reason})" if report.reason else ""
            reason = f"{told}; {drift.change.value[1]}{also}{advice}"
        else:
            reason = f"{told}, and could not be put right: {report.reason}"
        if report.outcome in DONE or report.outcome is InstallOutcome.REFUSED:
            history.drift = None
            self.repaired += report.outcome in DONE
        report = replace(report, reason=reason[:REASON_CHARS], drifted_at=drift.at)
        again = attempt.again or not (report.outcome in DONE or history.drift is None or attempt.unfit)
        return replace(attempt, report=report, again=again)

    def _lately(self, key: Key) -> _History:
        history = self._of.setdefault(key, _History())
        history.let_go(self._now())
        return history

    def _put_off_until(self, row: DesiredBinding) -> datetime | None:
        history = self._of.get((row.host, row.port))
        if history is None or history.drift is None or not history.drift.is_about(row):
            return None
        history.let_go(self._now())
        if not history.tried:
            return None
        return history.tried[-1] + timedelta(seconds=REPAIR_WAITS[len(history.tried)])

    def _told(self, key: Key) -> str:
        history = self._of[key]
        often = f", {len(history.seen)} times in the last hour" if len(history.seen) >= OFTEN else ""
        return f"{history.drift.sentence if history.drift else ''}{often}"

    def _advice(self, key: Key) -> str:
        if len(self._of[key].seen) < OFTEN:
            return ""
        return f": look for another program that writes what the server has for {phrased(*key)}"
