"""An event loop whose time passes only when nothing is left to do, and processes whose steps a test puts in order.

On it an hour of waiting takes no time, and a run is the same each time: threads are replaced by plain calls, and
nothing outside the process is waited for.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

from hypothesis import strategies as st

from tests.fakes.edges import Step
from tests.fakes.storage import START, FakeClock

T = TypeVar("T")
Args = TypeVarTuple("Args")


class _Selector(selectors.SelectSelector):
    """Lets the loop's time pass in place of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.when_idle: Callable[[], bool] = lambda: False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if self.when_idle():
            return []
        if timeout is None:
            raise RuntimeError("every task waits, and nothing will ever happen")
        self.time += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop.

    Attributes:
        clock: The loop's time as a time of day.
    """

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self.clock = LoopClock(self)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._virtual.time

    def when_idle(self, act: Callable[[], bool]) -> None:
        """Have this called whenever no task can go on; time passes only when it answers False."""
        self._virtual.when_idle = act

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args) -> asyncio.Future[T]:
        """Call at once: a thread would bring its own idea of what comes first."""
        del executor
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's to see
            done.set_exception(error)
        return done


class LoopClock(FakeClock):
    """Shows the loop's time; it cannot be moved otherwise."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def __deepcopy__(self, _: dict[int, object]) -> LoopClock:
        return self

    def __call__(self) -> datetime:
        return START + timedelta(seconds=self._loop.time())


def run(work: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run something to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        return runner.run(work(loop))


@dataclass(eq=False)
class _Turn:
    process: str
    what: str
    granted: asyncio.Future[None]


class Interleaving:
    """Holds back every step of its processes until it is chosen.

    Args:
        loop: Where the processes run.
        choose: Picks the process that goes on, of those that wait.
    """

    def __init__(self, loop: VirtualLoop, choose: Callable[[Sequence[str]], str]) -> None:
        self.taken: list[str] = []
        self._loop = loop
        self._choose = choose
        self._waiting: list[_Turn] = []
        loop.when_idle(self._grant)

    def step(self, process: str = "") -> Step:
        """The steps of one process."""

        async def wait_for_turn(what: str) -> None:
            turn = _Turn(process=process, what=what, granted=self._loop.create_future())
            self._waiting.append(turn)
            await turn.granted

        return wait_for_turn

    def _grant(self) -> bool:
        self._waiting = [turn for turn in self._waiting if not turn.granted.done()]
        if not self._waiting:
            return False
        processes = sorted({turn.process for turn in self._waiting})
        chosen = self._choose(processes) if len(processes) > 1 else processes[0]
        turn = next(turn for turn in self._waiting if turn.process == chosen)
        self._waiting.remove(turn)
        self.taken.append(f"{turn.process}: {turn.what}")
        turn.granted.set_result(None)
        return True


class Bursts:
    """Chooses processes as Hypothesis says, each for so many steps on end.

    Most races need one process to stand still while another does something from beginning to end: a choice at each
    step would hardly ever come to that.
    """

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self._process = ""
        self._left = 0

    def __call__(self, processes: Sequence[str]) -> str:
        if self._left == 0 or self._process not in processes:
            self._process = self._data.draw(st.sampled_from(processes))
            self._left = self._data.draw(st.sampled_from(_LENGTHS))
        self._left -= 1
        return self._process


_LENGTHS = (1, 2, 3, 5, 8, 13, 21, 55)
