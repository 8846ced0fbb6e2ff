"""Following the history: the entries that come to it, in the order of their moments, each once."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.state.history import days_back
from shared.state.recalling import Wanted, recalled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.state.history import HistoryEntry
    from shared.state.rows import Versioned
    from shared.state.tables import State

    Place = tuple[str, str]

LOOK_EVERY_S = 1.0
RECENT = timedelta(seconds=20)
"""Each look goes so far back: an entry is written a moment after it came about."""
LATE_EVERY = timedelta(seconds=30)
LATE = timedelta(days=1)
"""How often it is looked for entries that came late, as a table or a process was away, and how far back these are."""
_AHEAD = timedelta(minutes=1)
_GRAIN = timedelta(seconds=2)
"""The service tells its time in whole seconds."""
_PAGE = 32
_MOST_SEEN = 100_000


class Following:
    """The entries that come to the history from a moment on.

    Args:
        state: The tables.
        now: Tells the time, by the service's clock.
    """

    def __init__(self, state: State, now: Callable[[], datetime]) -> None:
        self._state = state
        self._now = now
        self._seen: dict[Place, None] = {}
        self._begun: datetime | None = None
        self._looked_late = now()

    async def begin(self, since: datetime | None) -> list[HistoryEntry]:
        """Look for the first time: the entries since a moment, oldest first; none where there is no such moment."""
        await self._recent(self._now())
        self._begun = self._looked_late = self._now()  # by the service's clock, which has answered now
        if since is None:
            return []
        wanted = Wanted(since=since, until=self._begun + _AHEAD)
        async with aclosing(recalled(self._state, wanted)) as entries:
            found = [entry async for entry in entries if entry.at >= since]
        self._see(found)
        return sorted(found, key=lambda entry: entry.at)

    async def look(self) -> list[HistoryEntry]:
        """The entries that came since the last look, oldest first."""
        now = self._now()
        found = await self._recent(now)
        if now - self._looked_late >= LATE_EVERY:
            found += await self._late(now)
        return sorted(found, key=lambda entry: entry.at)

    async def _recent(self, now: datetime) -> list[HistoryEntry]:
        """Those of the last moments, from the newest back."""
        found: list[Versioned[HistoryEntry]] = []
        for day in days_back(now + _AHEAD, now - RECENT):
            async with aclosing(self._state.history.all(day, page=_PAGE)) as rows:
                async for known in rows:
                    if known.value.at < now - RECENT:
                        break
                    found.append(known)
        return self._new(found)

    async def _late(self, now: datetime) -> list[HistoryEntry]:
        """Those that were written since it was looked for such, whatever moment they tell of."""
        since = self._looked_late - _GRAIN
        found: list[Versioned[HistoryEntry]] = []
        for day in days_back(now, now - LATE):
            found += [known async for known in self._state.history.all(day, since=since)]
        self._looked_late = now
        return self._new(found)

    def _new(self, found: Sequence[Versioned[HistoryEntry]]) -> list[HistoryEntry]:
        begun = self._begun
        new = [
            known.value
            for known in found
            if known.value.place not in self._seen and begun is not None and known.written_at >= begun - _GRAIN
        ]
        self._see([known.value for known in found])
        return new

    def _see(self, entries: Sequence[HistoryEntry]) -> None:
        self._seen |= dict.fromkeys(entry.place for entry in entries)
        for place in [*self._seen][: max(0, len(self._seen) - _MOST_SEEN)]:
            del self._seen[place]
