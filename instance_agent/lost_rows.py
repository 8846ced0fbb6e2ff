"""Whether rows are lost that a fresh instance should serve: it is not to be ready for visitors without them."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from shared.errors import CertcastError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from instance_agent.acting import Actor
    from instance_agent.desired import Desired
    from shared.state.tables import State

log = logger(__name__)


class LostRows:
    """Whether rows seem to be lost that a fresh instance is to serve, so that it is not to be ready without them.

    Args:
        state: The tables.
        actor: Reads what the last sweep said of them, and what is sealed.
        now: The clock.

    Attributes:
        trouble: What was found last, a sentence; empty where nothing seems to be lost.
    """

    def __init__(self, state: State, actor: Actor, now: Callable[[], datetime]) -> None:
        self.trouble = ""
        self._state = state
        self._actor = actor
        self._now = now
        self._since: datetime | None = None

    async def look(self, desired: Desired) -> str:
        """Find out; what cannot be found out counts as nothing, and a server that serves already goes on serving."""
        try:
            trouble = "" if self._actor.found_serving else await self._found(desired)
        except CertcastError as error:
            log.info("whether rows are lost is not known: %s", error)
            trouble = ""
        if trouble and trouble != self.trouble:
            log.warning("not ready: %s", trouble)
        self.trouble = trouble
        return trouble

    async def _found(self, desired: Desired) -> str:
        now, told = self._now(), await self._actor.wholeness()
        if told is not None and told.is_rebuilding(now):
            return "rows of uploads were lost, and are made again by the sweeps"
        if desired.rows or desired.unknown:
            return ""
        self._since = self._since or now
        if (told is not None and told.is_since(self._since)) or await self._has_rows():
            return ""
        if not await self._actor.has_bundles():
            return ""
        return "table bindings is empty, and bundles were sealed: it was emptied, or its rows are yet to be made"

    async def _has_rows(self) -> bool:
        async with aclosing(self._state.bindings.all(page=1)) as rows:
            return await anext(rows, None) is not None
