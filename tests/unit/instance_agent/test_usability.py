"""An agent whose web server cannot be used now: it waits, says so everywhere, and reports what it cannot install."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from instance_agent.agent import Agent
from instance_agent.rounds import TROUBLES
from instance_agent.targets.base import ServerUnavailableError
from instance_agent.usability import LASTING
from shared.errors import ConfigurationError
from shared.messages import InstallOutcome
from shared.state.records import InstanceRecord, UploadStatus
from tests.fakes.edges import FakeStorage
from tests.fakes.target import FakeServer, FakeTarget
from tests.rigs.agents import agent, served
from tests.rigs.scenes import Scene
from tests.rigs.some import some
from tests.rigs.virtual_tests import on_virtual_time

HOST = "a.example.com"
BROKEN = 'nginx.conf is broken: unknown directive "sevrer" in /etc/nginx/conf.d/other.conf:3; correct it'

in_a_scene = on_virtual_time(lambda loop: Scene(FakeStorage(loop.clock)))


@pytest.fixture(autouse=True)
def _patience_passes_with_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def passing() -> float:
        return asyncio.get_running_loop().time()

    clock = SimpleNamespace(monotonic=passing, perf_counter=passing)
    monkeypatch.setattr("instance_agent.installing.sighting.time", clock)


def broken(times: int = 1000, server: FakeServer | None = None) -> FakeTarget:
    """A target whose server cannot be used at so many starts."""
    target = FakeTarget(server)
    target.start_errors = [ServerUnavailableError(BROKEN) for _ in range(times)]
    return target


@asynccontextmanager
async def running(each: Agent) -> AsyncIterator[Agent]:
    task = asyncio.ensure_future(each.run())
    await asyncio.sleep(1)
    assert not task.done(), task.exception()
    yield each
    each.stop()
    await task


async def row_of(scene: Scene) -> InstanceRecord:
    return some(await scene.outside.state.instances.get("i0"))


@in_a_scene
class TestAtItsStart:
    async def test_is_waited_for_and_said_in_row_and_log_once(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        target = broken()
        async with running(agent(scene.storage, target=target)) as one:
            for _ in range(5):
                row = await row_of(scene)
                assert (row.trouble, row.ready, row.stopped) == (BROKEN, False, False)
                assert row.last_seen >= scene.storage.clock() - 2 * LASTING
                await asyncio.sleep(60)
            assert not one.ready
            assert caplog.text.count(f"the web server cannot be used now: {BROKEN}; trying again") == 1
            assert "Traceback" not in caplog.text
        assert target.asked == [], "what was not started is not asked"
        assert (await row_of(scene)).stopped

    async def test_is_tried_again_after_growing_waits_and_then_all_goes_its_usual_way(self, scene: Scene) -> None:
        target = broken(times=4)
        record = await scene.accepted("a.pfx", HOST)
        async with running(agent(scene.storage, target=target)) as one:
            await asyncio.sleep(sum(TROUBLES[number] for number in range(3)))
            assert len(target.start_errors) == 0
            assert not target.is_started
            await asyncio.sleep(TROUBLES[3])
            assert target.is_started
            await asyncio.sleep(1)
            assert one.ready
            assert served(target.server) == {HOST: record.bundle_id}
            row = await row_of(scene)
            assert (row.trouble, row.ready, row.target_version) == ("", True, "fake 1.0")
            later = await scene.accepted("b.pfx", "b.example.com")
            await asyncio.sleep(2)
            assert served(target.server)["b.example.com"] == later.bundle_id
        assert not target.is_started

    async def test_keeps_no_one_waiting_who_uploads(self, scene: Scene) -> None:
        target = broken(times=8)
        async with running(agent(scene.storage, target=target)):
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(90)
            await scene.fold()
            record = await scene.record("a.pfx")
            assert record.status is UploadStatus.FAILED
            assert f"the server cannot be used now, which is tried again: {BROKEN}" in record.reason
            await scene.accepted("b.pfx", "b.example.com")
            await asyncio.sleep(2)
            await scene.fold()
            assert (await scene.record("b.pfx")).status is UploadStatus.FAILED, "known for long, it is told at once"
            await asyncio.sleep(200)
            await scene.fold()
            for name in ("a.pfx", "b.pfx"):
                assert (await scene.record(name)).status is UploadStatus.LIVE

    async def test_for_a_moment_is_not_reported(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", HOST)
        async with running(agent(scene.storage, target=broken(times=3))):
            await asyncio.sleep(60)
            (report,) = await scene.reports()
            assert [each.outcome for each in report.reports] == [InstallOutcome.LIVE]

    async def test_what_is_served_all_the_same_is_not_reported_as_failed(self, scene: Scene) -> None:
        server = FakeServer()
        await scene.accepted("a.pfx", HOST)
        async with running(agent(scene.storage, server=server)):
            await asyncio.sleep(5)
        await scene.fold()
        async with running(agent(scene.storage, target=broken(times=8, server=server))) as one:
            await scene.accepted("b.pfx", "b.example.com")
            await asyncio.sleep(90)
            await scene.fold()
            assert (await scene.record("a.pfx")).status is UploadStatus.LIVE
            assert (await scene.record("b.pfx")).status is UploadStatus.FAILED
            assert one.actor.memory.proved == one.actor.memory.failing == 1
            await asyncio.sleep(200)
            await scene.fold()
            assert {(await scene.record(name)).status for name in ("a.pfx", "b.pfx")} == {UploadStatus.LIVE}
            entries = [known.value async for known in scene.outside.state.installations.all()]
            assert [entry.reason for entry in entries] == ["", ""]

    async def test_where_there_is_nothing_to_see_what_is_desired_is_reported_as_failed(self, scene: Scene) -> None:
        target = broken()
        target.has_listener = False
        await scene.accepted("a.pfx", HOST)
        async with running(agent(scene.storage, target=target)):
            await asyncio.sleep(45)
            (report,) = await scene.reports()
            assert [each.outcome for each in report.reports] == [InstallOutcome.FAILED]

    async def test_another_sentence_is_logged_and_entered(self, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
        target = FakeTarget()
        target.start_errors = [ServerUnavailableError("nginx does not run: start it")] * 3
        target.start_errors += [ServerUnavailableError(BROKEN)] * 100
        async with running(agent(scene.storage, target=target)):
            assert (await row_of(scene)).trouble == "nginx does not run: start it"
            await asyncio.sleep(60)
            assert (await row_of(scene)).trouble == BROKEN
        assert caplog.text.count("the web server cannot be used now") == 2

    async def test_ends_at_once_when_it_is_told_to_stop(self, scene: Scene) -> None:
        async with running(agent(scene.storage, target=broken())):
            await asyncio.sleep(100)
            before = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() == before

    async def test_what_only_a_person_can_put_right_ends_it_also_later(self, scene: Scene) -> None:
        target = broken(times=2)
        target.start_errors.append(ConfigurationError("nginx lacks the include: add it"))
        with pytest.raises(ConfigurationError, match="nginx lacks the include"):
            await agent(scene.storage, target=target).run()
        row = await row_of(scene)
        assert (row.stopped, row.ready) == (True, False)

    async def test_a_defect_of_the_target_does_not_end_it(self, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
        target = broken(times=1)
        target.start_errors.append(ZeroDivisionError("a defect"))
        async with running(agent(scene.storage, target=target)) as one:
            await asyncio.sleep(5)
            assert "failed unexpectedly (ZeroDivisionError)" in (await row_of(scene)).trouble
            await asyncio.sleep(5)
            assert one.ready
        assert "Traceback" in caplog.text

    async def test_one_that_is_to_run_once_or_to_plan_says_so_and_registers_nothing(self, scene: Scene) -> None:
        for command in (Agent.once, Agent.plan):
            with pytest.raises(ServerUnavailableError, match=r"nginx\.conf is broken"):
                await command(agent(scene.storage, target=broken()))
        assert scene.storage.tables.get("instances", {}) == {}


@in_a_scene
class TestWhileItRuns:
    async def test_is_entered_reported_and_over_when_it_is_over(self, scene: Scene) -> None:
        server = FakeServer()
        async with running(agent(scene.storage, server=server)) as one:
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.fold()
            server.down = True
            record = await scene.accepted("b.pfx", "b.example.com")
            await asyncio.sleep(10)
            assert (await row_of(scene)).trouble == "the fake server is down: start it"
            assert one.ready, "whatever it serves, it was ready"
            await asyncio.sleep(60)
            await scene.fold()
            assert (await scene.record("b.pfx")).status is UploadStatus.FAILED
            assert "the fake server is down: start it" in (await scene.record("b.pfx")).reason
            server.down = False
            await asyncio.sleep(40)
            assert (await row_of(scene)).trouble == ""
            await scene.fold()
            assert served(server)["b.example.com"] == record.bundle_id
            assert (await scene.record("b.pfx")).status is UploadStatus.LIVE
            assert one.actor.drifts.found == 0

    async def test_one_that_runs_once_says_so(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", HOST)
        server = FakeServer(down=True)
        with pytest.raises(ServerUnavailableError, match="the fake server is down"):
            await agent(scene.storage, server=server).once()
