"""Turns at a host: accepted uploads for one host enter their claims one after the other, the one that would win first.

This is about fairness and not about correctness, which the rows' ETags keep between any number of processes: hundreds
of uploads for one host would otherwise write one row at the same time, each in vain and each moving it, and everybody
else's uploads would wait for that.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from datetime import datetime

CROWD = 4
"""So many that wait at a host are a crowd: there one that moved the row keeps its turn for a while longer."""
MAX_AT_A_HOST = 8
REST_S = 1.0

Rank = tuple["datetime", "datetime", str]
"""A claim's, by which it is elected."""


@dataclass(slots=True)
class Turn:
    """One turn.

    Attributes:
        moved: Whether what is to be served changed in it.
    """

    moved: bool = False


class Lanes:
    """The hosts at which somebody has a turn, and who waits for the next one.

    Where a crowd waits, a turn lasts a second: while newer uploads keep coming, each would win, and every instance
    would install and report each of them. No more than a few wait at all, as whatever waits keeps an event's handler.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[Rank, asyncio.Future[None]]]] = {}

    def are_full(self, hosts: Collection[str]) -> bool:
        """Whether so many wait at one of these hosts that others are to come later."""
        return any(len(self._waiting.get(host, ())) >= MAX_AT_A_HOST for host in hosts)

    @asynccontextmanager
    async def turn(self, hosts: Collection[str], rank: Rank) -> AsyncIterator[Turn]:
        """Hold the turn at all of these hosts.

        Args:
            hosts: What is to be claimed; taken in one order by all, so that no two wait for each other.
            rank: The highest one that waits is let in first.
        """
        turn = Turn()
        async with AsyncExitStack() as held:
            for host in sorted(set(hosts)):
                await self._enter(host, rank)
                held.callback(self._leave, host, turn)
            yield turn

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
                if host in self._waiting:  # else none has a turn there any more, as `_next` passed this one over
                    self._waiting[host] = [each for each in self._waiting[host] if each[1] is not admitted]
            else:
                self._next(host)
            raise

    def _leave(self, host: str, turn: Turn) -> None:
        if turn.moved and len(self._waiting[host]) >= CROWD:
            asyncio.get_running_loop().call_later(REST_S, self._next, host)
        else:
            self._next(host)

    def _next(self, host: str) -> None:
        # One that was given up in this very moment has yet to take itself out.
        self._waiting[host] = waiting = [each for each in self._waiting[host] if not each[1].done()]
        if not waiting:
            del self._waiting[host]
            return
        next_one = max(waiting, key=lambda each: each[0])
        waiting.remove(next_one)
        next_one[1].set_result(None)
