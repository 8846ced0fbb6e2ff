"""A certificate replaced behind an agent's back on a real listener: it is seen, put right, and the table says so."""

import asyncio
import re
import time
from datetime import datetime, timedelta

from instance_agent.acting import Actor
from instance_agent.agent import Agent
from instance_agent.installing.probe import ProbeError, served_fingerprint
from instance_agent.targets.base import BindingTarget
from local_azure.processes.listening import free_port
from shared.messages import InstallOutcome
from shared.state.records import InstallationRecord
from tests.fakes.edges import FakeBundles, FakeQueues, FakeStorage
from tests.fakes.storage import START, FakeClock
from tests.rigs.agents import settings
from tests.rigs.certificates import authority
from tests.rigs.embedded import EmbeddedRig, target_on
from tests.rigs.scenes import Scene
from tests.rigs.some import some

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


async def served(target: BindingTarget, fingerprint: str) -> None:
    """Wait until this certificate is served for the host."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await seen(target) == fingerprint:
                return
            await asyncio.sleep(0.05)


async def seen(target: BindingTarget) -> str:
    try:
        return await served_fingerprint(some(target.endpoint(443)), HOST, timeout_s=5)
    except ProbeError:
        return ""


async def entered(scene: Scene, reason: str) -> InstallationRecord:
    """What the table has of the host, once it has it for such a reason."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await scene.fold()
            for entry in await scene.outside.state.reports_on(HOST, 443):
                if re.fullmatch(reason, entry.reason):
                    return entry
            await asyncio.sleep(0.05)


async def test_is_found_put_right_and_told() -> None:
    scene = Scene(FakeStorage(PassingClock()))
    target = target_on(free_port())
    one = watchful(scene.storage, target)
    running = asyncio.ensure_future(one.run())
    try:
        record = await scene.accepted("a.pfx", HOST)
        await served(target, record.fingerprint_sha256)
        await entered(scene, "")
        theirs = authority().issue(HOST).bundle()
        await EmbeddedRig(target).tamper(HOST, 443, theirs)
        assert await seen(target) == theirs.fingerprint_sha256
        await served(target, record.fingerprint_sha256)
        entry = await entered(scene, r"changed behind certcast's back at [0-9TZ:-]+; put right")
        assert entry.outcome is InstallOutcome.LIVE
    finally:
        one.stop()
        await running
