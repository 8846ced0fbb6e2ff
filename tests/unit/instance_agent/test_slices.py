"""An agent with more to install than one slice: in which order it works, and what may come in between."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from instance_agent.agent import Agent
from instance_agent.targets.base import Install
from shared.binding import ANY_ROLE, BindingState, DesiredBinding
from shared.bundle import bundle_id
from shared.messages import InstallOutcome
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Mortal
from tests.fakes.storage import START
from tests.fakes.target import FakeTarget
from tests.rigs.agents import actor, agent, desired, served
from tests.rigs.rows import claim
from tests.rigs.scenes import Scene, issued
from tests.rigs.virtual_tests import on_virtual_time

HOSTS = [f"h{number}.example.com" for number in range(10)]

in_a_scene = on_virtual_time(lambda loop: Scene(FakeStorage(loop.clock)))


@pytest.fixture(autouse=True)
def _four_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instance_agent.acting.SLICE", 4)


async def uploaded(scene: Scene) -> dict[str, str]:
    """Ten hosts to be served; which bundle each is to have."""
    return {host: (await scene.accepted(f"{host}.pfx", host)).bundle_id for host in HOSTS}


@asynccontextmanager
async def held_up(target: FakeTarget, one: Agent) -> AsyncIterator[asyncio.Task[None]]:
    """A running agent, in the middle of its first batch; afterwards it goes on, and is stopped once it is ready."""
    target.gate = asyncio.Event()
    task = asyncio.ensure_future(one.run())
    await target.in_apply.wait()
    yield task
    target.gate.set()
    await asyncio.sleep(30)
    one.stop()
    await task


def batches(target: FakeTarget) -> list[list[str]]:
    return [[change.host for change in batch] for batch in target.applies]


@in_a_scene
class TestAFreshInstance:
    async def test_installs_slice_by_slice_and_is_then_ready(self, scene: Scene) -> None:
        target, wanted = FakeTarget(), await uploaded(scene)
        one = agent(scene.storage, target=target)
        assert await one.once()
        assert batches(target) == [HOSTS[:4], HOSTS[4:8], HOSTS[8:]]
        assert served(target.server) == wanted
        assert one.ready

    async def test_makes_one_batch_where_each_is_a_reload(self, scene: Scene) -> None:
        target, wanted = FakeTarget(), await uploaded(scene)
        target.in_slices = False
        assert await agent(scene.storage, target=target).once()
        assert batches(target) == [HOSTS]
        assert served(target.server) == wanted

    async def test_fetches_the_next_slice_meanwhile_and_no_more(self, scene: Scene) -> None:
        target, steps = FakeTarget(), Mortal()
        await uploaded(scene)
        async with held_up(target, agent(scene.storage, target=target, step=steps)):
            await asyncio.sleep(10)
            assert steps.steps["bundle open"] == 8
        assert steps.steps["bundle open"] == 10

    async def test_is_not_ready_before_the_last_slice_and_goes_on_beating(self, scene: Scene) -> None:
        target, steps = FakeTarget(), Mortal()
        await uploaded(scene)
        one = agent(scene.storage, target=target, step=steps)
        async with held_up(target, one):
            before = steps.steps["instances replace"]
            await asyncio.sleep(100)
            assert steps.steps["instances replace"] - before >= 3
            assert not one.ready
        assert one.ready

    async def test_has_told_of_a_slice_before_it_acts_on_the_next(self, scene: Scene) -> None:
        class SecondHolds(FakeTarget):
            async def apply(self, changes: object) -> None:
                if self.applies:
                    self.gate = asyncio.Event()
                await super().apply(changes)  # type: ignore[arg-type]

        target = SecondHolds()
        await uploaded(scene)
        task = asyncio.ensure_future(agent(scene.storage, target=target).once())
        await asyncio.sleep(10)
        assert len(target.applies) == 2
        assert [each.host for report in await scene.reports() for each in report.reports] == HOSTS[:4]
        task.cancel()
        assert target.gate is not None
        target.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        again = FakeTarget(target.server)
        assert await agent(scene.storage, target=again).once()
        assert batches(again) == [HOSTS[8:]], "what was installed before is looked at, not installed again"

    async def test_told_to_stop_finishes_the_slice_in_hand_alone(self, scene: Scene) -> None:
        target, wanted = FakeTarget(), await uploaded(scene)
        one = agent(scene.storage, target=target)
        async with held_up(target, one):
            one.stop()
        assert served(target.server) == {host: wanted[host] for host in HOSTS[:4]}
        assert not one.ready

    async def test_with_one_bad_bundle_serves_all_the_others(self, scene: Scene) -> None:
        target, wanted = FakeTarget(), await uploaded(scene)
        del scene.storage.bundles[wanted[HOSTS[5]]]
        one = agent(scene.storage, target=target)
        assert not await one.once()
        assert served(target.server) == {host: wanted[host] for host in HOSTS if host != HOSTS[5]}
        told = {each.host: each.outcome for report in await scene.reports() for each in report.reports}
        assert told == dict.fromkeys(HOSTS, InstallOutcome.LIVE) | {HOSTS[5]: InstallOutcome.FAILED}


@in_a_scene
class TestAHintInBetween:
    async def test_has_its_turn_before_the_next_slice_and_is_not_undone_by_rows_read_before(self, scene: Scene) -> None:
        target, wanted = FakeTarget(), await uploaded(scene)
        async with held_up(target, agent(scene.storage, target=target)):
            renewed = await scene.accepted(f"{HOSTS[9]}.pfx", HOSTS[9], serial=1)
            await asyncio.sleep(10)
        assert batches(target) == [HOSTS[:4], [HOSTS[9]], HOSTS[4:8], [HOSTS[8]]]
        assert served(target.server) == wanted | {HOSTS[9]: renewed.bundle_id}

    async def test_that_takes_a_host_away_is_not_undone(self, scene: Scene) -> None:
        target, wanted = FakeTarget(), await uploaded(scene)
        async with held_up(target, agent(scene.storage, target=target)):
            await scene.looked_at(await scene.delete(f"{HOSTS[9]}.pfx"))
            await asyncio.sleep(10)
        assert served(target.server) == {host: wanted[host] for host in HOSTS[:9]}


async def test_what_is_remembered_of_a_binding_is_at_most_four_kilobytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instance_agent.acting.SLICE", 250)
    storage, target, count = FakeStorage(), FakeTarget(), 500
    bundle = issued("*.example.com").bundle()
    identity = bundle_id(bundle, b"")
    await storage.cloud().bundles.seal(identity, bundle.to_pem())
    one = actor(storage, target)

    async def remembered() -> int:
        rows = [
            DesiredBinding(
                role=ANY_ROLE,
                host=f"tenant-{number}.example.com",
                port=443,
                state=BindingState.PRESENT,
                generation=1,
                changed_at=START,
                claims=(claim(f"tenant-{number}.pfx"),),
                bundle_id=identity,
                fingerprint_sha256=bundle.fingerprint_sha256,
                source=f"tenant-{number}.pfx",
            )
            for number in range(count)
        ]
        async for slice_, fetched in one.slices(await one.due(desired(*rows), whole=True)):
            attempts = await one.act(slice_, fetched)
            one.memory.remember(attempts, news := one.memory.unreported(attempts))
            one.memory.told(news)
            target.applies.clear()
        return one.memory.proved

    tracemalloc.start()
    try:
        assert await remembered() == count
        target.server.bound.clear()
        target.server.probes.clear()
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / count < 4096
    assert not [each for each in gc.get_objects() if isinstance(each, Install) and each.host.startswith("tenant-")]
