"""Looks, one at a time and evenly spread, whether what was proved once is served still."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from instance_agent.desired import desired_of
from instance_agent.installing.sighting import Expectation
from instance_agent.proof.proofs import MOST_LOOKS_PER_S, too_many
from shared.errors import CertcastError
from shared.messages import InstallOutcome
from shared.phrasing import day, logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from instance_agent.acting import Actor
    from instance_agent.config import AgentSettings
    from instance_agent.installing.sighting import Sighting
    from instance_agent.memory import Attempt
    from instance_agent.rounds import Rounds
    from instance_agent.targets.base import Key
    from instance_agent.work import Work
    from shared.binding import DesiredBinding
    from shared.state.tables import State

log = logger(__name__)

UNSEEN_S = 60
"""A binding that is not seen for less long is being reloaded, or its server restarted: that is no failure."""

ALONE = timedelta(seconds=60)
"""How often one binding is put right by itself: each may be a reload. Others wait for the reconcile that follows."""

_IDLE_S = 1
"""Longest wait before it is asked again when the next look is due: bindings come and go."""


class Watch:
    """The looks of one agent.

    Args:
        settings: The agent's.
        actor: Acts on what is found.
        work: Whose turn it takes for that.
        state: The tables.
        rounds: The waits.
        on_finding: Called when the agent should reconcile soon.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        actor: Actor,
        work: Work,
        state: State,
        rounds: Rounds,
        on_finding: Callable[[], None],
    ) -> None:
        self._role = settings.role
        self._cycle_s = settings.proof_cycle_s
        self._actor = actor
        self._work = work
        self._state = state
        self._rounds = rounds
        self._on_finding = on_finding
        self._said_too_many = False
        self._repaired_at: datetime | None = None

    async def step(self) -> None:
        """Make the next look when it is due."""
        proofs = self._actor.proofs
        self._say_if_too_many(proofs.watched)
        wait_s = proofs.wait_s(self._cycle_s)
        if wait_s is None or wait_s > _IDLE_S:
            await self._rounds.pause(_IDLE_S)
            return
        if wait_s > 0:
            await self._rounds.pause(wait_s)
        key = None if self._rounds.stopping else self._actor.proofs.take()
        if key is None:
            return
        try:
            await self._look_at(key)
        except CertcastError:
            self._actor.proofs.unfinished(key)
            raise

    async def _look_at(self, key: Key) -> None:
        last = self._actor.memory.of(key)
        if last is None:
            return
        sighting = await self._look(last)
        if self._actor.memory.of(key) is not last:
            return  # acted on meanwhile, which proved it or not
        if sighting.met:
            self._actor.proofs.seen(key)
        elif sighting.fingerprint_sha256:
            # Something may be acting on it at this moment, and the server in the middle of it.
            await self._rounds.pause(1 / MOST_LOOKS_PER_S)
            if not self._rounds.stopping:
                await self._look_again(key)
        elif self._actor.proofs.doubted(key) >= UNSEEN_S:
            await self._tell_unseen(last, sighting)

    async def _look(self, last: Attempt) -> Sighting:
        host, port = last.key
        expected = Expectation(host=host, port=port, fingerprint_sha256=last.report.fingerprint_sha256)
        (sighting,) = await self._actor.looker.look([expected], patience_s=0)
        return sighting

    async def _look_again(self, key: Key) -> None:
        """Look once more, after row and server were read again; put right what something else changed."""
        actor, memory = self._actor, self._actor.memory
        async with self._work.turn:
            self._work.asked_since.add(key)
            desired = await desired_of(self._state, self._role, {key}, of=memory.known)
            due = await actor.due(desired, whole=False)
            row = desired.rows.get(key)
            last = None if row is None else memory.last(row)
            if not due and row is not None and last is not None and last.report.outcome is InstallOutcome.LIVE:
                await self._look_once_more(row, last)
            elif due:
                await self._work.do(due)
                self._on_finding()

    async def _look_once_more(self, row: DesiredBinding, last: Attempt) -> None:
        actor = self._actor
        actor.proofs.looks_again()
        sighting = await self._look(last)
        if sighting.met:
            actor.proofs.seen(last.key)
            return
        if not sighting.fingerprint_sha256:
            actor.proofs.doubted(last.key)
            return
        put_off = actor.found_otherwise(row)
        now = actor.now()
        if self._repaired_at is None or now - self._repaired_at >= ALONE:
            self._repaired_at = now
            await self._work.do([row])
        else:
            await self._work.tell([put_off])
        self._on_finding()

    async def _tell_unseen(self, last: Attempt, sighting: Sighting) -> None:
        """Report a binding that stays unseen as failed; it is then tried again as any other is that fails."""
        report = last.report
        reason = f"not seen served for more than {UNSEEN_S} s until {day(self._actor.now())}: {sighting.problem}"
        told = replace(
            report, outcome=InstallOutcome.FAILED, reason=reason, fingerprint_sha256="", finished_at=self._actor.now()
        )
        async with self._work.turn:
            if self._actor.memory.of(last.key) is last:
                await self._work.tell([replace(last, report=told, again=True)])
        self._on_finding()

    def _say_if_too_many(self, bindings: int) -> None:
        many = too_many(bindings, self._cycle_s)
        if many and not self._said_too_many:
            log.warning(
                "%d bindings cannot all be looked at within CERTCAST_PROOF_CYCLE, %d s, at %d handshakes a second: a "
                "cycle takes %d s",
                *(bindings, self._cycle_s, MOST_LOOKS_PER_S, bindings / MOST_LOOKS_PER_S),
            )
        self._said_too_many = many
