"""This instance's row and queue: under which id they are, and how they are kept whatever others write there."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from instance_agent.identity import Identity
from shared import VERSION
from shared.errors import CertcastError, ConflictError
from shared.phrasing import logger, shown
from shared.state.records import InstanceRecord, is_awaited

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from instance_agent.config import AgentSettings
    from shared.ports import Queues
    from shared.state.rows import Versioned
    from shared.state.tables import State

log = logger(__name__)

MOST_MOVES = 3
MOVES_WITHIN_S = 3600
"""Beyond so many moves to another id in this time, a running agent keeps its id and overwrites what others write."""
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the agent is, for its row.

    Attributes:
        bindings: Bindings served and proved.
        failing: Desired bindings that are not.
        ready: Every desired binding has been applied once.
        trouble: What keeps the web server from being used now; empty where nothing does.
    """

    bindings: int
    failing: int
    ready: bool
    trouble: str = ""


class Registration:
    """One agent's hold on an instance id, from its start to its end.

    Others can write its row: nothing in it is believed but that another agent runs under the id, which is met by taking
    another id, and every write has all columns.

    Args:
        settings: The agent's settings.
        server: What names the web server on this machine.
        state: The tables.
        queues: The queues.
        now: The storage account's clock.
        progress: Tells how far the agent is.
        on_queue: Called when there is a row and its queue was made before: what changed until then was not hinted at.

    Attributes:
        settings: The agent's settings, with the id it has.
        target_version: The web server's own version.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        server: str,
        state: State,
        queues: Queues,
        now: Callable[[], datetime],
        progress: Callable[[], Progress],
        on_queue: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.target_version = ""
        self._identity = Identity.of(settings.instance, host=settings.host, server=server)
        self._state = state
        self._queues = queues
        self._now = now
        self._progress = progress
        self._on_queue = on_queue
        self._no_queue = ""
        self._no_row = ""
        self._started_at = now()
        self._entered = False
        self._moves: deque[float] = deque(maxlen=MOST_MOVES)
        self._writing = asyncio.Lock()

    @property
    def instance(self) -> str:
        """The id it has, or will ask for."""
        return self.settings.instance

    @property
    def is_registered(self) -> bool:
        """Whether its row was written, so that what it is told of is sent to its queue."""
        return self._entered

    @property
    def asked_id(self) -> str:
        """The id that the settings ask for."""
        return self._identity.asked_id

    @property
    def trouble(self) -> str:
        """What is wrong with its id, its queue or its row; empty where all is well."""
        clauses = [self._other_id]
        if not self._entered and self._no_row:
            clauses.append(f"this instance is not registered: {self._no_row}")
        elif self._no_queue:
            clauses.append(f"this instance cannot be told of changes: {self._no_queue}")
        elif self._no_row:
            clauses.append(f"this instance cannot say that it is alive: {self._no_row}")
        return "; ".join(filter(None, clauses))

    @property
    def _other_id(self) -> str:
        if self.instance == self.asked_id:
            return ""
        return f"id {self.asked_id} is in use elsewhere; runs as {self.instance}"

    async def register(self) -> bool:
        """Create the queue, then the row: where there is a row, a queue can be sent to.

        Raises:
            QueueBeingDeletedError: The sweep took the instance for scaled in: on Azure, the name is free again after
                40 s or more. The row is not written before.

        Returns:
            Whether what was reported so far was not reported under this id.
        """
        async with self._writing:
            return await self._held(with_queue=True)

    async def beat(self) -> bool:
        """Say that the agent is alive, and how far it is.

        Registers where that was not possible before, and makes a queue that could not be made.

        Returns:
            As `register`.
        """
        async with self._writing:  # one after the other: none may carry what was true before
            changed = await self._held(with_queue=not self._entered)
            if self._no_queue:  # what is lacking may be the poison queue alone, which no look at the queue tells of
                with suppress(CertcastError):  # `trouble` says it; who fails to make a queue is alive all the same
                    await self._make_queues(self.settings)
                    self._on_queue()
            return changed

    async def leave(self) -> None:
        """Say that no one needs to wait for this instance; best effort, since its silence says the same later."""
        if not self._entered:
            return
        try:
            async with self._writing:
                await self._enter(self.settings, with_queue=False, stopped=True)
        except CertcastError as error:
            log.warning("instance %s: could not say that it stops: %s", self.instance, error)

    async def _held(self, *, with_queue: bool) -> bool:
        try:
            changed = await self._hold(with_queue=with_queue)
        except CertcastError as error:
            self._no_row = str(error)
            raise
        self._no_row = ""
        return changed

    async def _hold(self, *, with_queue: bool) -> bool:
        other = await self._enter(self.settings, with_queue=with_queue)
        if other is None:
            first, self._entered = not self._entered, True
            return first
        now = asyncio.get_running_loop().time()
        if self._entered and len(self._moves) == MOST_MOVES and now - self._moves[0] < MOVES_WITHIN_S:
            log.warning("instance %s: its row is written by others again and again; it stays", self.instance)
            await self._overwrite(self.settings, with_queue=with_queue)
            return False
        for instance in self._identity.others(self.instance):
            chosen = replace(self.settings, instance=instance)
            if await self._enter(chosen, with_queue=True) is None:
                break
        else:
            await self._overwrite(chosen, with_queue=True)
        if self._entered:
            self._moves.append(now)
        self.settings, self._entered = chosen, True
        log.warning("instance %s (an agent on %s has it)", self._other_id, shown(other.host))
        return True

    async def _enter(
        self, settings: AgentSettings, *, with_queue: bool, stopped: bool = False
    ) -> InstanceRecord | None:
        """Write the row, unless it is another running agent's, which is returned."""
        for _ in range(_TRIES):
            known = await self._state.instances.find(settings.instance)
            if known is not None and self._is_anothers(settings.instance, known):
                return known.value
            if known is None and stopped:
                return None
            # A row that is gone was reaped, and its queue before it. None is written where there is no queue.
            makes_queues = with_queue or known is None
            if makes_queues:
                await self._make_queues(settings)
            try:
                await self._state.instances.write(settings.instance, self._row(settings, stopped=stopped), known)
            except ConflictError:
                continue  # written meanwhile, or it cannot be read
            if makes_queues:
                self._on_queue()
            return None
        await self._overwrite(settings, with_queue=with_queue, stopped=stopped)
        return None

    async def _overwrite(self, settings: AgentSettings, *, with_queue: bool, stopped: bool = False) -> None:
        if with_queue:
            await self._make_queues(settings)
        await self._state.instances.overwrite(settings.instance, self._row(settings, stopped=stopped))
        if with_queue:
            self._on_queue()

    async def _make_queues(self, settings: AgentSettings) -> None:
        try:
            await self._queues.create(settings.queue)
            await self._queues.create(settings.poison_queue)
        except CertcastError as error:
            self._no_queue = str(error)
            raise
        self._no_queue = ""

    def _is_anothers(self, instance: str, known: Versioned[InstanceRecord]) -> bool:
        """Whether another agent runs under the id; by the service's clock alone, since others write the row's times."""
        session, ours = known.value.session, self._identity
        if session == ours.session or not is_awaited(known, self._now()):
            return False
        # An id that we have was ours at the last heartbeat: what stands there now was written by one that ran since.
        has_it = self._entered and instance == self.instance
        return has_it or not ours.has_ended(session)

    def _row(self, settings: AgentSettings, *, stopped: bool) -> InstanceRecord:
        progress, identity = self._progress(), self._identity
        return InstanceRecord(
            id=settings.instance,
            asked_id="" if settings.instance == self.asked_id else self.asked_id,
            role=settings.role,
            host=settings.host,
            target_kind=settings.target,
            target_version=self.target_version,
            agent_version=VERSION,
            session=identity.session,
            started_at=self._started_at,
            last_seen=self._now(),
            bindings=progress.bindings,
            failing=progress.failing,
            ready=progress.ready and not stopped,
            stopped=stopped,
            trouble=progress.trouble,
        )
