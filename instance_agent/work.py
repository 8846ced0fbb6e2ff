"""Acting on desired rows in turns, and telling what came of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING

from shared.binding import phrased
from shared.errors import CertcastError
from shared.messages import RESULTS_QUEUE, InstallReport, encode, split_report
from shared.phrasing import logger
from shared.state.keys import encode_key
from shared.telemetry import names
from shared.telemetry.names import Kind, Stage
from shared.telemetry.spans import about, note, span

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from instance_agent.acting import Actor
    from instance_agent.fetching import Fetched
    from instance_agent.memory import Attempt
    from instance_agent.rounds import Rounds
    from instance_agent.targets.base import Key
    from shared.binding import DesiredBinding
    from shared.ports import Queues
    from shared.state.tables import State

log = logger(__name__)


class Work:
    """What one agent does to its server, one batch at a time.

    Args:
        actor: Turns desired rows into changes and results.
        state: The tables.
        queues: The queues.
        rounds: Tells when to stop.
        instance: Tells the agent's id.

    Attributes:
        turn: Held while rows are read and acted on, so that none is undone by what was read before it.
        asked_since: Hosts and ports that hints, or looks, asked about since all rows were read.
        batches: Batches applied so far.
        outcomes: Results so far, by outcome.
    """

    def __init__(
        self, actor: Actor, *, state: State, queues: Queues, rounds: Rounds, instance: Callable[[], str]
    ) -> None:
        self.turn = asyncio.Lock()
        self.asked_since: set[Key] = set()
        self.batches = 0
        self.outcomes: Counter[str] = Counter()
        self._actor = actor
        self._state = state
        self._queues = queues
        self._rounds = rounds
        self._instance = instance

    async def do_all(self, due: Sequence[DesiredBinding]) -> bool:
        """Act on any number of rows, in turns between which hints get theirs; ends early where the agent is to stop.

        Returns:
            Whether trying some of them again soon may help.
        """
        again = False
        if self._actor.memory.owes:
            async with self.turn:
                again = await self.do(())
        async with aclosing(self._actor.slices(due)) as slices:
            async for rows, fetched in slices:
                if self._rounds.stopping:
                    break
                async with self.turn:
                    # What a hint or a look asked about meanwhile was read later than these rows, and acted on.
                    left = [row for row in rows if (row.host, row.port) not in self.asked_since]
                    again |= await self.do(left, fetched=fetched)
        return again

    async def do(
        self,
        due: Sequence[DesiredBinding],
        *,
        fetched: Mapping[str, Fetched] | None = None,
        asked: Iterable[Key] = (),
    ) -> bool:
        """Act on rows in one batch, within a turn, and tell what is new; what cannot be told is told later.

        Args:
            due: The rows.
            fetched: Their bundles, where they were fetched already.
            asked: Hosts and ports that a hint asks about, whether or not there is anything to do.

        Returns:
            Whether trying some of them again soon may help.
        """
        attempts: list[Attempt] = []
        if due:
            self.batches += 1
            attempts = await self._actor.act(due, fetched)
        return await self.tell(attempts, asked=asked)

    async def tell(self, attempts: Sequence[Attempt], *, asked: Iterable[Key] = ()) -> bool:
        """Tell what is new of what came of some rows, within a turn; as `do`."""
        memory = self._actor.memory
        self._actor.proofs.enter(attempts)
        news = memory.unreported(attempts, asked)
        _log_outcomes(self._instance(), memory.not_owed(news))
        memory.remember(attempts, news)
        self.outcomes.update(attempt.report.outcome.value for attempt in attempts)
        told = await self._report(news)
        return not told or any(attempt.again for attempt in attempts)

    async def put_right(self, rows: Iterable[DesiredBinding]) -> None:
        """Tell again what the table has otherwise, or not at all: a report was lost, or another spoke in our name."""
        memory, instance = self._actor.memory, self._instance()
        try:
            own = [known.value async for known in self._state.installations.all(row=encode_key(instance))]
        except CertcastError as error:
            log.warning("instance %s: what was reported could not be compared: %s", instance, error)
            return
        async with self.turn:
            if memory is not self._actor.memory:
                return
            again = memory.disputed(rows, {(entry.host, entry.port): entry for entry in own})
            if again:
                log.warning("instance %s: %d report(s) are made again: the table has others", instance, len(again))
            memory.remember((), again)
            await self._report(again)

    async def _report(self, attempts: Collection[Attempt]) -> bool:
        """Report, or owe it: what is installed stays so, and is not installed again to be told of."""
        if not attempts:
            return True
        with span(Stage.REPORT, kind=Kind.PRODUCER) as reporting:
            note({names.SYSTEM: names.QUEUE_STORAGE, names.QUEUE: RESULTS_QUEUE, names.BINDINGS: len(attempts)})
            return await self._send(attempts, reporting.traceparent)

    async def _send(self, attempts: Collection[Attempt], trace: str) -> bool:
        reports = tuple(attempt.report for attempt in attempts)
        whole = InstallReport(instance=self._instance(), reports=reports, traceparent=trace)
        try:
            for part in split_report(whole):
                await self._queues.send(RESULTS_QUEUE, encode(part))
        except CertcastError as error:
            log.warning("instance %s: %d report(s) are not made yet: %s", self._instance(), len(reports), error)
            return False
        self._actor.memory.told(attempts)
        return True


def _log_outcomes(instance: str, attempts: Iterable[Attempt]) -> None:
    """Say what came of each row; on Windows these lines are entries of the event log."""
    for report in (attempt.report for attempt in attempts):
        with about(upload=report.source, host=report.host, generation=report.generation):
            log.info(
                "instance %s: %s generation %d %s%s",
                *(instance, phrased(report.host, report.port), report.generation, report.outcome.value),
                f" ({report.reason})" if report.reason else "",
            )
