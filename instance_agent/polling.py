"""When an agent looks at its queue again: often while hints come, then seldom, and at the same moments as every other.

An upload is live when the last instance serves it. Where idle agents look at moments of their own, the last of many
looks a whole wait after the hint; where all look at the same ones, the last looks when the first does: in the mean half
a wait after it.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

BUSY_S = 0.05
"""Between two looks while hints come."""
QUIET_S = 20.0
"""Certificates come in bursts: after so long without a hint an agent waits its longest, and before that less."""
SPREAD_S = 0.02
"""How far apart the agents' looks are within a moment, so that the account is not asked by all of them at once."""
REST = 4
"""Times as long as a vain look took is the least wait after it: an account that answers slowly is asked less often."""


class Polling:
    """The looks of one agent.

    Args:
        now: A clock that machines share, more or less; one that is wrong costs only that they look at other moments.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._spread_s = random.uniform(0, SPREAD_S)  # noqa: S311 - jitter
        self._came_at = self._asked_at = 0.0

    def begin(self) -> None:
        """Note that a look begins."""
        self._asked_at = _passing()
        self._came_at = self._came_at or self._asked_at

    def pause_s(self, longest_s: float, *, taken: int) -> float:
        """How long to wait after the look that has ended, which took so many messages."""
        ended_at = _passing()
        if taken:
            self._came_at = ended_at
        wait_s = wait_of(longest_s, quiet_s=ended_at - self._came_at)
        least_s = 0 if taken else REST * (ended_at - self._asked_at)
        if wait_s is None:
            return min(max(BUSY_S, least_s), longest_s)
        return until_shared(wait_s, at_s=self._now().timestamp() - self._spread_s, least_s=least_s)


def wait_of(longest_s: float, *, quiet_s: float) -> float | None:
    """The wait of an agent to which nothing has come for so long; None where it is busy still.

    It is the longest, or a half, a quarter … of it, so that the moments of agents with different waits coincide.
    """
    wait_s, due_s = longest_s, longest_s * (quiet_s / QUIET_S)
    while wait_s > max(due_s, BUSY_S):
        wait_s /= 2
    return wait_s if wait_s > BUSY_S else None


def until_shared(wait_s: float, *, at_s: float, least_s: float) -> float:
    """Seconds to the next moment that is a multiple of the wait since 1970, but not the one just looked at.

    Args:
        wait_s: The wait.
        at_s: What the clock shows, in seconds since 1970; where it jumps, the next moment is still within two waits.
        least_s: The least to wait.
    """
    least_s = min(max(least_s, BUSY_S / 2), wait_s)
    left_s = wait_s - at_s % wait_s
    return left_s if left_s >= least_s else left_s + wait_s


def _passing() -> float:
    return asyncio.get_running_loop().time()
