"""Bounds on work: many things at once but not too many, and waits between tries that grow up to a last one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable

T = TypeVar("T")
U = TypeVar("U")

CONCURRENCY = 32
ROWS_AT_ONCE = 8
"""Of one upload, which may have 250 hosts: others' requests are to come between."""


async def gather_bounded(work: Iterable[Awaitable[T]], limit: int = CONCURRENCY) -> list[T]:
    """Await all, at most `limit` at a time, in order; the first error ends it after the others have come to rest."""
    gate = asyncio.Semaphore(limit)

    async def one(item: Awaitable[T]) -> tuple[T]:
        async with gate:
            return (await item,)  # in a tuple, an error that is an answer is none that was raised

    results = await asyncio.gather(*(one(item) for item in work), return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result[0])
    return done


async def together(first: Awaitable[T], second: Awaitable[U]) -> tuple[T, U]:
    """Await both at the same time; the first one's error, else the other's, is raised after both came to rest."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other


async def try_all(work: Iterable[Awaitable[object]], limit: int = 1) -> None:
    """Await all, at most `limit` at a time, whatever becomes of the others; the first error is raised in the end."""
    gate = asyncio.Semaphore(limit)

    async def one(item: Awaitable[object]) -> None:
        async with gate:
            await item

    results = await asyncio.gather(*map(one, work), return_exceptions=True)
    failed = next((result for result in results if isinstance(result, BaseException)), None)
    if failed is not None:
        raise failed


class Locks:
    """A lock for each name that somebody in this process holds or waits for."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of this name."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._users[name] = self._users.get(name, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._locks[name]


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
