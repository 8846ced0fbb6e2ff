"""How each desired row ended and what was reported of it, in this process's life."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from shared.messages import BindingReport, InstallOutcome
from shared.phrasing import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from instance_agent.targets.base import Key
    from shared.binding import DesiredBinding
    from shared.state.records import InstallationRecord

REPEAT_AFTER = timedelta(seconds=60)
"""A hint about what was told longer ago asks for it once more: the report may be lost. Sooner, it is a doubled hint."""

REASON_CHARS = 1000
"""A server's own words may be a page; a report must fit a queue message whatever they are."""

DONE = frozenset({InstallOutcome.LIVE, InstallOutcome.REMOVED})
"""Outcomes of rows that are as they should be."""

_NO_STAGES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of one desired row; thousands are kept, so nothing of the row is but what is told.

    Attributes:
        report: What is to be told about it. A generation of 0 is no row's: it exists on the server only.
        again: Whether trying the same again soon may succeed.
        unfit: Whether its bundle could not be installed, so that the server was not asked for anything.
        not_after: When the row's certificate ends; None where the row has none.
        changed_at: When the row had got its generation.
    """

    report: BindingReport
    again: bool = False
    unfit: bool = False
    not_after: datetime | None = None
    changed_at: datetime | None = None

    @property
    def key(self) -> Key:
        """The row's host and port."""
        return (self.report.host, self.report.port)

    def says_the_same_as(self, other: Attempt | None) -> bool:
        """Whether a report of this one would bring nothing new after the other's."""
        return other is not None and _essence(self.report) == _essence(other.report)


class Memory:
    """What the agent did last with each host and port.

    Args:
        now: The clock.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._last: dict[Key, Attempt] = {}
        self._told_at: dict[Key, datetime] = {}
        self._owed: dict[Key, Attempt] = {}
        self._ended: Counter[InstallOutcome] = Counter()

    @property
    def known(self) -> int:
        """Hosts and ports of which a row was met."""
        return len(self._last)

    @property
    def proved(self) -> int:
        """Bindings seen served."""
        return self._ended[InstallOutcome.LIVE]

    @property
    def failing(self) -> int:
        """Desired rows that are not as they should be."""
        return sum(number for outcome, number in self._ended.items() if outcome not in DONE)

    @property
    def failures(self) -> Iterator[Attempt]:
        """What came last of each of these."""
        return (attempt for attempt in self._last.values() if attempt.report.outcome not in DONE)

    @property
    def owes(self) -> bool:
        """Whether something is still to be told, as no report could be made."""
        return bool(self._owed)

    def of(self, key: Key) -> Attempt | None:
        """What came last of a host and port, whatever its row was."""
        return self._last.get(key)

    def last(self, row: DesiredBinding) -> Attempt | None:
        """What came of this very row: of its role and generation."""
        last = self.of((row.host, row.port))
        if last is None or (last.report.role, last.report.generation) != (row.role, row.generation):
            return None
        return last

    def is_older(self, row: DesiredBinding) -> bool:
        """Whether a row is as it was before what was acted on: its table was restored from a copy."""
        last = self.of((row.host, row.port))
        if last is None or last.changed_at is None or last.report.role != row.role:
            return False
        return row.generation < last.report.generation and row.changed_at < last.changed_at

    def attempt(
        self,
        row: DesiredBinding,
        outcome: InstallOutcome,
        reason: str,
        *,
        again: bool = False,
        seen: str = "",
        stages_ms: Mapping[str, float] = _NO_STAGES,
    ) -> Attempt:
        """What comes of a row now, to be told with what is known of it from before."""
        last = self.last(row)
        report = BindingReport(
            role=row.role,
            host=row.host,
            port=row.port,
            generation=row.generation,
            source=row.source,
            outcome=outcome,
            reason=reason[:REASON_CHARS],
            fingerprint_sha256=seen,
            finished_at=self._now(),
            stages_ms={name: round(took, 1) for name, took in stages_ms.items()},
            drifted_at=None if last is None else last.report.drifted_at,
        )
        return Attempt(report=report, again=again, not_after=row.not_after, changed_at=row.changed_at)

    def unreported(self, attempts: Iterable[Attempt], asked: Iterable[Key] = ()) -> list[Attempt]:
        """Choose what is to be told.

        Args:
            attempts: What was done now; those that say something new are told, with what could not be told before.
                Rows that exist only on the server are reported to no one.
            asked: Hosts and ports that a hint asks about, whose rows were read just now; what was told of them long
                ago is told again.
        """
        made = {attempt.key: attempt for attempt in attempts if attempt.report.generation > 0}
        news = self._owed | {
            key: attempt for key, attempt in made.items() if not attempt.says_the_same_as(self._last.get(key))
        }
        now = self._now()
        for key in asked:
            known = made.get(key) or self._last.get(key)
            if known is not None and key not in news and now - self._told_at.get(key, now) >= REPEAT_AFTER:
                news[key] = replace(known, report=replace(known.report, finished_at=now))
        return list(news.values())

    def not_owed(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Those that are not to be told already, because a report could not be made."""
        return [attempt for attempt in attempts if self._owed.get(attempt.key) is not attempt]

    def disputed(self, rows: Iterable[DesiredBinding], entered: Mapping[Key, InstallationRecord]) -> list[Attempt]:
        """Choose what is to be told again because the table has something else.

        Args:
            rows: The rows that are obeyed.
            entered: What the table has of this instance. What was told less than a minute ago may not be there yet.
        """
        now = self._now()
        again: list[Attempt] = []
        for row in rows:
            last = self.last(row)
            if last is None or now - self._told_at.get(last.key, now) < REPEAT_AFTER:
                continue
            report = replace(last.report, source=row.source, finished_at=now)
            known = entered.get(last.key)
            if known is None or _essence(report) != _essence(known):
                again.append(replace(last, report=report))
        return again

    def remember(self, attempts: Iterable[Attempt], owed: Iterable[Attempt]) -> None:
        """Keep how each row ended, and what of it, or of before, is to be told."""
        for attempt in (*attempts, *owed):
            if (before := self._last.get(attempt.key)) is not None:
                self._ended[before.report.outcome] -= 1
            self._last[attempt.key] = attempt
            self._ended[attempt.report.outcome] += 1
        self._owed |= {attempt.key: attempt for attempt in owed}

    def told(self, attempts: Iterable[Attempt]) -> None:
        """Keep that this was reported."""
        for attempt in attempts:
            self._told_at[attempt.key] = self._now()
            self._owed.pop(attempt.key, None)


def _essence(told: BindingReport | InstallationRecord) -> tuple[object, ...]:
    reason = shown(told.reason, REASON_CHARS)  # as it is entered
    return (told.role, told.generation, told.source, told.outcome, reason, told.fingerprint_sha256)
