"""Steps that the daemon takes again and again until it is stopped, and the waits between them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.bounded import Delays
from shared.errors import CertcastError, RefusedForNowError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logger(__name__)

TROUBLES = Delays((2, 4, 8, 16, 30))
"""Waits before an agent that cannot reach the account tries again."""
REFUSALS = Delays((2, 5, 15, 30, 60, 120))
"""Waits before one that is refused does: a role assignment takes up to half an hour to come into force."""


class Rounds:
    """The steps of one agent.

    Args:
        instance: Tells its id, for log lines.
        on_trouble: Called after each step that failed for a passing reason.
    """

    def __init__(self, instance: Callable[[], str], *, on_trouble: Callable[[], None]) -> None:
        self._instance = instance
        self._on_trouble = on_trouble
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no further step, and wait no longer."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether no further step is to be taken."""
        return self._stopping.is_set()

    async def repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take one step after the other; what fails is said, waited out, and done again: no failure ends the agent."""
        failures = 0
        while not self.stopping:
            try:
                await step()
            except Exception as error:
                self._on_trouble()
                if isinstance(error, CertcastError):
                    log.warning("instance %s: %s; trying again", self._instance(), error)
                else:
                    log.exception("instance %s: unexpected trouble; trying again", self._instance())
                waits = REFUSALS if isinstance(error, RefusedForNowError) else TROUBLES
                await self.pause(waits[failures])
                failures += 1
            else:
                failures = 0

    async def pause(self, seconds: float, *, wake: asyncio.Event | None = None) -> None:
        """Wait, but not beyond `stop` nor beyond the moment when `wake` is set."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._stopping, wake) if event is not None]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
