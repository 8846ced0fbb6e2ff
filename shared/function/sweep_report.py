"""What one sweep did, and doing one thing of many in it, so that its failure is its own."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from shared.binding import BindingKey
from shared.errors import BusyError, CertcastError
from shared.function.deadlines import ITEM_S
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from datetime import datetime

T = TypeVar("T")

log = logger(__name__)

_GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, less their whole part, spread evenly from 0 to 1, however many there are."""


@dataclass(slots=True)
class SweepReport:
    """What one sweep did.

    Attributes:
        handed_over: Rows that another upload took over, as a certificate ends.
        looked_at: Uploads that were looked at again.
        settled: Uploads whose status was derived again.
        warned: Uploads whose end was warned of.
        reaped: Instances taken for scaled in.
        forgotten: Rows and bundles deleted because nothing needs them any more.
        problems: What could not be done; the next sweep tries again.
        lacking: How many uploads and claims the tables lacked, or had otherwise than they should, when they were read.
        touched: Uploads that a look was begun at: what was read of them before is not so any more.
        left: How much was left to the next sweep, as the time was over, or many like it failed.
        until: When the step that is under way begins nothing more, on the event loop's clock.
    """

    handed_over: list[BindingKey] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    reaped: list[str] = field(default_factory=list)
    forgotten: int = 0
    problems: list[str] = field(default_factory=list)
    lacking: int = 0
    touched: set[str] = field(default_factory=set)
    left: int = 0
    until: float = float("inf")

    def is_over(self) -> bool:
        """Whether the step's time is over, so that it begins nothing more."""
        return asyncio.get_running_loop().time() >= self.until

    async def attempt(self, what: str, work: Coroutine[Any, Any, T]) -> T | None:
        """Do one thing of many, whose failure is reported and stops nothing else; None when it failed or was left.

        Args:
            what: Names it in the report and the log.
            work: What to do.
        """
        if self.is_over():
            work.close()
            self.left += 1
            return None
        return await self.part(what, work, within_s=ITEM_S)

    async def part(self, what: str, work: Coroutine[Any, Any, T], *, within_s: float | None = None) -> T | None:
        """Do a part of the sweep, whatever the time; None when it failed.

        Args:
            what: Names it in the report and the log.
            work: What to do.
            within_s: Given up after so many seconds.
        """
        try:
            async with asyncio.timeout(within_s):
                return await work
        except BusyError as error:
            log.info("sweep: %s: %s", what, error)
        except CertcastError as error:
            self.problems.append(f"{what}: {error}")
            log.warning("sweep: %s: %s; the next sweep tries again", what, error)
        except TimeoutError:
            self.problems.append(f"{what}: not done in time")
            log.warning("sweep: %s: not done in %g s; the next sweep tries again", what, within_s or 0)
        except Exception as error:
            self.problems.append(f"{what}: {type(error).__name__}")
            log.exception("sweep: %s: unexpected trouble; the next sweep tries again", what)
        return None


def in_turn(items: Sequence[T], now: datetime) -> list[T]:
    """The same items, beginning with another one in each minute: what comes last for one sweep comes early for another.

    So a sweep whose time is over before the end keeps nothing from its turn, whichever process does the next one.
    """
    first = int(now.timestamp() // 60 * _GOLDEN % 1 * len(items))
    return [*items[first:], *items[:first]]
