"""Deciding who goes on: every step of every process waits here until it is chosen, by a script or in its turn."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.errors import UnavailableError
from tests.fakes.edges import Step
from tests.fakes.processes import ProcessDiedError
from tests.fakes.virtual_time import VirtualLoop


@dataclass(eq=False)
class Process:
    """A run of the Function or of an agent, until it ends or dies."""

    name: str
    task: asyncio.Task[Any] | None = None
    dead: bool = False

    @property
    def running(self) -> bool:
        return self.task is not None and not self.task.done()


@dataclass
class Trouble:
    """Requests that are to fail: how many of which kind are left."""

    left: dict[str, int] = field(default_factory=dict)

    def strike(self, what: str) -> None:
        if self.left.get(what, 0) > 0:
            self.left[what] -= 1
            raise UnavailableError(f"{what} was not answered")


class Conductor:
    """Grants one waiting step at a time: by the script while it lasts, else the one that has waited longest.

    A script is a sequence of (which process, how many steps on end).
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[Process, asyncio.Future[None]]] = []
        self._script: list[tuple[int, int]] | None = None
        self._now: tuple[Process | None, int] = (None, 0)
        self.steps = 0
        loop.when_idle(self._grant)

    def step(self, process: Process, trouble: Trouble) -> Step:
        """The steps of one process."""

        async def wait_for_turn(what: str) -> None:
            if process.dead:
                raise ProcessDiedError(what)
            turn: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append((process, turn))
            await turn
            if process.dead:
                raise ProcessDiedError(what)
            trouble.strike(what)

        return wait_for_turn

    def play(self, script: Sequence[tuple[int, int]], *, at_most_s: float) -> None:
        """Let the processes go on as the script says, and freeze them where it ends."""
        self._script = list(script)
        self._now = (None, 0)
        limit = self._loop.call_later(at_most_s, self._loop.stop)
        self._loop.run_forever()
        limit.cancel()
        self._script = None

    def let_pass(self, seconds: float) -> None:
        """Let time pass for all."""
        self._loop.run_until_complete(asyncio.sleep(seconds))

    def _grant(self) -> bool:
        self._waiting = [(process, turn) for process, turn in self._waiting if not turn.done()]
        if not self._waiting:
            return False
        chosen = self._choose()
        if chosen is None:
            self._loop.stop()
            return True
        turn = next(item for item in self._waiting if item[0] is chosen)
        self._waiting.remove(turn)
        turn[1].set_result(None)
        self.steps += 1
        return True

    def _choose(self) -> Process | None:
        if self._script is None:
            return self._waiting[0][0]
        waiting = list(dict.fromkeys(process for process, _ in self._waiting))
        process, left = self._now
        if left == 0 or process not in waiting:
            if not self._script:
                return None
            which, left = self._script.pop(0)
            process = waiting[which % len(waiting)]
        self._now = (process, left - 1)
        return process
