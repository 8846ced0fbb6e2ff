"""Turns at a host: accepted uploads for one host enter their claims one after the other, the one that would win first.

This is about fairness and not about correctness, which the rows' ETags keep between any number of processes: hundreds
of uploads for one host would otherwise write one row at the same time, each in vain and each moving it, and everybody
else's uploads would wait for that.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from datetime import datetime

Rank = tuple["datetime", "datetime", str]
"""A claim's, by which it is elected."""


class Lanes:
    """The hosts at which somebody has a turn, and who waits for the next one."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[Rank, asyncio.Future[None]]]] = {}

    @asynccontextmanager
    async def turn(self, hosts: Collection[str], rank: Rank) -> AsyncIterator[None]:
        """Hold the turn at all of these hosts.

        Args:
            hosts: What is to be claimed; taken in one order by all, so that no two wait for each other.
            rank: The highest one that waits is let in first.
        """
        async with AsyncExitStack() as held:
            for host in sorted(set(hosts)):
                await self._enter(host, rank)
                held.callback(self._leave, host)
            yield

    async def _enter(self, host: str, rank: Rank) -> None:
        if host not in self._waiting:
            self._waiting[host] = []
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[host].append((rank, admitted))
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.cancelled():
                self._waiting[host] = [each for each in self._waiting[host] if each[1] is not admitted]
            else:
                self._leave(host)
            raise

    def _leave(self, host: str) -> None:
        waiting = self._waiting[host]
        if not waiting:
            del self._waiting[host]
            return
        next_one = max(waiting, key=lambda each: each[0])
        waiting.remove(next_one)
        next_one[1].set_result(None)
