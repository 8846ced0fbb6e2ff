"""What others write into `bindings`, `installations` and an agent's queue: no host goes dark, and no lie stays."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from instance_agent.agent import RECONCILE_S, Agent
from shared.binding import ANY_ROLE, BindingKey
from shared.errors import AccessDeniedError
from shared.messages import BindingReport, BindingsChanged, InstallOutcome, InstallReport, encode, queue_of
from shared.state.keys import binding_key
from shared.state.records import InstallationRecord, UploadStatus
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing
from tests.fakes.storage import StoredRow
from tests.fakes.target import FakeServer
from tests.rigs.agents import agent, served
from tests.rigs.scenes import PASSWORD, Scene
from tests.rigs.some import some
from tests.rigs.virtual_tests import on_virtual_time

HOST, OTHER = "a.example.com", "b.example.com"
NEXT_RECONCILE_S = 1.3 * RECONCILE_S

in_a_scene = on_virtual_time(lambda loop: Scene(FakeStorage(loop.clock)))


async def start(one: Agent) -> asyncio.Task[None]:
    task = asyncio.ensure_future(one.run())
    while not one.ready:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.5)
    return task


async def stop(one: Agent, task: asyncio.Task[None]) -> None:
    assert not task.done(), task.exception()
    one.stop()
    await task


def row_of(scene: Scene, host: str, role: str = ANY_ROLE) -> StoredRow:
    return scene.storage.tables["bindings"][binding_key(BindingKey(role=role, host=host, port=443))]


BREAKS: dict[str, Callable[[StoredRow], None]] = {
    "of other columns": lambda row: row.columns.clear(),
    "of another type": lambda row: row.columns.update(generation="x"),
    "of another state": lambda row: row.columns.update(state="perhaps"),
    "that names another host": lambda row: row.columns.update(host="evil.example.com"),
    "of a time that is none": lambda row: row.columns.update(changed_at="yesterday"),
}


@in_a_scene
class TestARowThatCannotBeRead:
    @pytest.mark.parametrize("how", BREAKS)
    async def test_leaves_what_is_served_as_it_is_and_the_others_alone(self, scene: Scene, how: str) -> None:
        server = FakeServer()
        one = agent(scene.storage, server=server)
        task = await start(one)
        record, other = await scene.accepted("a.pfx", HOST), await scene.accepted("b.pfx", OTHER)
        await asyncio.sleep(2)
        BREAKS[how](row_of(scene, HOST))
        await scene.looked_at(await scene.delete("b.pfx"))
        scene.storage.put(queue_of("i0"), encode(hint(HOST)))
        await asyncio.sleep(NEXT_RECONCILE_S)
        assert other.bundle_id
        assert served(server) == {HOST: record.bundle_id}
        await stop(one, task)

    async def test_leaves_it_so_at_the_next_start_too(self, scene: Scene) -> None:
        server = FakeServer()
        record = await scene.accepted("a.pfx", HOST)
        await scene.accepted("b.pfx", OTHER)
        await agent(scene.storage, server=server).once()
        row_of(scene, HOST).columns.clear()
        await agent(scene.storage, server=server).once()
        assert served(server)[HOST] == record.bundle_id
        assert [(step.action, step.row.host) for step in await agent(scene.storage, server=server).plan()] == [
            ("keep", OTHER)
        ]

    @pytest.mark.parametrize("broken", ["web", ANY_ROLE])
    async def test_of_one_role_does_not_bring_the_others_into_force(self, scene: Scene, broken: str) -> None:
        server = FakeServer()
        one = agent(scene.storage, role="web", server=server)
        task = await start(one)
        await scene.accepted("all.pfx", HOST)
        metadata = {"CertificatePassword": PASSWORD, "Role": "web"}
        web = await scene.looked_at(await scene.upload("web.pfx", HOST, serial=1, metadata=metadata))
        await asyncio.sleep(2)
        assert served(server) == {HOST: web.bundle_id}
        row_of(scene, HOST, broken).columns.clear()
        scene.storage.put(queue_of("i0"), encode(hint(HOST)))
        await asyncio.sleep(NEXT_RECONCILE_S)
        assert served(server) == {HOST: web.bundle_id}
        await stop(one, task)

    @pytest.mark.parametrize("key", ["x", "=", "=ZZ:443", "a.example.com:", "a.example.com:٤٤٣", f"a:{'9' * 400}", ":"])
    async def test_under_a_key_that_names_nothing_is_passed_over(self, scene: Scene, key: str) -> None:
        server = FakeServer()
        record = await scene.accepted("a.pfx", HOST)
        storage = scene.storage
        storage.tables["bindings"][ANY_ROLE, key] = StoredRow(
            columns={"x": "1"}, etag=storage.new_etag(), written_at=storage.clock()
        )
        assert await agent(storage, server=server).once()
        assert served(server) == {HOST: record.bundle_id}

    @pytest.mark.parametrize("host", ["a b.example.com", "../../etc/x", "A.example.com", "x" * 70, "10.0.0.1", "*.com"])
    async def test_because_its_host_is_none_is_never_acted_on(
        self, scene: Scene, host: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = FakeServer()
        record = await scene.accepted("a.pfx", HOST)
        odd = replace(await scene.row(HOST), host=host)
        await scene.outside.state.bindings.update(odd.key, lambda _: odd)
        assert await agent(scene.storage, server=server).once()
        assert served(server) == {HOST: record.bundle_id}
        assert "is passed over: that is no host and port" in caplog.text


def hint(*hosts: str, port: int = 443, traceparent: str = "") -> BindingsChanged:
    keys = tuple(BindingKey(role=ANY_ROLE, host=host, port=port) for host in hosts)
    return BindingsChanged(bindings=keys, traceparent=traceparent)


@in_a_scene
class TestAHint:
    @pytest.mark.parametrize(
        "enemy",
        [
            hint("x" * 5000),
            hint("\0", "a/b#?\\", ""),
            hint(HOST, port=-1),
            hint(HOST, port=10**30),
            hint(HOST, traceparent="t" * 48_990),
            hint(*(f"{number}.example.net" for number in range(500))),
        ],
    )
    async def test_of_an_enemys_holds_up_no_other_that_is_taken_with_it(
        self, scene: Scene, enemy: BindingsChanged
    ) -> None:
        server = FakeServer()
        one = agent(scene.storage, server=server)
        task = await start(one)
        scene.storage.put(queue_of("i0"), encode(enemy))
        record = await scene.accepted("a.pfx", HOST)
        await asyncio.sleep(3)
        assert served(server) == {HOST: record.bundle_id}
        assert scene.storage.queues[queue_of("i0")] == {}
        await scene.fold()
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE
        await stop(one, task)


async def entered(scene: Scene) -> InstallationRecord:
    return some(await scene.outside.state.installations.get((HOST, 443, "i0")))


LIES: dict[str, dict[str, object]] = {
    "an outcome": {"outcome": InstallOutcome.FAILED, "reason": "the disk is full"},
    "a fingerprint": {"fingerprint_sha256": "5" * 64},
    "a reason": {"reason": "pay 5 XMR"},
}


@in_a_scene
class TestAFalseReport:
    @pytest.mark.parametrize("lie", LIES)
    async def test_is_put_right_by_the_next_reconcile_without_a_renewal(self, scene: Scene, lie: str) -> None:
        one = agent(scene.storage)
        task = await start(one)
        await scene.accepted("a.pfx", HOST)
        await asyncio.sleep(2)
        await scene.fold()
        true = await entered(scene)
        await asyncio.sleep(60)
        said = BindingReport(
            role=ANY_ROLE,
            host=HOST,
            port=443,
            generation=true.generation,
            source="a.pfx",
            outcome=true.outcome,
            finished_at=scene.storage.clock(),
            fingerprint_sha256=true.fingerprint_sha256,
        )
        false = InstallReport(instance="i0", reports=(replace(said, **LIES[lie]),))  # type: ignore[arg-type]
        await scene.outside.queues.send("install-results", encode(false))
        await scene.fold()
        assert (await entered(scene)).reported_at > true.reported_at
        await asyncio.sleep(NEXT_RECONCILE_S)
        await scene.fold()
        now = await entered(scene)
        assert (now.outcome, now.reason, now.fingerprint_sha256) == (true.outcome, true.reason, true.fingerprint_sha256)
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE
        await stop(one, task)

    @pytest.mark.parametrize("how", ["deleted", "garbled"])
    async def test_may_be_an_entry_that_is_gone_or_cannot_be_read(self, scene: Scene, how: str) -> None:
        one = agent(scene.storage)
        task = await start(one)
        await scene.accepted("a.pfx", HOST)
        await asyncio.sleep(2)
        await scene.fold()
        true = await entered(scene)
        rows = scene.storage.tables["installations"]
        if how == "deleted":
            rows.clear()
        else:
            for row in rows.values():
                row.columns.clear()
        await asyncio.sleep(NEXT_RECONCILE_S)
        await scene.fold()
        now = await entered(scene)
        assert replace(now, finished_at=true.finished_at, reported_at=true.reported_at) == true
        await stop(one, task)

    async def test_is_not_corrected_where_there_is_none(self, scene: Scene) -> None:
        one = agent(scene.storage)
        task = await start(one)
        await scene.accepted("a.pfx", HOST, "c.example.com")
        await scene.accepted("b.pfx", OTHER)
        await asyncio.sleep(2)
        await scene.looked_at(await scene.delete("b.pfx"))
        await asyncio.sleep(2)
        await scene.fold()
        await asyncio.sleep(3 * NEXT_RECONCILE_S)
        assert await scene.reports() == []
        await stop(one, task)

    async def test_that_the_agent_may_not_read_is_a_warning_and_no_trouble_for_serving(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        server = FakeServer()
        step = Failing({"installations query": [AccessDeniedError("refused; see docs/deploy.md")] * 100})
        one = agent(scene.storage, server=server, step=step)
        task = await start(one)
        record = await scene.accepted("a.pfx", HOST)
        await asyncio.sleep(2 * NEXT_RECONCILE_S)
        assert served(server) == {HOST: record.bundle_id}
        assert "what was reported could not be compared: refused" in caplog.text
        assert 2 <= caplog.text.count("could not be compared") <= 4
        await stop(one, task)
