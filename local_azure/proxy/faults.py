"""Which requests to a storage account get another answer than the emulator's: rules that come and go while it runs."""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from local_azure.proxy.answers import Answer, Refusal
from local_azure.proxy.counting import caller_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from local_azure.proxy.operations import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When an answer is given in place of the emulator's. Patterns are those of file names: `queue cert-agent-*`.

    Attributes:
        answer: What is answered.
        operations: The operations that it is given to; empty for all that it fits.
        but: The operations that it is not given to.
        resource: Pattern of the container, table or queue.
        path: Pattern of the blob's name.
        callers: Patterns of who asks: `function`, `agent-*`, `relay`, `client`.
        times: How often it is given at most; None for always.
        for_s: For how long after it was added; None for ever.
        share: Which part of the requests gets it, at random.
        seed: Of that chance; None for another one each time.
    """

    answer: Answer
    operations: frozenset[str] = frozenset()
    but: frozenset[str] = frozenset()
    resource: str = "*"
    path: str = "*"
    callers: tuple[str, ...] = ("*",)
    times: int | None = None
    for_s: float | None = None
    share: float = 1.0
    seed: int | None = None

    def fits(self, asked: Asked) -> bool:
        """Whether a request is of the kind that gets the answer."""
        request = asked.request
        return (
            self.answer.fits(asked)
            and (not self.operations or request.operation in self.operations)
            and request.operation not in self.but
            and fnmatchcase(request.resource, self.resource)
            and fnmatchcase(request.path, self.path)
            and any(fnmatchcase(caller_of(asked.headers), pattern) for pattern in self.callers)
        )


class Fault:
    """A rule in force; made by `Faults.add`.

    Attributes:
        rule: As given.
        applied: How often it was applied.
    """

    def __init__(self, rule: Rule, since: float) -> None:
        self.rule = rule
        self.applied = 0
        self._until = None if rule.for_s is None else since + rule.for_s
        self._chance = random.Random(rule.seed)  # noqa: S311 - no secret depends on it

    def meets(self, asked: Asked, now: float) -> bool:
        """Whether it is applied to this request."""
        if self._until is not None and now >= self._until:
            return False
        if self.rule.times is not None and self.applied >= self.rule.times:
            return False
        return self.rule.fits(asked) and self._chance.random() < self.rule.share


class Always(Protocol):
    """What is always true of Azure, whatever rules there are."""

    def answer(self, asked: Asked, now: float) -> Refusal | None:
        """What a request is refused with; None lets it through."""

    def done(self, asked: Asked, status: int, now: float) -> None:
        """Learn what a request was answered with."""


class Faults:
    """All of the rules that are in force; the first one that meets a request is applied.

    Args:
        always: Comes before all rules.
        clock: Seconds that only grow.
    """

    def __init__(self, always: Sequence[Always] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._always = always
        self._clock = clock
        self._faults: list[Fault] = []
        self._applied = Counter[str]()

    @property
    def applied(self) -> Counter[str]:
        """How often each answer was given so far, by its name."""
        return self._applied.copy()

    def add(self, rule: Rule) -> Fault:
        """Put a rule into force."""
        fault = Fault(rule, self._clock())
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Take a rule out of force."""
        self._faults.remove(fault)

    @contextmanager
    def during(self, rule: Rule) -> Iterator[Fault]:
        """Have a rule in force in here."""
        fault = self.add(rule)
        try:
            yield fault
        finally:
            self.remove(fault)

    def answer(self, asked: Asked) -> Answer | None:
        """What a request is answered with in the emulator's place; None lets it through."""
        now = self._clock()
        for each in self._always:
            if (refusal := each.answer(asked, now)) is not None:
                self._applied[refusal.name] += 1
                return refusal
        for fault in self._faults:
            if fault.meets(asked, now):
                fault.applied += 1
                self._applied[fault.rule.answer.name] += 1
                return fault.rule.answer
        return None

    def done(self, asked: Asked, status: int) -> None:
        """Learn what a request was answered with, by the emulator or by a rule."""
        now = self._clock()
        for each in self._always:
            each.done(asked, status, now)
