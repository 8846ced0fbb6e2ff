"""What the rows do not order, but lack: it is left as it is on the server until they are known to lack nothing.

A removal is a row that says so, and rows only grow newer. What has no row, or an older one than was obeyed, more likely
was lost with a table or in a restored one, and comes back by the next sweeps. These tell when they found the tables
whole; a doubt that is older than that is over, and the rows are obeyed as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.binding import BindingKey, phrased
from shared.phrasing import listed, logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable
    from datetime import datetime

    from instance_agent.desired import Desired
    from instance_agent.memory import Memory
    from instance_agent.targets.base import Key
    from shared.state.wholeness import Wholeness

log = logger(__name__)


class Doubts:
    """The hosts and ports whose rows are in doubt.

    Args:
        wholeness: Reads what the last sweep said of the tables.
        now: The clock.
    """

    def __init__(self, wholeness: Callable[[], Awaitable[Wholeness | None]], now: Callable[[], datetime]) -> None:
        self._wholeness = wholeness
        self._now = now
        self._since: dict[Key, datetime] = {}

    async def left(self, lacking: Iterable[Key]) -> Collection[Key]:
        """Those that are still in doubt, of all hosts and ports at which the rows seem to lack something now."""
        now = self._now()
        since = {key: self._since.get(key, now) for key in lacking}
        if not since:
            self._since = {}
            return ()
        told = await self._wholeness()
        left = {key for key, began in since.items() if told is None or not told.is_since(began)}
        if new := left - self._since.keys():
            log.warning(
                "%d binding(s) have no row any more, or an older one than was obeyed (%s): they stay as they are until "
                "a sweep finds that the tables lack nothing",
                *(len(new), listed(sorted(phrased(*key) for key in new))),
            )
        self._since = {key: since[key] for key in left}
        return left


def is_in_doubt(key: Key, desired: Desired, memory: Memory) -> bool:
    """Whether the row to obey is older than what was obeyed, or another role's in place of one that is gone."""
    row, last = desired.rows.get(key), memory.of(key)
    if row is None or last is None:
        return False
    if last.report.generation == 0 or row.role == last.report.role or not desired.named:
        return memory.is_older(row)
    return BindingKey(role=last.report.role, host=row.host, port=row.port) not in desired.named
