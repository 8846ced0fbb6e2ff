"""Rows of `instances` that others write, and queues that others delete: no agent stops serving because of them."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest

from instance_agent.agent import RECONCILE_S, Agent
from instance_agent.installing.probe import served_fingerprint
from shared.azure.account import Account
from shared.binding import ANY_ROLE, BindingState, DesiredBinding
from shared.bundle import CertificateBundle, bundle_id
from shared.function.cloud import Cloud
from shared.messages import queue_of
from shared.state.records import HEARTBEAT_S, InstanceRecord
from tests.fakes.edges import FakeStorage
from tests.fakes.storage import StoredRow
from tests.fakes.target import FakeServer
from tests.rigs.agent_processes import agent_process
from tests.rigs.agents import agent, served
from tests.rigs.certificates import authority
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.processes import linux_only
from tests.rigs.scenes import Scene, issued
from tests.rigs.virtual_tests import on_virtual_time

HOST = "a.example.com"
EACH_S = 3.0

in_a_scene = on_virtual_time(lambda loop: Scene(FakeStorage(loop.clock)))

Rows = dict[tuple[str, str], StoredRow]


def another_session(rows: Rows, storage: FakeStorage) -> None:
    """Merge another agent's session into every row."""
    for row in rows.values():
        row.columns["session"] = "elsewhere/1/x"
        row.columns["stopped"] = False
        row.etag, row.written_at = storage.new_etag(), storage.clock()


def nonsense(rows: Rows, storage: FakeStorage) -> None:
    for row in rows.values():
        row.columns = {"x": "1"}
        row.etag, row.written_at = storage.new_etag(), storage.clock()


def nothing(rows: Rows, storage: FakeStorage) -> None:
    del storage
    rows.clear()


def other_names(rows: Rows, storage: FakeStorage) -> None:
    """Columns that say that the instance is another one, long stopped, in the year 9999."""
    for row in rows.values():
        row.columns |= {"id": "x", "role": "x", "stopped": True, "last_seen": "9999-12-31T23:59:59Z"}
        row.etag, row.written_at = storage.new_etag(), storage.clock()


def no_queues(rows: Rows, storage: FakeStorage) -> None:
    del rows
    for name in [name for name in storage.queues if name.startswith("cert-agent-")]:
        del storage.queues[name]


ATTACKS = (another_session, nonsense, nothing, other_names, no_queues)


async def again_and_again(attack: Callable[[Rows, FakeStorage], None], storage: FakeStorage) -> None:
    while True:
        attack(storage.tables.setdefault("instances", {}), storage)
        await asyncio.sleep(EACH_S)


@asynccontextmanager
async def under_attack(attack: Callable[[Rows, FakeStorage], None], storage: FakeStorage) -> AsyncIterator[None]:
    attacking = asyncio.ensure_future(again_and_again(attack, storage))
    yield
    attacking.cancel()


async def desired(cloud: Cloud | Account, host: str, bundle: CertificateBundle, now: datetime) -> DesiredBinding:
    """Have a certificate served for a host, without a hint to anyone."""
    identity = bundle_id(bundle, b"")
    await cloud.bundles.seal(identity, bundle.to_pem())
    row = DesiredBinding(
        role=ANY_ROLE,
        host=host,
        port=443,
        state=BindingState.PRESENT,
        generation=1,
        changed_at=now,
        bundle_id=identity,
        fingerprint_sha256=bundle.fingerprint_sha256,
        source="a.pfx",
    )
    await cloud.state.bindings.update(row.key, lambda _: row)
    return row


@dataclass
class Running:
    """An agent on a machine of its own."""

    agent: Agent
    server: FakeServer
    task: asyncio.Task[None]


async def start(scene: Scene, instance: str, host: str = "") -> Running:
    server = FakeServer()
    one = agent(scene.storage, instance, host=host, server=server)
    running = Running(agent=one, server=server, task=asyncio.ensure_future(one.run()))
    for _ in range(40):
        if one.ready:
            break
        assert not running.task.done(), running.task.exception()
        await asyncio.sleep(0.5)
    assert one.ready
    return running


async def stop(*running: Running) -> None:
    for each in running:
        assert not each.task.done(), each.task.exception()
        each.agent.stop()
        await each.task


@in_a_scene
class TestSomeoneWritesTheRows:
    @pytest.mark.parametrize("attack", ATTACKS)
    async def test_again_and_again_and_every_agent_serves_on_and_serves_what_is_new(
        self, scene: Scene, attack: Callable[[Rows, FakeStorage], None]
    ) -> None:
        agents = [await start(scene, f"i{number}") for number in range(3)]
        before = await scene.accepted("before.pfx", "before.example.com")
        await asyncio.sleep(2)
        async with under_attack(attack, scene.storage):
            await asyncio.sleep(3 * HEARTBEAT_S)
            # Whether or not anyone can be told of it, it is found at the next reconcile.
            new = await desired(scene.outside, HOST, issued(HOST).bundle(), scene.storage.clock())
            await asyncio.sleep(1.3 * RECONCILE_S)
            for each in agents:
                assert not each.task.done(), each.task.exception()
                assert served(each.server) == {"before.example.com": before.bundle_id, HOST: new.bundle_id}
        await asyncio.sleep(3 * HEARTBEAT_S)
        rows = [row.value async for row in scene.outside.state.instances.all()]
        now = {each.agent.settings.instance: each.agent for each in agents}
        reachable = {row.id for row in rows if row.ready and queue_of(row.id) in scene.storage.queues}
        assert reachable >= set(now)
        await stop(*agents)

    @pytest.mark.parametrize("attack", ATTACKS)
    async def test_again_and_again_and_an_agent_starts_and_serves_within_seconds(
        self, scene: Scene, attack: Callable[[Rows, FakeStorage], None]
    ) -> None:
        record = await scene.accepted("a.pfx", HOST)
        await stop(await start(scene, "i0", host="elsewhere"))
        async with under_attack(attack, scene.storage):
            await asyncio.sleep(1)
            one = await start(scene, "i0")
            assert asyncio.get_running_loop().time() < 10
            assert served(one.server) == {HOST: record.bundle_id}
        await stop(one)

    @pytest.mark.parametrize("instance", ["i/0", "ä#?\\", "x" * 150, "~", "i0~ab12cd34", "\u202etxt", "a b"])
    async def test_of_an_agent_with_an_odd_id(self, scene: Scene, instance: str) -> None:
        one = await start(scene, instance)
        another_session(scene.storage.tables["instances"], scene.storage)
        await asyncio.sleep(HEARTBEAT_S + 1)
        assert one.agent.settings.instance.startswith(f"{instance}~")
        record = await scene.accepted("a.pfx", HOST)
        await asyncio.sleep(2)
        assert served(one.server) == {HOST: record.bundle_id}
        await stop(one)

    async def test_and_what_they_say_of_other_instances_goes_nowhere(self, scene: Scene) -> None:
        """An agent that moved tells everything again under its new id."""
        one = await start(scene, "i0")
        await scene.accepted("a.pfx", HOST)
        await asyncio.sleep(2)
        await scene.fold()
        another_session(scene.storage.tables["instances"], scene.storage)
        await asyncio.sleep(HEARTBEAT_S + 10)
        await scene.fold()
        reports = [known.value async for known in scene.outside.state.installations.all()]
        assert {report.instance for report in reports} == {"i0", one.agent.settings.instance}
        await stop(one)


@in_a_scene
async def test_two_agents_with_one_id_that_start_at_the_same_instant_end_with_two(scene: Scene) -> None:
    record = await scene.accepted("a.pfx", HOST)
    both = await asyncio.gather(start(scene, "i0", host="one"), start(scene, "i0", host="two"))
    assert len({each.agent.settings.instance for each in both}) == 2
    for each in both:
        assert served(each.server) == {HOST: record.bundle_id}
    await stop(*both)


@pytest.fixture
async def account(azurite: Emulator, tmp_path: Path) -> AsyncIterator[Account]:
    async with opened_account(azurite.connection_string, tmp_path / "key") as opened:
        yield opened


async def issued_for(account: Account, host: str) -> str:
    """The fingerprint of a certificate that is desired for a host from now on."""
    return (await desired(account, host, authority().issue(host).bundle(), account.clock.now())).fingerprint_sha256


async def merge_session(account: Account, instance: str) -> None:
    """What any agent's identity may do."""

    def change(row: InstanceRecord | None) -> InstanceRecord | None:
        return None if row is None else replace(row, session="elsewhere/1/x", stopped=False)

    while True:
        await account.state.instances.update(instance, change)
        await asyncio.sleep(EACH_S)


class TestRealAgents:
    async def test_serve_on_and_serve_what_is_new_while_their_row_is_rewritten(
        self, azurite: Emulator, account: Account, tmp_path: Path
    ) -> None:
        instance, host = f"row-{uuid.uuid4().hex[:8]}", f"{uuid.uuid4().hex[:8]}.example"
        first = await issued_for(account, host)
        async with agent_process(azurite, tmp_path / "key", instance) as one:
            assert await one.ready() == "ready\n"
            attacking = asyncio.create_task(merge_session(account, instance))
            new_host = f"new-{host}"
            new = await issued_for(account, new_host)
            async with asyncio.timeout(60):
                while await served_fingerprint(one.tls, new_host, timeout_s=5) != new:
                    assert await served_fingerprint(one.tls, host, timeout_s=5) == first
                    await asyncio.sleep(0.2)
            status, text = await one.asked("/readyz")
            assert status == 200
            assert f"id {instance} is in use elsewhere; runs as {instance}~" in text
            attacking.cancel()
        assert one.process.returncode == 0
        assert "Traceback" not in one.log

    async def test_start_while_their_row_is_rewritten(
        self, azurite: Emulator, account: Account, tmp_path: Path
    ) -> None:
        instance, host = f"row-{uuid.uuid4().hex[:8]}", f"{uuid.uuid4().hex[:8]}.example"
        expected = await issued_for(account, host)
        async with agent_process(azurite, tmp_path / "key", instance) as one:
            await one.ready()
            await one.kill()
        attacking = asyncio.create_task(merge_session(account, instance))
        async with agent_process(azurite, tmp_path / "key", instance) as one:
            text = await one.ready()
            assert await served_fingerprint(one.tls, host, timeout_s=5) == expected
        attacking.cancel()
        assert f"runs as {instance}~" in text

    async def test_with_one_id_on_one_machine_are_two_where_their_servers_are_two(
        self, azurite: Emulator, account: Account, tmp_path: Path
    ) -> None:
        instance, host = f"row-{uuid.uuid4().hex[:8]}", f"{uuid.uuid4().hex[:8]}.example"
        expected = await issued_for(account, host)
        async with (
            agent_process(azurite, tmp_path / "key", instance) as one,
            agent_process(azurite, tmp_path / "key", instance) as other,
        ):
            told = {await one.ready(), await other.ready()}
            assert len(told) == 2, "one has the id, the other says that it has not"
            for each in (one, other):
                assert await served_fingerprint(each.tls, host, timeout_s=5) == expected

    @pytest.mark.usefixtures("account")
    async def test_a_second_one_for_the_same_server_ends_and_says_why(self, azurite: Emulator, tmp_path: Path) -> None:
        instance = f"row-{uuid.uuid4().hex[:8]}"
        async with agent_process(azurite, tmp_path / "key", instance) as one:
            await one.ready()
            async with agent_process(azurite, tmp_path / "key", "another-id", port=one.tls[1]) as second:
                assert await second.ended() == 2
            assert f"cannot listen on 127.0.0.1, port {one.tls[1]}: another program has it" in second.log
            assert await one.ready() == "ready\n"

    @linux_only
    @pytest.mark.usefixtures("account")
    async def test_one_that_was_killed_keeps_no_other_from_its_server_or_id(
        self, azurite: Emulator, tmp_path: Path
    ) -> None:
        folder, instance = tmp_path / "files", f"row-{uuid.uuid4().hex[:8]}"
        files = {"CERTCAST_TARGET": "files", "CERTCAST_FILES_FOLDER": str(folder)}
        async with agent_process(azurite, tmp_path / "key", instance, env=files) as one:
            await one.ready()
            async with agent_process(azurite, tmp_path / "key", instance, env=files) as second:
                assert await second.ended() == 2
            assert f"it holds the lock {folder / '.agent.lock'}; stop that agent" in second.log
            await one.kill()
            async with agent_process(azurite, tmp_path / "key", instance, env=files) as third:
                assert await third.ready() == "ready\n", "under the same id, at once"
