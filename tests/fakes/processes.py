"""What may happen to a process at a step: it dies, it stands still, or the service fails it."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


class ProcessDiedError(Exception):
    """What a dead process meets at every further step; no code of certcast can have a plan for it."""


@dataclass
class Mortal:
    """The steps of a process that dies before one of them and does nothing any more.

    Attributes:
        dies_at: Number of that step, from 1; 0 for a process that lives.
        steps: Steps begun, by what they are.
    """

    dies_at: int = 0
    steps: Counter[str] = field(default_factory=Counter)

    async def __call__(self, what: str) -> None:
        self.steps[what] += 1
        if 0 < self.dies_at <= self.steps.total():
            raise ProcessDiedError(what)


@dataclass
class Failing:
    """Steps of which some end in an error.

    Attributes:
        errors: For each kind of step, the errors still to come, in place of which None is an answer.
    """

    errors: dict[str, list[Any]]

    async def __call__(self, what: str) -> None:
        error = self.errors[what].pop(0) if self.errors.get(what) else None
        if error is not None:
            raise error


class StandingStill:
    """A process that stands still before one kind of step until it is told to go on."""

    def __init__(self, before: str) -> None:
        self.before = before
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, what: str) -> None:
        if what == self.before:
            self.reached.set()
            await self.go_on.wait()
