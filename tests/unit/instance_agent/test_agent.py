"""The daemon from start to stop: what it does with messages, trouble, losses and its own end."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from instance_agent.agent import RECONCILE_S, Agent
from instance_agent.inbox import DRAIN, HIDE_S, MAX_DEQUEUE
from instance_agent.polling import SPREAD_S
from instance_agent.windows.event_log import WorthAnEntry
from shared.binding import ANY_ROLE, BindingKey
from shared.errors import AccessDeniedError, ConfigurationError, UnavailableError
from shared.function.sweep import RESEND_AFTER, sweep
from shared.messages import RESULTS_QUEUE, BindingsChanged, InstallOutcome, encode
from shared.state.records import InstanceRecord, UploadStatus
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing, Mortal, ProcessDiedError
from tests.fakes.target import FakeServer, FakeTarget
from tests.rigs.agents import agent, served, settings
from tests.rigs.scenes import PASSWORD, Scene
from tests.rigs.virtual_tests import on_virtual_time

HOST = "a.example.com"
QUEUE = settings("i0").queue


in_a_scene = on_virtual_time(lambda loop: Scene(FakeStorage(loop.clock)))


async def running(each: Agent) -> asyncio.Task[None]:
    """Start an agent and wait until it is ready."""
    task = asyncio.ensure_future(each.run())
    while not each.ready:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.5)
    return task


async def stopped(each: Agent, task: asyncio.Task[None]) -> None:
    each.stop()
    await task


@asynccontextmanager
async def serving(each: Agent) -> AsyncIterator[Agent]:
    """A running agent, stopped at the end."""
    task = await running(each)
    yield each
    await stopped(each, task)


async def row_of(storage: FakeStorage) -> InstanceRecord:
    row = await storage.state().instances.get("i0")
    assert row is not None
    return row


def hint(*hosts: str) -> str:
    return encode(BindingsChanged(bindings=tuple(BindingKey(role=ANY_ROLE, host=host, port=443) for host in hosts)))


@in_a_scene
class TestServing:
    async def test_an_upload_is_installed_within_a_poll_and_reported(self, scene: Scene) -> None:
        server = FakeServer()
        async with serving(agent(scene.storage, server=server)):
            record = await scene.accepted("a.pfx", HOST)
            assert record.expected == ("i0",)
            await asyncio.sleep(1.5)
            assert served(server) == {HOST: record.bundle_id}
            await scene.fold()
            record = await scene.record("a.pfx")
            assert (record.status, record.live) == (UploadStatus.LIVE, 1)

    async def test_a_renewal_and_a_removal_follow(self, scene: Scene) -> None:
        server = FakeServer()
        async with serving(agent(scene.storage, server=server)):
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(1.5)
            record = await scene.accepted("a.pfx", HOST, serial=1)
            await asyncio.sleep(1.5)
            assert served(server) == {HOST: record.bundle_id}
            await scene.looked_at(await scene.delete("a.pfx"))
            await asyncio.sleep(1.5)
            assert served(server) == {}
            await scene.fold()
            assert (await scene.record("a.pfx")).live == 0

    async def test_a_hint_costs_the_agent_four_requests(self, scene: Scene) -> None:
        """The row, the bundle, the report, the hint's deletion; many hints share report and query, of few rows."""
        steps = Mortal()
        one = agent(scene.storage, step=steps)
        await one.once()
        await scene.beat("i0")
        for hosts in ([HOST], [f"h{number}.example.com" for number in range(5)]):
            for host in hosts:
                await scene.accepted(f"{host}.pfx", host)
            before = Counter(steps.steps)
            await one.drain()
            assert steps.steps - before == {
                "queue receive": 1,
                "bindings query": 1,
                "bundle open": len(hosts),
                "queue send": 1,
                "queue done": len(hosts),
            }

    async def test_messages_that_wait_are_one_batch(self, scene: Scene) -> None:
        target = FakeTarget()
        one = agent(scene.storage, target=target)
        await one.once()
        await scene.beat("i0")
        for number in range(20):
            await scene.accepted(f"{number}.pfx", f"h{number}.example.com")
        assert await one.drain() == 20
        assert len(target.applies) == 1
        assert len(target.server.bound) == 20
        assert await one.drain() == 0

    async def test_no_more_is_taken_at_once_than_one_request_gives(self, scene: Scene) -> None:
        one = agent(scene.storage)
        await one.once()
        for _ in range(DRAIN + 5):
            scene.storage.put(QUEUE, hint(HOST))
        assert await one.drain() == DRAIN
        assert await one.drain() == 5

    async def test_an_idle_agent_looks_less_and_less_often_and_a_busy_one_at_once_again(self, scene: Scene) -> None:
        steps = Mortal()
        async with serving(agent(scene.storage, step=steps, poll_max_ms=2000)):
            await asyncio.sleep(300)
            before = steps.steps["queue receive"]
            await asyncio.sleep(60)
            assert 29 <= steps.steps["queue receive"] - before <= 31
            scene.storage.put(QUEUE, hint(HOST))
            await asyncio.sleep(2.5)
            before = steps.steps["queue receive"]
            await asyncio.sleep(1)
            assert steps.steps["queue receive"] - before >= 7
            await asyncio.sleep(18)
            before = steps.steps["queue receive"]
            await asyncio.sleep(60)
            assert 29 <= steps.steps["queue receive"] - before <= 31

    async def test_idle_agents_all_look_at_the_same_moments(self, scene: Scene) -> None:
        """So that the last one serves an upload when the first does."""
        looks: dict[str, list[float]] = {f"i{number}": [] for number in range(8)}

        def noting(seen: list[float]) -> Callable[[str], Awaitable[None]]:
            async def step(what: str) -> None:
                if what == "queue receive":
                    seen.append(asyncio.get_running_loop().time())

            return step

        async with AsyncExitStack() as agents:
            for name, seen in looks.items():
                await agents.enter_async_context(serving(agent(scene.storage, name, step=noting(seen))))
                await asyncio.sleep(0.123)
            await asyncio.sleep(60)
            since = asyncio.get_running_loop().time()
            await asyncio.sleep(10)
        moments = [[at for at in seen if at > since][:20] for seen in looks.values()]
        for together in zip(*moments, strict=True):
            assert max(together) - min(together) <= SPREAD_S

    async def test_only_rows_for_all_and_for_its_role_are_served_and_the_roles_own_wins(self, scene: Scene) -> None:
        servers = {role: FakeServer() for role in ("web", "api")}
        agents = {role: agent(scene.storage, f"{role}0", role=role, server=servers[role]) for role in servers}
        tasks = [await running(each) for each in agents.values()]
        everyone = await scene.accepted("all.pfx", HOST)
        metadata = {"CertificatePassword": PASSWORD, "Role": "web"}
        web = await scene.looked_at(await scene.upload("web.pfx", HOST, serial=1, metadata=metadata))
        await asyncio.sleep(3)
        assert served(servers["web"]) == {HOST: web.bundle_id}
        assert served(servers["api"]) == {HOST: everyone.bundle_id}
        await scene.looked_at(await scene.delete("web.pfx"))
        await asyncio.sleep(3)
        assert served(servers["web"]) == {HOST: everyone.bundle_id}
        for each, task in zip(agents.values(), tasks, strict=True):
            await stopped(each, task)


@in_a_scene
class TestStarting:
    async def test_everything_desired_is_installed_before_it_says_that_it_is_ready(self, scene: Scene) -> None:
        for number in range(3):
            await scene.accepted(f"{number}.pfx", f"h{number}.example.com")
        server = FakeServer()
        async with serving(agent(scene.storage, server=server)):
            assert len(server.bound) == 3
            row = await row_of(scene.storage)
            assert (row.ready, row.bindings, row.failing) == (True, 3, 0)

    async def test_what_was_removed_while_it_was_off_is_removed(self, scene: Scene) -> None:
        server = FakeServer()
        kept = await scene.accepted("kept.pfx", "kept.example.com")
        await scene.accepted("gone.pfx", "gone.example.com")
        assert await agent(scene.storage, server=server).once()
        assert len(server.bound) == 2
        await scene.looked_at(await scene.delete("gone.pfx"))
        assert await agent(scene.storage, server=server).once()
        assert served(server) == {"kept.example.com": kept.bundle_id}

    async def test_with_the_id_of_a_running_agent_serves_under_another_and_disturbs_nothing(self, scene: Scene) -> None:
        record = await scene.accepted("a.pfx", HOST)
        servers = FakeServer(), FakeServer()
        async with (
            serving(agent(scene.storage, host="one", server=servers[0])),
            serving(agent(scene.storage, host="two", server=servers[1])) as second,
        ):
            assert second.settings.instance.startswith("i0~")
            row = await row_of(scene.storage)
            assert (row.host, row.stopped) == ("one", False)
            assert [served(server) for server in servers] == [{HOST: record.bundle_id}] * 2
            again = await scene.accepted("a.pfx", HOST, serial=1)
            await asyncio.sleep(1.5)
            assert [served(server) for server in servers] == [{HOST: again.bundle_id}] * 2
            await scene.fold()
            assert (await scene.record("a.pfx")).live == 2

    async def test_when_it_cannot_register_yet_serves_all_the_same_and_registers_later(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        record = await scene.accepted("a.pfx", HOST)
        server = FakeServer()
        step = Failing({"queue create": [UnavailableError("the queues do not answer")] * 2})
        async with serving(agent(scene.storage, server=server, step=step)):
            assert served(server) == {HOST: record.bundle_id}
            assert "not registered yet: the queues do not answer" in caplog.text
            await asyncio.sleep(60)
            assert (await row_of(scene.storage)).ready
            await scene.fold()
            assert (await scene.record("a.pfx")).status is UploadStatus.LIVE

    async def test_a_server_that_cannot_be_used_is_said_and_nothing_registered(self, scene: Scene) -> None:
        class Unusable(FakeTarget):
            async def start(self) -> None:
                raise ConfigurationError("IIS is not installed: add the Web-Server role")

        with pytest.raises(ConfigurationError, match="IIS is not installed"):
            await agent(scene.storage, target=Unusable()).run()
        assert scene.storage.tables.get("instances", {}) == {}


@in_a_scene
class TestStopping:
    async def test_says_that_no_one_need_wait_for_it(self, scene: Scene) -> None:
        one = agent(scene.storage)
        await stopped(one, await running(one))
        row = await row_of(scene.storage)
        assert (row.stopped, row.ready) == (True, False)

    async def test_within_a_batch_finishes_it_reports_it_and_leaves_the_rest_on_the_queue(self, scene: Scene) -> None:
        target = FakeTarget()
        one = agent(scene.storage, target=target)
        task = await running(one)
        target.gate = asyncio.Event()
        await scene.accepted("a.pfx", HOST)
        await target.in_apply.wait()
        await scene.accepted("b.pfx", "b.example.com")
        one.stop()
        await asyncio.sleep(5)
        assert not task.done()
        target.gate.set()
        await task
        assert set(served(target.server)) == {HOST}
        (report,) = await scene.reports()
        assert [(each.host, each.outcome) for each in report.reports] == [(HOST, InstallOutcome.LIVE)]
        assert len(scene.storage.queues[QUEUE]) == 1

    async def test_takes_no_longer_than_the_work_in_hand(self, scene: Scene) -> None:
        async with serving(agent(scene.storage, poll_max_ms=60_000)):
            await asyncio.sleep(1000)
            before = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() == before

    async def test_by_cancellation_waits_for_the_change_in_hand_too(self, scene: Scene) -> None:
        target = FakeTarget()
        task = await running(agent(scene.storage, target=target))
        target.gate = asyncio.Event()
        record = await scene.accepted("a.pfx", HOST)
        await target.in_apply.wait()
        task.cancel()
        await asyncio.sleep(1)
        assert not task.done()
        target.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert served(target.server) == {HOST: record.bundle_id}

    async def test_when_the_table_cannot_be_written_ends_all_the_same(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        step = Failing({})
        async with serving(agent(scene.storage, step=step)):
            await asyncio.sleep(1)
            step.errors["instances replace"] = [UnavailableError("the table does not answer")]
        assert "could not say that it stops: the table does not answer" in caplog.text


@in_a_scene
class TestOnce:
    async def test_answers_whether_everything_desired_is_served(self, scene: Scene) -> None:
        assert await agent(scene.storage).once()
        await scene.accepted("a.pfx", HOST)
        target = FakeTarget()
        target.refuses = {HOST: "never"}
        assert not await agent(scene.storage, target=target).once()
        assert (await row_of(scene.storage)).stopped

    async def test_a_plan_registers_nothing_and_changes_nothing(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", HOST)
        server = FakeServer()
        steps = await agent(scene.storage, server=server).plan()
        assert [(step.action, step.row.host) for step in steps] == [("install", HOST)]
        assert server.bound == {}
        assert scene.storage.tables.get("instances", {}) == {}
        assert QUEUE not in scene.storage.queues


@in_a_scene
class TestPoison:
    @pytest.mark.parametrize("body", [None, "not json", "{}", '{"version": 9, "bindings": []}', '{"version": 1}'])
    async def test_what_cannot_be_read_is_put_aside_and_holds_up_nothing(
        self, scene: Scene, body: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = FakeServer()
        one = agent(scene.storage, server=server)
        await one.once()
        await scene.beat("i0")
        scene.storage.put(QUEUE, body)
        record = await scene.accepted("a.pfx", HOST)
        assert await one.drain() == 2
        assert served(server) == {HOST: record.bundle_id}
        assert scene.storage.queues[QUEUE] == {}
        (aside,) = scene.storage.queues[f"{QUEUE}-poison"].values()
        assert aside.body == (body or "")
        assert one.inbox.poisoned == 1
        assert f"a message is put on {QUEUE}-poison" in caplog.text

    async def test_what_never_gets_done_is_put_aside_after_five_tries(self, scene: Scene) -> None:
        await agent(scene.storage).once()
        scene.storage.put(QUEUE, hint(HOST))
        defects: list[Exception] = [ZeroDivisionError("a defect") for _ in range(2 * MAX_DEQUEUE)]
        broken = agent(scene.storage, step=Failing({"bindings query": defects}))
        for _ in range(MAX_DEQUEUE):
            with pytest.raises(ZeroDivisionError):
                await broken.drain()
            await asyncio.sleep(HIDE_S)
        assert await broken.drain() == 1
        assert len(scene.storage.queues[f"{QUEUE}-poison"]) == 1
        assert scene.storage.queues[QUEUE] == {}


@in_a_scene
class TestTrouble:
    async def test_that_passes_is_waited_out_with_growing_patience(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = FakeServer()
        step = Failing({})
        async with serving(agent(scene.storage, server=server, step=step)):
            step.errors["queue receive"] = [UnavailableError("the queue does not answer")] * 4
            record = await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(2 + 4 + 8 + 16 + 2)
            assert not step.errors["queue receive"]
            assert served(server) == {HOST: record.bundle_id}
        assert "instance i0: the queue does not answer; trying again" in caplog.text

    async def test_no_one_foresaw_does_not_end_the_agent(self, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
        step = Failing({})
        async with serving(agent(scene.storage, step=step)) as one:
            step.errors["queue receive"] = [ZeroDivisionError("a defect")]
            await asyncio.sleep(10)
            record = await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            assert served(one._target.server) == {HOST: record.bundle_id}  # type: ignore[attr-defined]
        assert "Traceback" in caplog.text

    async def test_of_a_refusal_by_the_account_is_said_again_and_again(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        step = Failing({})
        async with serving(agent(scene.storage, step=step)):
            step.errors["queue receive"] = [AccessDeniedError("refused; see docs/deploy.md")] * 3
            await asyncio.sleep(60)
        assert caplog.text.count("refused; see docs/deploy.md") == 3

    async def test_of_a_server_that_is_down_is_tried_again_until_it_is_up(self, scene: Scene) -> None:
        server = FakeServer()
        async with serving(agent(scene.storage, server=server)):
            server.down = True
            record = await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(20)
            server.down = False
            await asyncio.sleep(80)
            assert served(server) == {HOST: record.bundle_id}
            await scene.fold()
            assert (await scene.record("a.pfx")).status is UploadStatus.LIVE

    async def test_of_one_bundle_is_tried_again_soon(self, scene: Scene) -> None:
        step = Failing({"bundle open": [UnavailableError("the vault does not answer")]})
        async with serving(agent(scene.storage, step=step)):
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(2)
            await scene.fold()
            assert "the vault does not answer" in (await scene.record("a.pfx")).reason
            await asyncio.sleep(8)
            await scene.fold()
            assert (await scene.record("a.pfx")).status is UploadStatus.LIVE


@in_a_scene
class TestLosses:
    async def test_a_queue_that_was_deleted_is_made_again_and_nothing_missed(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = FakeServer()
        async with serving(agent(scene.storage, server=server)):
            session = (await row_of(scene.storage)).session
            await scene.outside.queues.delete(QUEUE)
            await scene.outside.queues.delete(f"{QUEUE}-poison")
            scene.storage.tables["instances"].clear()
            record = await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(15)
            assert QUEUE in scene.storage.queues
            assert served(server) == {HOST: record.bundle_id}
            row = await row_of(scene.storage)
            assert (row.session, row.ready, row.stopped) == (session, True, False)
            again = await scene.accepted("a.pfx", HOST, serial=1)
            await asyncio.sleep(2)
            assert served(server) == {HOST: again.bundle_id}
        assert "its queue is gone, registering again" in caplog.text

    async def test_a_report_that_was_lost_is_made_again_when_the_sweep_asks(self, scene: Scene) -> None:
        async with serving(agent(scene.storage)):
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            lost = await scene.reports()
            assert [item.outcome for report in lost for item in report.reports] == [InstallOutcome.LIVE]
            await asyncio.sleep(RESEND_AFTER.total_seconds())
            assert (await scene.record("a.pfx")).status is UploadStatus.ACCEPTED
            await sweep(scene.cloud)
            await asyncio.sleep(10)
            await scene.fold()
            assert (await scene.record("a.pfx")).status is UploadStatus.LIVE

    async def test_a_heartbeat_while_it_registers_again_does_not_take_it_for_another(self, scene: Scene) -> None:
        class SlowToCreate(Mortal):
            slow = False

            async def __call__(self, what: str) -> None:
                if self.slow and what in {"queue create", "instances replace"}:
                    await asyncio.sleep(40)

        step = SlowToCreate()
        one = agent(scene.storage, step=step)
        task = await running(one)
        step.slow = True
        await scene.outside.queues.delete(QUEUE)
        await asyncio.sleep(400)
        assert not task.done()
        step.slow = False
        await stopped(one, task)

    async def test_a_hint_that_is_lost_is_made_good_by_the_next_reconcile(self, scene: Scene) -> None:
        server = FakeServer()
        async with serving(agent(scene.storage, server=server)):
            record = await scene.accepted("a.pfx", HOST)
            scene.storage.queues[QUEUE].clear()
            await asyncio.sleep(RECONCILE_S * 1.3)
            assert served(server) == {HOST: record.bundle_id}

    async def test_a_hint_that_is_late_or_doubled_changes_nothing(self, scene: Scene) -> None:
        target = FakeTarget()
        async with serving(agent(scene.storage, target=target)):
            record = await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(2)
            await scene.reports()
            for _ in range(3):
                scene.storage.put(QUEUE, hint(HOST, "unknown.example.com"))
            await asyncio.sleep(3)
            assert served(target.server) == {HOST: record.bundle_id}
            assert len(target.applies) == 1
            assert await scene.reports() == []

    async def test_a_report_that_cannot_be_made_is_made_later_and_nothing_installed_again(self, scene: Scene) -> None:
        step, target = Failing({}), FakeTarget()
        one = agent(scene.storage, step=step, target=target)
        await one.once()
        await scene.beat("i0")
        await scene.accepted("a.pfx", HOST)
        step.errors["queue send"] = [UnavailableError("the results queue does not answer")]
        assert await one.drain() == 1
        assert scene.storage.queues[QUEUE] == {}
        assert await scene.reports() == []
        await one.reconcile()
        (report,) = await scene.reports()
        assert report.reports[0].outcome is InstallOutcome.LIVE
        assert len(target.applies) == 1

    async def test_one_that_ends_without_having_told_says_so(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", HOST)
        step = Failing({"queue send": [UnavailableError("the results queue does not answer")]})
        assert not await agent(scene.storage, step=step).once()
        assert await agent(scene.storage).once()

    async def test_a_results_queue_that_is_gone_is_waited_for(self, scene: Scene) -> None:
        one = agent(scene.storage)
        task = await running(one)
        del scene.storage.queues[RESULTS_QUEUE]
        await scene.accepted("a.pfx", HOST)
        await asyncio.sleep(60)
        assert not task.done()
        await scene.outside.queues.create(RESULTS_QUEUE)
        await asyncio.sleep(HIDE_S)
        await scene.fold()
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE
        await stopped(one, task)

    async def test_a_drain_that_dies_anywhere_is_made_good_by_the_next_start(self, scene: Scene) -> None:
        await scene.accepted("old.pfx", "old.example.com")
        dies_at, died = 0, True
        while died:
            dies_at += 1
            died = False
            server = FakeServer()
            name = f"i{dies_at}"
            assert await agent(scene.storage, name, server=server).once()
            await scene.outside.state.instances.update(name, lambda row: replace(row, stopped=False) if row else None)
            await scene.accepted("a.pfx", HOST, serial=dies_at)
            await scene.looked_at("old.pfx")
            try:
                await agent(scene.storage, name, server=server, step=Mortal(dies_at=dies_at)).drain()
            except ProcessDiedError:
                died = True
            assert await agent(scene.storage, name, server=server).once()
            assert served(server)[HOST] == (await scene.record("a.pfx")).bundle_id
            await scene.fold()
            reports = [
                known.value
                async for known in scene.outside.state.installations.all()
                if known.value.instance == name and known.value.host == HOST
            ]
            assert [(each.generation, each.outcome) for each in reports] == [
                ((await scene.row(HOST)).generation, InstallOutcome.LIVE)
            ], dies_at
        assert dies_at > 5


@in_a_scene
class TestReconcilingAndDrainingAtOnce:
    async def test_rows_read_before_do_not_undo_what_was_done_since(self, scene: Scene) -> None:
        class SlowSecondPage(Mortal):
            async def __call__(self, what: str) -> None:
                self.steps[what] += 1
                if what == "bindings query" and self.steps[what] == 4:
                    await asyncio.sleep(60)

        server = FakeServer()
        await scene.accepted("a.pfx", HOST)
        await scene.accepted("z.pfx", "z.example.com")
        one = agent(scene.storage, server=server, step=SlowSecondPage(), page=1)
        await one.once()
        await scene.outside.state.instances.update("i0", lambda row: replace(row, stopped=False) if row else None)
        reconciling = asyncio.ensure_future(one.reconcile())
        await asyncio.sleep(1)
        renewed = await scene.accepted("a.pfx", HOST, serial=1)
        new = await scene.accepted("b.pfx", "b.example.com")
        await asyncio.gather(reconciling, one.drain())
        assert served(server) == {
            HOST: renewed.bundle_id,
            "b.example.com": new.bundle_id,
            "z.example.com": (await scene.record("z.pfx")).bundle_id,
        }


@in_a_scene
class TestLogs:
    async def test_say_what_was_done_and_nothing_secret(self, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        async with serving(agent(scene.storage)):
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(2)
        generation = (await scene.row(HOST)).generation
        said = f"instance i0: a.example.com:443 generation {generation} live"
        (line,) = [record for record in caplog.records if record.getMessage() == said]
        assert WorthAnEntry().filter(line), "installs are entries of Windows' event log"
        assert PASSWORD not in caplog.text
        assert "PRIVATE KEY" not in caplog.text


class TestTheHeartbeat:
    async def test_one_that_was_held_up_does_not_say_afterwards_what_was_true_before(self) -> None:
        storage = FakeStorage()
        held, let_go = asyncio.Event(), asyncio.Event()

        async def hold_the_first(what: str) -> None:
            if what == "instances replace" and not held.is_set():
                held.set()
                await let_go.wait()

        one = agent(storage, step=hold_the_first)
        await one._register()
        storage.clock.advance(30)
        before = asyncio.ensure_future(one._beat())
        await held.wait()
        one.ready = True
        after = asyncio.ensure_future(one._beat())
        for _ in range(50):
            await asyncio.sleep(0)  # it gets as far as it may
        let_go.set()
        await asyncio.gather(before, after)
        assert (await row_of(storage)).ready

    async def test_one_that_failed_does_not_keep_the_next_from_being_written(self) -> None:
        storage = FakeStorage()
        one = agent(storage, step=Failing({"instances replace": [UnavailableError("away")]}))
        await one._register()
        storage.clock.advance(60)
        with pytest.raises(UnavailableError):
            await one._beat()
        await one._beat()
        assert (await row_of(storage)).last_seen == storage.clock()
