"""Bounds on work: many things at once but not too many, and waits between tries that grow up to a last one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

T = TypeVar("T")

CONCURRENCY = 32
ROWS_AT_ONCE = 8
"""Of one upload, which may have 250 hosts: others' requests are to come between."""


async def gather_bounded(work: Iterable[Awaitable[T]], limit: int = CONCURRENCY) -> list[T]:
    """Await all, at most `limit` at a time, in order; the first error ends it after the others have come to rest."""
    gate = asyncio.Semaphore(limit)

    async def one(item: Awaitable[T]) -> T:
        async with gate:
            return await item

    results = await asyncio.gather(*(one(item) for item in work), return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


async def try_all(work: Iterable[Awaitable[object]]) -> None:
    """Await one after the other, whatever becomes of those before; the first error is raised in the end."""
    failed: Exception | None = None
    for item in work:
        try:
            await item
        except Exception as error:  # noqa: BLE001 - raised below
            failed = failed or error
    if failed is not None:
        raise failed


@dataclass(frozen=True, slots=True)
class Delays:
    """Waits in the order in which they come, such as `Delays((2, 5, 10, 30))`.

    Attributes:
        seconds: One or more; the last one stands for all that follow.
    """

    seconds: tuple[float, ...]

    def __getitem__(self, number: int) -> float:
        """Wait `number` in seconds, counted from 0."""
        return self.seconds[max(0, min(number, len(self.seconds) - 1))]
