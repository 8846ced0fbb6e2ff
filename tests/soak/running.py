"""A whole soak: the cloud started, acted on under load, left to settle, judged, stopped, and looked after."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from shared.errors import CertcastError
from shared.state.records import UploadStatus
from shared.upload import DEFAULT_PORT
from tests.soak.conductor import Conductor
from tests.soak.judging import settled
from tests.soak.load import Session, session
from tests.soak.machine import MARK, Memory, ports_taken, processes_left
from tests.soak.plan import Plan
from tests.soak.report import Report
from tests.soak.stage import TARGETS, Options, Stage, staged

_LOOK_EVERY_S = 1.0
_START_S = 180
_MOST_GROWN_MB = 60.0


class Soak:
    """One soak.

    Args:
        options: What it is to be.
        plan: What is done.

    Attributes:
        report: What came of it.
    """

    def __init__(self, options: Options, plan: Plan) -> None:
        self._options = options
        self._plan = plan
        self._memory = Memory()
        self._sessions: list[Session] = []
        self._live: dict[str, float] = {}
        self.report = Report(minutes=options.seconds / 60, seed=options.seed)

    async def run(self) -> Report:
        """Do all of it.

        Raises:
            ConfigurationError: Something that it needs is not installed.
        """
        mark = os.environ[MARK] = secrets.token_hex(8)
        try:
            async with staged(self._options) as stage:
                folder, ports = stage.platform.state, _ports(stage)
                try:
                    await self._unless_lost(stage, self._played(stage))
                finally:
                    self._take_stock(stage)
        finally:
            del os.environ[MARK]
        self.report.wrong += [f"still there: {told}" for told in processes_left(mark, folder)]
        self.report.wrong += [f"port {port} is still taken" for port in ports_taken(ports)]
        return self.report

    async def _played(self, stage: Stage) -> None:
        conductor = Conductor(stage, self._plan)
        self.report.done, self.report.took_s = conductor.done, conductor.took_s
        try:
            await conductor.begin()
            async with _beside(self._watch(stage), *(self._ask(stage, number) for number in range(len(TARGETS)))):
                await conductor.act()
                await conductor.finish()
        finally:
            await conductor.abandon()
        wrong, self.report.settled_s = await settled(stage)
        self.report.wrong += wrong

    async def _unless_lost(self, stage: Stage, work: Coroutine[Any, Any, None]) -> None:
        """Go on for as long as all parts of the cloud run, and within a bound."""
        options = self._options
        working, losing = asyncio.create_task(work), asyncio.create_task(stage.platform.failure())
        bound_s = _START_S + options.seconds + 2 * options.settle_s
        try:
            await asyncio.wait({working, losing}, timeout=bound_s, return_when=asyncio.FIRST_COMPLETED)
            if losing.done():
                self.report.wrong.append(f"a part of the cloud ended by itself: {losing.result()}")
            elif not working.done():
                self.report.wrong.append(f"it was not over after {bound_s:.0f} s")
            else:
                working.result()
        except (CertcastError, TimeoutError) as error:
            self.report.wrong.append(f"the soak was cut short: {error!r}")
        finally:
            for task in (working, losing):
                task.cancel()
            await asyncio.gather(working, losing, return_exceptions=True)

    def _take_stock(self, stage: Stage) -> None:
        report = self.report
        report.live_s = [*self._live.values()]
        report.drifts = stage.drifts.all
        report.calm = [each for each in self._sessions if not self._is_disturbed(stage, each)]
        report.disturbed = [each for each in self._sessions if self._is_disturbed(stage, each)]
        report.refused = stage.platform.faults.applied
        report.exceptions, report.errors = stage.logs.exceptions, stage.logs.errors
        report.memory = self._memory.grown()
        report.lines = list(stage.logs.latest)
        report.wrong += stage.wrong
        report.wrong += filter(None, (each.wrong() for each in stage.drifts.all))
        report.wrong += [
            f"{each.instance} failed requests of the load though it was left alone: {dict(each.errors)}"
            for each in report.calm
            if each.errors
        ]
        report.wrong += [f"{name} printed {count} stack traces" for name, count in report.exceptions.items()]
        report.wrong += [
            f"{name} grew from {first:.0f} to {last:.0f} MB"
            for name, (first, last) in report.memory.items()
            if last - first > _MOST_GROWN_MB
        ]

    def _is_disturbed(self, stage: Stage, session: Session) -> bool:
        if self._options.blocks and session.instance == stage.instances[0].name:
            return True
        return stage.is_disturbed(session.instance, began=session.began, ended=session.ended)

    async def _ask(self, stage: Stage, number: int) -> None:
        """The load of one server, for as long as it runs."""
        instance = stage.instances[number]
        while True:
            if instance.server is not None and instance.server.running:
                port = instance.address(DEFAULT_PORT)[1]
                self._sessions.append(await session(stage.platform.state, instance.name, port))
            await asyncio.sleep(_LOOK_EVERY_S / 2)

    async def _watch(self, stage: Stage) -> None:
        """Note when uploads are live, and what memory programs take."""
        while True:
            now = stage.now()
            for part in (*stage.platform.agents, stage.platform.functions):
                self._memory.look(part.name, part.pid, now)
            try:
                async for known in stage.account.state.uploads.all():
                    record = known.value
                    if record.status is UploadStatus.LIVE and record.seconds_to_live is not None:
                        self._live.setdefault(record.fingerprint_sha256, record.seconds_to_live)
            except CertcastError as error:
                stage.wrong.append(f"the table of uploads could not be read: {error}")
            await asyncio.sleep(_LOOK_EVERY_S)


@asynccontextmanager
async def _beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have some things done until the end of this context; one that fails ends it."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ports(stage: Stage) -> list[int]:
    endpoints = stage.platform.endpoints
    own = [endpoints.blob_port, endpoints.queue_port, endpoints.table_port]
    return [*own, *(instance.address(DEFAULT_PORT)[1] for instance in stage.instances)]
