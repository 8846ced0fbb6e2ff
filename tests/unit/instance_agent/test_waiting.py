"""What an agent does while its queue is being deleted, or while it is refused: it serves, says why, and waits."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from instance_agent.agent import Agent
from instance_agent.registration import Progress, Registration
from instance_agent.rounds import REFUSALS
from shared.errors import ConflictError, RefusedForNowError
from shared.messages import RESULTS_QUEUE
from shared.state.records import INSTANCES_TABLE, REAP_AFTER, InstanceRecord, UploadStatus, is_awaited
from shared.state.rows import Versioned
from tests.fakes.edges import FakeQueues, FakeStorage
from tests.fakes.processes import Failing, Mortal
from tests.fakes.target import FakeServer, FakeTarget
from tests.rigs.agents import agent, served, settings
from tests.rigs.scenes import Scene
from tests.rigs.some import some
from tests.rigs.virtual_tests import on_virtual_time

HOST = "a.example.com"
QUEUES = (settings("i0").queue, settings("i0").poison_queue)
REFUSED = RefusedForNowError("refused; a role assignment takes up to half an hour")


def scene_where_deletion_takes_time(storage: FakeStorage) -> Scene:
    storage.queue_deletion_s = 40
    return Scene(storage)


in_azure = on_virtual_time(lambda loop: scene_where_deletion_takes_time(FakeStorage(loop.clock)))


async def run_for(each: Agent, seconds: float) -> asyncio.Task[None]:
    task = asyncio.ensure_future(each.run())
    await asyncio.sleep(seconds)
    assert not task.done(), task.exception()
    return task


async def stop(each: Agent, task: asyncio.Task[None]) -> None:
    each.stop()
    await task


async def hinted_at(scene: Scene, server: FakeServer) -> bool:
    """Whether an upload of this moment reaches the agent by a hint."""
    record = await scene.accepted("new.pfx", "new.example.com")
    await asyncio.sleep(1.5)
    return record.expected == ("i0",) and served(server).get("new.example.com") == record.bundle_id


@in_azure
class TestAQueueThatIsBeingDeleted:
    @pytest.mark.parametrize("queue", QUEUES)
    async def test_is_waited_for_before_the_row_is_written_and_what_is_desired_is_served(
        self, scene: Scene, queue: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        await scene.accepted("a.pfx", HOST)
        await scene.outside.queues.create(queue)
        await scene.outside.queues.delete(queue)
        server = FakeServer()
        one = agent(scene.storage, server=server)
        task = await run_for(one, 35)
        assert await scene.outside.state.instances.get("i0") is None
        assert one.ready
        assert set(served(server)) == {HOST}
        assert one.registration.trouble.startswith(f"this instance is not registered: creating queue {queue}: ")
        assert f"instance i0: creating queue {queue}: one of that name was deleted a moment ago; trying again" in (
            caplog.text
        )
        between = await scene.accepted("b.pfx", "b.example.com")
        assert between.expected == ()
        await asyncio.sleep(40)
        assert one.registration.trouble == ""
        assert served(server)["b.example.com"] == between.bundle_id, "it reads every row once it is registered"
        assert await hinted_at(scene, server)
        await stop(one, task)

    async def test_of_a_running_agent_is_made_again_and_meanwhile_it_serves_by_the_rows(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = FakeServer()
        one = agent(scene.storage, server=server)
        task = await run_for(one, 5)
        for queue in QUEUES:
            await scene.outside.queues.delete(queue)
        record = await scene.accepted("a.pfx", HOST)
        await asyncio.sleep(30)
        assert served(server) == {HOST: record.bundle_id}
        assert "its queue is gone, registering again" in caplog.text
        assert one.registration.trouble.startswith(
            f"this instance cannot be told of changes: creating queue {QUEUES[0]}: "
        )
        await asyncio.sleep(45)
        assert one.registration.trouble == ""
        assert await hinted_at(scene, server)
        await stop(one, task)

    async def test_is_said_no_longer_once_it_is_there_whatever_was_refused_besides(self, scene: Scene) -> None:
        step = Failing({})
        one = agent(scene.storage, step=step)
        task = await run_for(one, 5)
        for number, lacks in enumerate([QUEUES, QUEUES[1:]] * 10):
            for queue in lacks:
                await scene.outside.queues.delete(queue)
            if number % 2 == 0:
                await scene.outside.state.instances.remove("i0", some(await scene.outside.state.instances.find("i0")))
            step.errors["instances insert"] = [REFUSED]
            step.errors["queue create"] = [REFUSED] * (number % 3)
            if lacks != QUEUES:
                scene.storage.put(QUEUES[0], "not json")
            await asyncio.sleep(300.7)
            assert one.registration.trouble == "", number
            assert set(QUEUES) <= set(scene.storage.queues)
        await stop(one, task)

    async def test_that_may_not_be_made_again_keeps_the_agent_from_no_heartbeat(self, scene: Scene) -> None:
        step = Failing({})
        one = agent(scene.storage, step=step)
        task = await run_for(one, 5)
        step.errors["queue create"] = [REFUSED] * 1000
        await scene.outside.queues.delete(QUEUES[0])
        for _ in range(60):
            await asyncio.sleep(30)
            assert is_awaited(some(await scene.outside.state.instances.find("i0")), scene.storage.clock())
        assert one.registration.trouble.startswith("this instance cannot be told of changes: refused")
        await stop(one, task)

    @pytest.mark.parametrize("first_refused", [False, True])
    async def test_is_made_and_the_row_written_before_the_rows_are_read_again(
        self, scene: Scene, *, first_refused: bool
    ) -> None:
        """What is uploaded before the row is there is hinted at to no one here."""
        written: list[bool] = []
        step = Failing({"instances insert": [REFUSED]} if first_refused else {})
        registration = Registration(
            settings("i0"),
            server="s",
            state=scene.storage.state(step),
            queues=FakeQueues(scene.storage),
            now=scene.storage.clock,
            progress=lambda: Progress(bindings=0, failing=0, ready=False),
            on_queue=lambda: written.append(bool(scene.storage.tables.get(INSTANCES_TABLE))),
        )
        with suppress(RefusedForNowError):
            await registration.register()
        await registration.beat()
        assert written == [True]

    @pytest.mark.parametrize("restarted", [True, False])
    async def test_by_a_sweep_while_the_agent_comes_back_leaves_it_registered_whatever_the_order(
        self, scene: Scene, *, restarted: bool
    ) -> None:
        """The sweep's two deletions, each before any of the agent's steps."""
        last = 12
        for first in range(1, last):
            for second in range(first, last):
                server = FakeServer()
                steps = ReapedMeanwhile(scene, first, second)
                one = agent(scene.storage, server=server, step=steps)
                await one._register()
                if restarted:
                    one = agent(scene.storage, server=server, step=steps)
                await asyncio.sleep(REAP_AFTER.total_seconds())
                steps.begin()
                task = await run_for(one, 150)
                assert steps.number > second, "both have happened"
                assert set(QUEUES) <= set(scene.storage.queues), (first, second)
                assert await scene.outside.state.instances.get("i0") is not None, (first, second)
                assert await hinted_at(scene, server), (first, second)
                await stop(one, task)
                await scene.delete("new.pfx")
                await asyncio.sleep(REAP_AFTER.total_seconds())


class ReapedMeanwhile(Mortal):
    """An agent's steps, between which a sweep that took it for scaled in deletes its queues, and then its row."""

    def __init__(self, scene: Scene, first: int, second: int) -> None:
        super().__init__()
        self.number = -1
        self._scene = scene
        self._at = (first, second)
        self._known: Versioned[InstanceRecord] | None = None

    def begin(self) -> None:
        self.number = 0

    async def __call__(self, what: str) -> None:
        await super().__call__(what)
        if self.number < 0:
            return
        self.number += 1
        rows, queues = self._scene.outside.state.instances, self._scene.outside.queues
        if self.number == self._at[0]:
            known = await rows.find("i0")
            silent = known is not None and self._scene.storage.clock() - known.written_at >= REAP_AFTER
            self._known = known if silent else None
            for queue in QUEUES if silent else ():
                await queues.delete(queue)
        if self.number == self._at[1] and self._known is not None:
            with suppress(ConflictError):
                await rows.remove("i0", self._known)


@in_azure
class TestARefusal:
    async def test_at_the_start_is_waited_out_in_growing_waits(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        step = Failing({"instances get": [REFUSED] * 7})
        server = FakeServer()
        one = agent(scene.storage, server=server, step=step)
        began = asyncio.get_running_loop().time()
        task = await run_for(one, 1)
        while await scene.outside.state.instances.get("i0") is None:
            assert one.registration.trouble == f"this instance is not registered: {REFUSED}"
            await asyncio.sleep(1)
        assert sum(REFUSALS.seconds[:-1]) - 5 <= asyncio.get_running_loop().time() - began <= sum(REFUSALS.seconds)
        assert caplog.text.count(str(REFUSED)) == 7
        assert await hinted_at(scene, server)
        await stop(one, task)

    async def test_that_has_passed_has_the_queue_asked_at_once(self, scene: Scene) -> None:
        one = agent(scene.storage)
        loop = asyncio.get_running_loop()
        draining = asyncio.ensure_future(one._drain_step())
        await asyncio.sleep(0.5)
        assert not draining.done(), "there is no queue yet"
        await one._register()
        registered = loop.time()
        await draining
        assert loop.time() - registered < 0.1

    @pytest.mark.parametrize("step", ["queue receive", "bindings query", "instances replace", "installations query"])
    async def test_of_anything_passes(self, scene: Scene, step: str) -> None:
        await scene.accepted("a.pfx", HOST)
        server = FakeServer()
        one = agent(scene.storage, server=server, step=Failing({step: [REFUSED] * 4}))
        task = await run_for(one, 300)
        assert set(served(server)) == {HOST}
        assert one.ready
        assert await hinted_at(scene, server)
        await stop(one, task)

    async def test_of_a_bundle_is_told_and_tried_again(self, scene: Scene) -> None:
        step = Failing({"bundle open": [REFUSED] * 5})
        one = agent(scene.storage, step=step)
        task = await run_for(one, 1)
        await scene.accepted("a.pfx", HOST)
        await asyncio.sleep(2)
        await scene.fold()
        assert str(REFUSED) in (await scene.record("a.pfx")).reason
        await asyncio.sleep(5 + 15 + 30 + 60 + 120 + 10)
        await scene.fold()
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE
        await stop(one, task)

    async def test_of_every_bundle_keeps_a_new_instance_from_being_ready_and_one_that_serves_from_nothing(
        self, scene: Scene
    ) -> None:
        await scene.accepted("a.pfx", HOST)
        server = FakeServer()
        one = agent(scene.storage, server=server, step=Failing({"bundle open": [REFUSED] * 3}))
        task = await run_for(one, 30)
        assert not one.ready, "a load balancer would send it what it cannot serve"
        await asyncio.sleep(60)
        assert one.ready
        await stop(one, task)
        again = agent(scene.storage, server=server, step=Failing({"bundle open": [REFUSED] * 100}))
        task = await run_for(again, 5)
        assert again.ready, "its server serves all the while"
        await stop(again, task)

    async def test_of_rows_puts_no_hint_aside_and_what_they_were_about_is_served_when_it_has_passed(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        step = Failing({})
        server = FakeServer()
        one = agent(scene.storage, server=server, step=step)
        task = await run_for(one, 5)
        step.errors["bindings query"] = [REFUSED] * 20
        record = await scene.accepted("new.pfx", "new.example.com")
        await asyncio.sleep(1800)
        assert served(server) == {"new.example.com": record.bundle_id}
        assert one.inbox.poisoned == 0
        assert "is put on" not in caplog.text
        assert scene.storage.queues[QUEUES[0]] == {}
        await stop(one, task)

    async def test_of_reports_is_logged_without_all_that_is_to_be_reported_each_time(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        await scene.accepted("a.pfx", HOST)
        one = agent(scene.storage, step=Failing({"queue send": [REFUSED] * 5}))
        task = await run_for(one, 300)
        assert not one.actor.memory.owes
        assert caplog.text.count("1 report(s) are not made yet") == 5
        assert caplog.text.count(f"{HOST}:443 generation {(await scene.row(HOST)).generation} live") == 1
        await stop(one, task)

    async def test_of_reports_keeps_nothing_from_being_served_and_installs_nothing_twice(self, scene: Scene) -> None:
        for number in range(3):
            await scene.accepted(f"{number}.pfx", f"h{number}.example.com")
        target = FakeTarget()
        one = agent(scene.storage, target=target, step=Failing({"queue send": [REFUSED] * 5}))
        task = await run_for(one, 20)
        assert len(target.server.bound) == 3
        assert one.ready
        assert scene.storage.queues[RESULTS_QUEUE] == {}
        await asyncio.sleep(300)
        assert len(target.applies) == 1
        await scene.fold()
        assert {(await scene.record(f"{number}.pfx")).status for number in range(3)} == {UploadStatus.LIVE}
        await stop(one, task)


@in_azure
class TestAMessageToPutAside:
    async def test_waits_while_there_is_no_queue_for_it_and_holds_up_no_other(self, scene: Scene) -> None:
        server = FakeServer()
        one = agent(scene.storage, server=server)
        task = await run_for(one, 5)
        await scene.outside.queues.delete(QUEUES[1])
        scene.storage.put(QUEUES[0], "not json")
        assert await hinted_at(scene, server)
        await asyncio.sleep(120)
        assert one.inbox.poisoned == 1
        assert [message.body for message in scene.storage.queues[QUEUES[1]].values()] == ["not json"]
        await stop(one, task)


@in_azure
async def test_once_serves_what_is_desired_though_it_may_not_register(scene: Scene) -> None:
    record = await scene.accepted("a.pfx", HOST)
    server = FakeServer()
    one = agent(scene.storage, "i0", server=server, step=Failing({"queue create": [REFUSED]}))
    with pytest.raises(RefusedForNowError):
        await one.once()
    assert served(server) == {HOST: record.bundle_id}
