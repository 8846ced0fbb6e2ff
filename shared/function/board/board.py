"""When the board is read, and for whom: requests share one reading, and none waits long for it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from shared.errors import CertcastError
from shared.function.board.entries import MOST_UPLOADS
from shared.function.board.holding import Holding
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.function.board.view import View
    from shared.state.tables import State

log = logger(__name__)

PATIENCE_S = 0.15
"""How long a request waits for what is being read, before it is answered with what is there."""
REFRESH_S = 1.5
"""The least time from the beginning of one reading to the next."""
SHARE = 3
"""That time in lengths of the reading, where it is longer: an account that answers slowly is asked less often."""
AGAIN_S = 5.0
"""After a reading that failed."""
READ_IN_S = 120.0
"""A reading that takes longer is given up; the next one goes on where it was."""
SILENT_S = 10.0
"""A reading that takes longer is told of, where there is something older to be shown meanwhile."""
FORGET_S = 900.0
"""Without a look, all is forgotten after so long."""


class Board:
    """The fleet in memory: read for the first look, brought up to date for each later one.

    Args:
        most: Uploads kept at most.
        patience_s: How long a look waits at most.
        forget_s: How long all is kept without a look.
        passing: Seconds that only ever grow.
    """

    def __init__(
        self,
        *,
        most: int = MOST_UPLOADS,
        patience_s: float = PATIENCE_S,
        forget_s: float = FORGET_S,
        passing: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._patience_s = patience_s
        self._forget_s = forget_s
        self._passing = passing
        self._holding = Holding(most, passing)
        self._task: asyncio.Task[None] | None = None
        self._begun = self._due = float("-inf")
        self._failure = ""
        self._forgetting: asyncio.TimerHandle | None = None

    async def view(self, state: State, now: Callable[[], datetime]) -> View:
        """The fleet as it is known a moment after.

        Args:
            state: The tables.
            now: The time, by the service's clock.
        """
        self._forget_later()
        task = self._reading(state, now)
        if task is not None:
            await asyncio.wait({task}, timeout=self._patience_s)
            if task.done():
                task.result()
        return self._holding.view(now(), self._trouble())

    def _reading(self, state: State, now: Callable[[], datetime]) -> asyncio.Task[None] | None:
        """The reading that is under way, or due now; None where what is there is new enough."""
        loop = asyncio.get_running_loop()
        if self._task is not None and not self._task.done() and self._task.get_loop() is loop:
            return self._task
        if self._passing() < self._due:
            return None
        self._begun = self._passing()
        self._task = loop.create_task(self._read(state, now), name="the board")
        return self._task

    async def _read(self, state: State, now: Callable[[], datetime]) -> None:
        self._due = self._begun + AGAIN_S
        try:
            async with asyncio.timeout(READ_IN_S):
                await self._holding.bring_up_to_date(state, now)
        except (CertcastError, TimeoutError) as error:
            self._failure = str(error) or f"the tables were not read within {READ_IN_S:g} s"
            self._due = self._passing() + AGAIN_S
            log.warning("dashboard: not brought up to date: %s", self._failure)
        except Exception:
            self._failure = "reading the tables failed in a way that was not foreseen, which the Function's log tells"
            raise
        else:
            self._failure = ""
            self._due = self._begun + max(REFRESH_S, SHARE * (self._passing() - self._begun))

    def _trouble(self) -> str:
        """Why there is nothing newer."""
        if self._failure or self._task is None or self._task.done():
            return self._failure
        is_slow = self._holding.is_whole and self._passing() - self._begun >= SILENT_S
        return "the storage account has not answered yet" if is_slow else ""

    def _forget_later(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._forgetting = asyncio.get_running_loop().call_later(self._forget_s, self._forget)

    def _forget(self) -> None:
        if self._task is not None and not self._task.done():
            self._forget_later()
            return
        self._holding, self._due, self._failure = Holding(self._most, self._passing), float("-inf"), ""
