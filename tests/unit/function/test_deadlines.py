"""Work that takes long, under the deadline of each function: it is put off and goes on later, and holds up no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from shared.function import deadlines
from shared.function.cloud import Cloud
from shared.function.deadlines import EVENT_S, ITEM_S, LOOK_S, MESSAGE_S, SWEEP_ENDS_S, SWEEP_S
from shared.function.intake import handle_notice, recheck
from shared.function.recheck import RECHECK_DELAYS
from shared.function.sweep import sweep
from shared.function.sweep_report import in_turn
from shared.messages import RECHECK_QUEUE, RecheckUpload, decode, queue_of
from shared.ports import BlobContent, BlobVersion
from shared.state.records import UploadStatus
from shared.validation.tasks import Answer, Task
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import StandingStill
from tests.fakes.storage import START
from tests.rigs.deployment import ROOT
from tests.rigs.scenes import Scene
from tests.rigs.some import some
from tests.rigs.virtual_tests import on_virtual_time

HOST = "a.test"
EVENT_GRID_WAITS_S = 30


@dataclass
class Slow:
    """An edge of which one method takes long for some names."""

    edge: Any
    method: str
    seconds: float
    whose: Callable[[str], bool] = lambda _: True

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.edge, name)
        if name != self.method:
            return method

        async def slowly(*args: Any, **kwargs: Any) -> Any:
            if self.whose(args[0]):
                await asyncio.sleep(self.seconds)
            return await method(*args, **kwargs)

        return slowly


class Dear:
    """Judges for whom everything is dear."""

    async def judge(self, _task: Task, *, on_slow: Callable[[], Awaitable[None]] | None = None) -> Answer:
        await some(on_slow)()
        await asyncio.sleep(10_000)
        return Answer()


def slow_reading(scene: Scene, seconds: float, names: Callable[[str], bool] = lambda _: True) -> Cloud:
    cloud = scene.storage.cloud()
    return replace(cloud, uploads=Slow(cloud.uploads, "read", seconds, names))


async def rechecks(scene: Scene) -> list[RecheckUpload]:
    """The messages that ask for another look, taken as they become visible."""
    await asyncio.sleep(max(RECHECK_DELAYS.seconds))
    messages = await scene.outside.queues.receive(RECHECK_QUEUE, limit=32, visibility_s=60)
    for message in messages:
        await scene.outside.queues.done(RECHECK_QUEUE, message)
    return [decode(RecheckUpload, message.body or "") for message in messages]


async def took(work: Awaitable[object]) -> float:
    began = asyncio.get_running_loop().time()
    await work
    return asyncio.get_running_loop().time() - began


def test_the_deadlines_leave_the_hosts_own_limit_far_off() -> None:
    document = json.loads((ROOT / "host.json").read_text("utf-8"))
    assert document["functionTimeout"] == "00:05:00"
    assert EVENT_S + deadlines.GIVE_UP_S < EVENT_GRID_WAITS_S
    assert LOOK_S < MESSAGE_S < SWEEP_S + ITEM_S < SWEEP_ENDS_S < 300
    assert deadlines.ANSWER_S < 230


@on_virtual_time(lambda loop: Scene(FakeStorage(loop.clock)))
class TestAnEvent:
    async def test_that_takes_long_is_answered_in_time_and_goes_on_by_way_of_the_queue(self, scene: Scene) -> None:
        notice = await scene.upload("a.pfx", HOST)
        assert EVENT_S <= await took(handle_notice(slow_reading(scene, 40), notice)) < EVENT_GRID_WAITS_S
        record = await scene.record("a.pfx")
        assert (record.status, record.judging) == (UploadStatus.RECEIVED, "")
        assert record.reason == (
            "not done with yet, it is looked at again soon: this took longer than one look may, and waited for the "
            "container certificates"
        )
        [message] = await rechecks(scene)
        await recheck(scene.storage.cloud(), message)
        assert (await scene.record("a.pfx")).status is UploadStatus.ACCEPTED

    async def test_that_is_given_up_while_it_waits_to_be_judged_leaves_the_version_to_others(
        self, scene: Scene
    ) -> None:
        notice = await scene.upload("a.pfx", HOST)
        await handle_notice(replace(scene.storage.cloud(), judges=Dear()), notice)
        assert (await scene.record("a.pfx")).judging == ""
        [message] = await rechecks(scene)
        assert await took(recheck(replace(scene.storage.cloud(), judges=Dear()), message)) >= LOOK_S
        [again] = await rechecks(scene)
        assert (again.name, again.attempt) == ("a.pfx", 1)
        await recheck(scene.storage.cloud(), again)
        assert (await scene.record("a.pfx")).status is UploadStatus.ACCEPTED

    async def test_is_given_up_in_time_also_where_nothing_answers_any_more(self, scene: Scene) -> None:
        still = StandingStill("uploads replace")
        notice = await scene.upload("a.pfx", HOST)
        await scene.looked_at(notice)
        changed = await scene.upload("a.pfx", HOST, serial=1)
        handling = handle_notice(scene.seen_by(still), changed)
        assert await took(handling) < EVENT_GRID_WAITS_S
        [message] = await rechecks(scene)
        assert message.name == "a.pfx"


@on_virtual_time(lambda loop: Scene(FakeStorage(loop.clock)))
class TestASweep:
    async def test_ends_in_time_and_the_next_ones_go_on_until_all_is_done(self, scene: Scene) -> None:
        names = [f"{number:03}.pfx" for number in range(150)]
        for number, name in enumerate(names):
            await scene.upload(name, f"h{number}.test")
        cloud, done, sweeps = slow_reading(scene, 10), set[str](), 0
        while len(done) < len(names):
            sweeps += 1
            assert sweeps < 6
            assert await took(swept(cloud, done)) <= SWEEP_S + ITEM_S
            await asyncio.sleep(1)
        assert sweeps > 1
        assert {(await scene.record(name)).status for name in names} == {UploadStatus.ACCEPTED}

    async def test_gives_each_of_its_steps_some_time_whatever_the_first_one_finds(self, scene: Scene) -> None:
        await scene.accepted("old.pfx", HOST)
        await asyncio.sleep(80 * 86_400)
        for number in range(200):
            await scene.upload(f"{number:03}.pfx", f"h{number}.test")
        report = await sweep(slow_reading(scene, 20))
        assert report.left > 100
        assert report.warned == ["old.pfx"]

    async def test_is_not_kept_from_the_others_by_what_never_ends(self, scene: Scene) -> None:
        stuck = [f"a{number:02}.pfx" for number in range(60)]
        names = [f"b{number:02}.pfx" for number in range(20)]
        for number, name in enumerate(stuck + names):
            await scene.upload(name, f"h{number}.test")
        cloud, done = slow_reading(scene, 10_000, lambda name: name in stuck), set[str]()
        for _ in range(20):
            assert await took(swept(cloud, done)) <= SWEEP_S + ITEM_S
            await asyncio.sleep(60)
        assert done == set(names)

    async def test_reads_all_it_compares_and_then_does_something_at_least(self, scene: Scene) -> None:
        await scene.upload("a.pfx", HOST)
        cloud = scene.storage.cloud()
        cloud.state.bindings = Listing(cloud.state.bindings, SWEEP_S + 20)  # type: ignore[assignment]
        report = await sweep(cloud)
        assert report.looked_at == ["a.pfx"]

    async def test_goes_on_with_the_reports_behind_the_last_one_that_it_saw(self, scene: Scene) -> None:
        instances = [f"web-{number:02}" for number in range(20)]
        await scene.join(*instances)
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys(*instances)
        cloud = scene.storage.cloud()
        seen: list[str] = []
        cloud.state.installations = Passing(cloud.state.installations, seen, 10)  # type: ignore[assignment]
        sweeps = 0
        while sweeps == 0 or cloud.left_off:
            await sweep(cloud)
            sweeps += 1
        assert sweeps > 1
        assert seen == instances, "each once"


@on_virtual_time(lambda loop: Scene(FakeStorage(loop.clock)))
class TestOneThingThatDoesNotAnswer:
    async def test_being_the_tags_keeps_no_upload_from_its_end(self, scene: Scene) -> None:
        cloud = scene.storage.cloud()
        cloud = replace(cloud, uploads=Slow(cloud.uploads, "set_tags", 40))
        assert await took(handle_notice(cloud, await scene.upload("a.pfx", HOST))) <= 6
        record = await scene.record("a.pfx")
        assert (record.status, record.etag != "") == (UploadStatus.ACCEPTED, True)
        assert "CertificatePassword" not in await scene.metadata("a.pfx")
        assert record.tags_refused == "writing the tags of blob a.pfx: no answer in 5 s"
        await sweep(scene.storage.cloud())
        assert (await scene.tags("a.pfx"))["certcast_status"] == "accepted"

    async def test_being_the_metadata_leaves_the_password_to_the_sweep(self, scene: Scene) -> None:
        cloud = scene.storage.cloud()
        cloud = replace(cloud, uploads=Slow(cloud.uploads, "set_metadata", 200))
        assert await took(handle_notice(cloud, await scene.upload("a.pfx", HOST))) <= 11
        record = await scene.record("a.pfx")
        assert (record.status, record.etag != "") == (UploadStatus.ACCEPTED, True)
        assert record.password_left == "writing the metadata of blob a.pfx: no answer in 10 s"
        await sweep(scene.storage.cloud())
        assert "CertificatePassword" not in await scene.metadata("a.pfx")
        assert (await scene.record("a.pfx")).password_left == ""

    async def test_being_the_tags_keeps_no_warning_from_being_given(self, scene: Scene) -> None:
        names = [f"{number:02}.pfx" for number in range(60)]
        cloud = scene.storage.cloud()
        cloud = replace(cloud, uploads=Slow(cloud.uploads, "set_tags", 40))
        for number, name in enumerate(names):
            await handle_notice(cloud, await scene.upload(name, f"h{number}.test"))
        await asyncio.sleep(80 * 86_400)
        report = await sweep(cloud)
        assert sorted(report.warned) == names

    async def test_being_an_instances_queue_keeps_no_upload_from_its_end(self, scene: Scene) -> None:
        await scene.join("web-0", "web-1")
        cloud = slow_queue(scene, "web-0")
        assert await took(handle_notice(cloud, await scene.upload("a.pfx", HOST))) <= 6
        record = await scene.record("a.pfx")
        assert (record.status, record.untold) == (UploadStatus.ACCEPTED, ("web-0",))
        assert "CertificatePassword" not in await scene.metadata("a.pfx")
        assert len(await scene.told("web-1")) == 1

    async def test_being_an_instances_queue_keeps_a_sweep_from_telling_no_other(self, scene: Scene) -> None:
        await scene.join("web-0", "web-1")
        for number in range(60):
            await handle_notice(scene.storage.cloud(), await scene.upload(f"{number:02}.pfx", f"h{number}.test"))
        assert len(await scene.told("web-1")) == 32
        await scene.told("web-1")
        await asyncio.sleep(180)
        await sweep(slow_queue(scene, "web-0"))
        assert len(await scene.told("web-1")) + len(await scene.told("web-1")) == 60

    async def test_being_another_source_keeps_no_sweep_from_all_else(self, scene: Scene) -> None:
        await scene.upload("a.pfx", HOST)
        cloud = scene.storage.cloud()
        cloud = replace(cloud, sources={"keyvault": Silent(), "sql": Silent()})
        report = await sweep(cloud)
        assert report.looked_at == ["a.pfx"]
        assert report.problems == [f"certificate source {name}: not done in time" for name in ("keyvault", "sql")]


class Silent:
    """A certificate source that never answers."""

    async def version(self, name: str) -> BlobVersion | None:
        await asyncio.sleep(10_000)
        raise AssertionError(name)

    async def read(self, name: str, *, max_bytes: int) -> BlobContent | None:
        raise AssertionError((name, max_bytes))

    async def each(self) -> AsyncIterator[BlobVersion]:
        yield some(await self.version("any"))


def slow_queue(scene: Scene, instance: str) -> Cloud:
    cloud = scene.storage.cloud()
    return replace(cloud, queues=Slow(cloud.queues, "send", 40, lambda queue: queue == queue_of(instance)))


async def swept(cloud: Cloud, done: set[str]) -> None:
    done.update((await sweep(cloud)).looked_at)


class Listing:
    """A table of which listing takes long."""

    def __init__(self, table: Any, seconds: float) -> None:
        self._table, self._seconds = table, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    async def all(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self._seconds)
        async for known in self._table.all(*args, **kwargs):
            yield known


class Passing(Listing):
    """A table of reports that pass by slowly, where all of them do."""

    def __init__(self, table: Any, seen: list[str], seconds: float) -> None:
        super().__init__(table, seconds)
        self._seen = seen

    async def all(self, partition: str | None = None, **kwargs: Any) -> Any:
        async for known in self._table.all(partition, **kwargs):
            if partition is None:
                await asyncio.sleep(self._seconds)
                self._seen.append(known.value.instance)
            yield known


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64, 500])
def test_whatever_the_number_each_item_comes_early_in_some_minute_soon(count: int) -> None:
    items = list(range(count))
    orders = [in_turn(items, START + timedelta(minutes=minute)) for minute in range(max(8, count // 3))]
    assert all(sorted(order) == items for order in orders)
    assert {item for order in orders for item in order[:8]} == set(items)
