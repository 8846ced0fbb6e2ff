"""The daemon: drains its queue, reconciles with the tables, has the installer act, reports what was seen.

Messages are hints. Whatever one names is read again from the tables, acted on if it differs from what the server has,
reported, and only then is the message deleted; so a lost, doubled or late one changes nothing, and after a crash at any
point the full reconcile at the next start makes everything good.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from instance_agent.desired import desired_of, desired_rows
from instance_agent.inbox import DRAIN, Inbox, QueueGoneError
from instance_agent.lost_rows import LostRows
from instance_agent.polling import Polling
from instance_agent.registration import Progress, Registration
from instance_agent.rounds import TROUBLES, Rounds
from instance_agent.targets.base import ServerUnavailableError
from instance_agent.usability import Starter
from instance_agent.watching import Watch
from instance_agent.work import Work
from shared.bounded import Delays
from shared.errors import CertcastError
from shared.phrasing import logger
from shared.state.records import HEARTBEAT_S
from shared.telemetry import names
from shared.telemetry.names import Kind, Stage
from shared.telemetry.spans import has_become, note, span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from instance_agent.acting import Actor, Step
    from instance_agent.config import AgentSettings
    from instance_agent.desired import Desired
    from instance_agent.inbox import Hints
    from instance_agent.targets.base import BindingTarget
    from shared.ports import Queues
    from shared.state.tables import State

log = logger(__name__)

RECONCILE_S = 300
RECONCILE_JITTER = 0.2
QUEUE_GONE_S = 2
"""Wait where there is no queue yet, or it was made again: it may be deleted at once."""
RETRIES = Delays((5, 15, 30, 60, 120))
"""Waits before bindings that failed for a passing reason, and reports that could not be made, are tried again."""


class Agent:
    """One instance's agent, from start to stop.

    Args:
        settings: Its settings.
        state: The tables.
        queues: The queues.
        target: The web server.
        actor: Turns desired rows into changes and results.
        now: The clock.

    Attributes:
        registration: Its row and queue, and under which id they are.
        ready: Whether every desired binding has been tried once, and not all of them in vain for a passing reason.
        work: What it does to its server, and what it tells of it.
        lost_rows: Whether rows seem to be lost, so that it is not ready without them.
    """

    def __init__(
        self,
        *,
        settings: AgentSettings,
        state: State,
        queues: Queues,
        target: BindingTarget,
        actor: Actor,
        now: Callable[[], datetime],
    ) -> None:
        self._reconcile_now = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._usable_again = asyncio.Event()
        self._told_from_now = asyncio.Event()
        self.registration = Registration(
            settings,
            server=target.place,
            state=state,
            queues=queues,
            now=now,
            progress=self._progress,
            on_queue=self._to_be_told,
        )
        self.ready = False
        self.actor = actor
        self.inbox = Inbox(queues, settings)
        self._state = state
        self._target = target
        self._start_over = False
        self._target_started = False
        self._rounds = Rounds(lambda: self.settings.instance, on_trouble=self._reconcile_now.set)
        self.work = Work(
            actor, state=state, queues=queues, rounds=self._rounds, instance=lambda: self.settings.instance
        )
        self.lost_rows = LostRows(state, actor, now)
        self._starter = Starter(self._start_target, actor.usability, self._rounds)
        actor.usability.on_change = self._usability_changed
        self._watch = Watch(
            settings, actor=actor, work=self.work, state=state, rounds=self._rounds, on_finding=self._look_around
        )
        self._retries = 0
        self._polling = Polling(now)

    @property
    def settings(self) -> AgentSettings:
        """Its settings, with the instance id that it has."""
        return self.registration.settings

    async def run(self) -> None:
        """Serve until `stop` is called; finishes the batch in hand and leaves the rest on the queue.

        A server that cannot be used now is waited for: meanwhile the agent is registered, and reports what it cannot
        install.

        Raises:
            ConfigurationError: Only a person can make the target usable.
        """
        async with self._ended():
            await self._starter.first()
            try:
                await self._register()
            except CertcastError as error:
                # What is desired is served all the same; the next heartbeat registers.
                log.warning("instance %s: not registered yet: %s", self.settings.instance, error)
            async with asyncio.TaskGroup() as tasks:
                for step in (self._heartbeat_step, self._reconcile_step, self._drain_step, self._watch.step):
                    tasks.create_task(self._rounds.repeat(step))
                tasks.create_task(self._starter.until_usable())
            self._starter.give_up()

    async def once(self) -> bool:
        """Register, reconcile and report once; whether everything desired is served and proved.

        Raises:
            ConfigurationError: Only a person can make the target usable.
            ServerUnavailableError: The server cannot be used now.
        """
        async with self._ended():
            await self._start_target()
            try:
                await self._register()
            except CertcastError:
                await self.reconcile()  # what is desired is served all the same
                raise
            done = await self.reconcile()
            if self.actor.usability.trouble:
                raise ServerUnavailableError(self.actor.usability.trouble)
            return done and not self.actor.memory.owes

    async def plan(self) -> list[Step]:
        """Say what a reconcile would do, without registering or changing anything."""
        await self._target.start()
        try:
            return await self.actor.preview(await desired_rows(self._state, self.settings.role))
        finally:
            await self._target.stop()

    def stop(self) -> None:
        """Ask the agent to finish."""
        self._rounds.stop()

    async def reconcile(self) -> bool:
        """Read every desired row and act on those that differ; whether everything desired is served and proved."""
        async with self.work.turn:
            if self._start_over:
                self._start_over = False
                self.actor.forget()
            # Read within a turn: what a drain has done before must not be undone by rows read before that.
            desired = await desired_rows(self._state, self.settings.role)
            drifts = self.actor.drifts.found
            due = await self.actor.due(desired, whole=True)
            if self.actor.drifts.found > drifts:
                self.actor.proofs.hurry()
            self.work.asked_since.clear()
        with span(Stage.RECONCILE) if due else nullcontext():
            again = await self.work.do_all(due) or self.actor.put_off
        unusable = bool(self.actor.usability.trouble)
        lost = "" if self.ready or unusable else await self.lost_rows.look(desired)
        if again or unusable or lost:
            self._reconcile_now.set()
        else:
            self._retries = 0
        if self._rounds.stopping:
            return False
        if not self.ready and not unusable and not lost and not (again and await self._serves_nothing_of(desired)):
            self.ready = True
            log.info("instance %s: ready, %d binding(s) desired", self.settings.instance, len(desired.rows))
            await self._beat()
        await self.work.put_right(desired.rows.values())
        return self.actor.memory.failing == 0 and not unusable and not lost

    async def _serves_nothing_of(self, desired: Desired) -> bool:
        """Whether there is something to serve, and the server has none of it: a vault refused, or it is down."""
        wanted = {key for key, row in desired.rows.items() if row.present}
        async with self.work.turn:
            return bool(wanted) and not any(each.key in wanted for each in await self._target.current(wanted))

    async def drain(self) -> int:
        """Take the messages there are, act on the rows they name in one batch, report, and delete them.

        Returns:
            How many were taken.
        """
        hints = await self.inbox.take()
        try:
            await self._act_on(hints)
        except CertcastError:
            # Not the messages' doing. A reconcile follows, which needs none of them: so none is put aside for it.
            await self.inbox.done(hints, last_tries=True)
            raise
        await self.inbox.done(hints)
        return hints.taken

    async def _act_on(self, hints: Hints) -> None:
        if not hints.keys:
            return
        first, *others = hints.traceparents or ("",)
        with span(Stage.ACT, of=first, links=others, kind=Kind.CONSUMER):
            note({names.SYSTEM: names.QUEUE_STORAGE, names.QUEUE: hints.queue, names.MESSAGES: hints.taken})
            await self._act_on_keys(hints)

    async def _act_on_keys(self, hints: Hints) -> None:
        async with self.work.turn:
            self.work.asked_since |= hints.keys
            desired = await desired_of(self._state, self.settings.role, hints.keys, of=self.actor.memory.known)
            due = await self.actor.due(desired, whole=False)
            if await self.work.do(due, asked=desired.rows):
                self._reconcile_now.set()

    async def _drain_step(self) -> None:
        self._polling.begin()
        self._told_from_now.clear()
        try:
            taken = await self.drain()
        except QueueGoneError:
            if self.registration.is_registered:
                log.warning("instance %s: its queue is gone, registering again", self.settings.instance)
                await self._register()
                self._told_from_now.clear()  # a queue that was made and is gone all the same is not asked at once
            await self._rounds.pause(QUEUE_GONE_S, wake=self._told_from_now)
            return
        pause_s = self._polling.pause_s(self.settings.poll_max_ms / 1000, taken=taken)
        if taken < DRAIN:
            await self._rounds.pause(pause_s)

    async def _reconcile_step(self) -> None:
        self._reconcile_now.clear()
        self._usable_again.clear()
        await self.reconcile()
        usual_s = RECONCILE_S * random.uniform(1 - RECONCILE_JITTER, 1 + RECONCILE_JITTER)  # noqa: S311 - jitter
        await self._rounds.pause(usual_s, wake=self._reconcile_now)
        if self._reconcile_now.is_set():
            waits = TROUBLES if self.actor.usability.trouble or self.lost_rows.trouble else RETRIES
            await self._rounds.pause(waits[self._retries], wake=self._usable_again)
            self._retries += 1

    async def _heartbeat_step(self) -> None:
        self._beat_now.clear()
        await self._beat()
        await self._rounds.pause(HEARTBEAT_S, wake=self._beat_now)

    @asynccontextmanager
    async def _ended(self) -> AsyncIterator[None]:
        """The registration and the target ended whatever happens."""
        try:
            yield
        finally:
            await self.registration.leave()
            if self._target_started:
                await self._target.stop()

    async def _start_target(self) -> None:
        await self._target.start()
        self._target_started = True
        self.registration.target_version = await self._target.version()

    def _usability_changed(self) -> None:
        """Have the row say it soon; look at everything once the server is back, for it may serve something else."""
        self._beat_now.set()
        if not self.actor.usability.trouble:
            self._usable_again.set()
            self._look_around()

    def _to_be_told(self) -> None:
        """Read every row soon, since nothing was hinted at before; the queue that was made is asked at once."""
        self._told_from_now.set()
        self._reconcile_now.set()

    def _look_around(self) -> None:
        """Look at the whole server soon, since something was found on it."""
        self.actor.proofs.hurry()
        self._reconcile_now.set()

    async def _register(self) -> None:
        self._take_up(changed=await self.registration.register())
        log.info("instance %s: registered, queue %s", self.settings.instance, self.settings.queue)

    async def _beat(self) -> None:
        self._take_up(changed=await self.registration.beat())

    def _take_up(self, *, changed: bool) -> None:
        """Go on under the id that the registration has; where it is new, everything is looked at and told once more."""
        self.inbox.settings = self.settings
        has_become(self.settings.instance)
        if changed:
            self._start_over = True
            self._reconcile_now.set()

    def _progress(self) -> Progress:
        memory, trouble = self.actor.memory, self.actor.usability.trouble
        return Progress(bindings=memory.proved, failing=memory.failing, ready=self.ready, trouble=trouble)
