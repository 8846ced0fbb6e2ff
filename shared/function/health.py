"""The Function's health: whether it can do its work, asked often and looked at seldom, and what is wrong in detail.

A load balancer asks each few seconds, from several places. So one look serves all who ask while it is under way and for
half a minute after, and is bounded in time. Who has no key learns which part fails, and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.state.findings import Check, Checked, Result, make_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HEALTH_KEPT_S = 30
"""How long a look at what is vital holds."""
DIAGNOSIS_KEPT_S = 3
"""A person who puts something right wants to see it; several who ask at once are one."""
WITHIN_S = 8
"""What one check may take here."""


class Health:
    """What this process found when it last looked.

    Args:
        checks: What there is to look at.
        clock: Seconds that pass.
    """

    def __init__(self, checks: Sequence[Check] = (), clock: Callable[[], float] = time.monotonic) -> None:
        quick = [replace(check, within_s=min(check.within_s, WITHIN_S)) for check in checks]
        self._vital = _Kept([check for check in quick if check.vital], HEALTH_KEPT_S, clock)
        self._whole = _Kept(quick, DIAGNOSIS_KEPT_S, clock)

    async def failing(self) -> list[str]:
        """The names of the parts without which the Function cannot do its work, and that fail."""
        return [each.name for each in await self._vital.results() if each.result is Result.WRONG]

    async def diagnosis(self) -> list[Checked]:
        """Every check."""
        return await self._whole.results()


class _Kept:
    """The results of some checks, made again when they are asked for and too old."""

    def __init__(self, checks: Sequence[Check], kept_s: float, clock: Callable[[], float]) -> None:
        self._checks = checks
        self._kept_s = kept_s
        self._clock = clock
        self._good_until = float("-inf")
        self._run: asyncio.Task[list[Checked]] | None = None

    async def results(self) -> list[Checked]:
        if self._run is None or (self._run.done() and self._clock() >= self._good_until):
            self._run = asyncio.create_task(self._make(), name="checkup")
        # One who asks and goes away ends it for none of the others.
        return await asyncio.shield(self._run)

    async def _make(self) -> list[Checked]:
        made = await make_checks(self._checks)
        self._good_until = self._clock() + self._kept_s
        return made
