"""A certificate replaced behind an agent's back on a real listener: it is seen, put right, and the table says so."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta

import pytest

from instance_agent.acting import Actor
from instance_agent.agent import Agent
from instance_agent.installing.probe import served_fingerprint
from instance_agent.targets.base import BindingTarget
from local_azure.processes.listening import free_port
from shared.messages import InstallOutcome
from shared.state.records import InstallationRecord
from tests.fakes.edges import FakeBundles, FakeQueues, FakeStorage
from tests.fakes.storage import START, FakeClock
from tests.rigs.agents import settings
from tests.rigs.certificates import authority
from tests.rigs.embedded import EmbeddedRig, target_on
from tests.rigs.haproxy import serving
from tests.rigs.programs import needs
from tests.rigs.scenes import Scene
from tests.rigs.targets import HandmadeRig, expect, seen

HOST = "a.example.com"
PATIENCE_S = 30


class PassingClock(FakeClock):
    """Begins where the certificates of scenes do, and goes on by itself."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()

    def __call__(self) -> datetime:
        return START + timedelta(seconds=time.monotonic() - self._begun)


def watchful(storage: FakeStorage, target: BindingTarget) -> Agent:
    """An agent that looks at its bindings each second."""
    return Agent(
        settings=settings(proof_cycle_s=1),
        state=storage.state(),
        queues=FakeQueues(storage),
        target=target,
        actor=Actor(target=target, bundles=FakeBundles(storage), probe=served_fingerprint, now=storage.clock),
        now=storage.clock,
    )


async def entered(scene: Scene, reason: str) -> InstallationRecord:
    """What the table has of the host, once it has it for such a reason."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await scene.fold()
            for entry in await scene.outside.state.reports_on(HOST, 443):
                if re.fullmatch(reason, entry.reason):
                    return entry
            await asyncio.sleep(0.05)


@asynccontextmanager
async def embedded() -> AsyncIterator[HandmadeRig]:
    yield EmbeddedRig(target_on(free_port()))


@pytest.mark.parametrize("beside", [embedded, pytest.param(serving, marks=needs("haproxy"), id="haproxy")])
async def test_is_found_put_right_and_told(beside: Callable[[], AbstractAsyncContextManager[HandmadeRig]]) -> None:
    scene = Scene(FakeStorage(PassingClock()))
    async with beside() as rig:
        one = watchful(scene.storage, rig.target)
        running = asyncio.ensure_future(one.run())
        try:
            record = await scene.accepted("a.pfx", HOST)
            await expect(rig, 443, {HOST: record.fingerprint_sha256})
            await entered(scene, "")
            theirs = authority().issue(HOST).bundle()
            await rig.tamper(HOST, 443, theirs)
            assert await seen(rig, 443, HOST) == theirs.fingerprint_sha256
            await expect(rig, 443, {HOST: record.fingerprint_sha256})
            entry = await entered(scene, r"changed behind certcast's back at [0-9TZ:-]+; put right")
            assert entry.outcome is InstallOutcome.LIVE
        finally:
            one.stop()
            await running
