"""What one process keeps in mind: batches, what is put off, locks, and what it read or wrote a short while ago."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from shared.binding import BindingKey
from shared.bounded import Locks, together, try_all
from shared.errors import UnavailableError
from shared.function.fanout import notify, read_fleet, recipients
from shared.function.in_process import Gathering, Later
from shared.function.recent import MOST_REPORTS, MOST_ROWS, Recent, Reports
from shared.function.results import fold
from shared.messages import RESULTS_QUEUE, BindingsChanged, InstallOutcome, decode, queue_of
from shared.state.records import UploadStatus
from shared.state.rows import Held
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing, Mortal
from tests.fakes.virtual_time import VirtualLoop, run
from tests.rigs.scenes import Scene

HOST = "a.example.com"


class TestGathering:
    def test_what_waits_meanwhile_is_done_together_and_each_has_the_result(self) -> None:
        async def work(_: VirtualLoop) -> None:
            gathering = Gathering[int, int](at_once=1)
            batches: list[list[int]] = []

            async def act(items: Sequence[int]) -> int:
                batches.append(sorted(items))
                await asyncio.sleep(1)
                return sum(items)

            async def later(item: int) -> int:
                await asyncio.sleep(0.5)
                return await gathering.take_part(item, act)

            results = await asyncio.gather(gathering.take_part(1, act), *map(later, (2, 3, 4)))
            assert batches == [[1], [2, 3, 4]]
            assert results == [1, 9, 9, 9]

        run(work)

    def test_what_a_batch_raises_each_part_raises_and_the_next_batch_is_none_the_worse(self) -> None:
        async def work(_: VirtualLoop) -> None:
            gathering = Gathering[int, int]()

            async def act(items: Sequence[int]) -> int:
                if 1 in items:
                    raise UnavailableError("away")
                return 0

            ended = await asyncio.gather(*(gathering.take_part(n, act) for n in (1, 2)), return_exceptions=True)
            assert [type(each) for each in ended] == [UnavailableError, UnavailableError]
            assert await gathering.take_part(3, act) == 0

        run(work)

    def test_a_part_that_is_given_up_while_it_waits_is_not_done(self) -> None:
        async def work(_: VirtualLoop) -> None:
            gathering = Gathering[int, None](at_once=1)
            done: list[int] = []

            async def act(items: Sequence[int]) -> None:
                await asyncio.sleep(1)
                done.extend(items)

            parts = [asyncio.ensure_future(gathering.take_part(n, act)) for n in (1, 2, 3)]
            await asyncio.sleep(0.1)
            late = asyncio.ensure_future(gathering.take_part(4, act))
            await asyncio.sleep(0.5)
            late.cancel()
            await asyncio.gather(*parts)
            await asyncio.sleep(2)
            assert (done, late.cancelled()) == ([1, 2, 3], True)

        run(work)

    @pytest.mark.parametrize("at_once", [1, 4])
    def test_a_part_that_comes_in_the_moment_in_which_the_last_batches_end_is_done(self, at_once: int) -> None:
        async def work(_: VirtualLoop) -> None:
            gathering, ended = Gathering[int, int](at_once), asyncio.Event()

            async def act(items: Sequence[int]) -> int:
                await ended.wait()
                return sum(items)

            async def part(item: int) -> int:
                return await gathering.take_part(item, act)

            async def in_that_moment(item: int) -> int:
                await ended.wait()  # as the batches do, which began to wait before
                return await part(item)

            begun = []
            for item in range(at_once):
                begun.append(asyncio.ensure_future(part(item)))
                await asyncio.sleep(0.1)
            late = asyncio.ensure_future(in_that_moment(9))
            await asyncio.sleep(0.1)
            ended.set()
            async with asyncio.timeout(60):
                assert await late == 9
            assert [await each for each in begun] == [*range(at_once)]

        run(work)


class TestLater:
    def test_is_done_once_and_not_where_it_was_called_off(self) -> None:
        async def work(_: VirtualLoop) -> None:
            later = Later(after_s=1)
            done: list[str] = []

            async def act() -> None:
                done.append("act")

            for name in ("a", "a", "b"):
                later.put_off(name, act)
            later.call_off("b")
            later.call_off("unknown")
            await asyncio.sleep(0.9)
            assert done == []
            await asyncio.sleep(0.2)
            assert done == ["act"]

        run(work)


class TestLocks:
    def test_of_one_name_wait_for_each_other_and_leave_nothing_behind(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            locks = Locks()
            order: list[tuple[str, float]] = []

            async def hold(name: str) -> None:
                async with locks.hold(name):
                    await asyncio.sleep(1)
                    order.append((name, loop.time()))

            waiting = asyncio.ensure_future(hold("a"))
            others = [asyncio.ensure_future(hold(name)) for name in ("a", "b")]
            await asyncio.sleep(0.5)
            waiting.cancel()
            await asyncio.gather(*others)
            assert order == [("b", 1.0), ("a", 1.5)]
            assert vars(locks) == {"_locks": {}, "_users": {}}

        run(work)


class TestAtTheSameTime:
    async def test_together_raises_after_both_came_to_rest(self) -> None:
        rested: list[str] = []

        async def fails() -> None:
            raise UnavailableError("first")

        async def rests() -> None:
            await asyncio.sleep(0)
            rested.append("second")

        with pytest.raises(UnavailableError, match="first"):
            await together(fails(), rests())
        assert rested == ["second"]

    async def test_all_are_tried_though_one_fails(self) -> None:
        tried: list[int] = []

        async def attempt(number: int) -> None:
            tried.append(number)
            if number == 1:
                raise UnavailableError("one")

        with pytest.raises(UnavailableError, match="one"):
            await try_all((attempt(number) for number in range(4)), limit=2)
        assert tried == [0, 1, 2, 3]


class TestHints:
    def test_that_are_due_at_one_moment_are_one_message_to_each_instance(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = Scene(FakeStorage(loop.clock))
            await scene.join("web-0", role="web")
            await scene.join("all-0")
            keys = [BindingKey(role=role, host=f"{n}.test", port=443) for n, role in enumerate(("*", "web", "api"))]
            fleet = await read_fleet(scene.cloud)
            await asyncio.gather(
                *(notify(scene.cloud, recipients(fleet, [key]), [key], traceparent=f"trace {key.role}") for key in keys)
            )
            told = {}
            for name in ("web-0", "all-0"):
                messages = scene.storage.queues[queue_of(name)].values()
                told[name] = [decode(BindingsChanged, message.body or "") for message in messages]
            assert told == {
                "web-0": [BindingsChanged(bindings=(keys[0], keys[1]), traceparent="trace *")],
                "all-0": [BindingsChanged(bindings=(keys[0],), traceparent="trace *")],
            }

        run(work)

    def test_that_an_instance_does_not_take_are_missed_by_it_alone(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = Scene(FakeStorage(loop.clock))
            await scene.join("a-0", role="a")
            await scene.join("b-0", role="b")
            deaf = scene.seen_by(Failing({"queue send": [UnavailableError("no answer")]}))
            keys = [BindingKey(role=role, host=f"{role}.test", port=443) for role in "ab"]
            fleet = await read_fleet(deaf)
            told = (notify(deaf, recipients(fleet, [key]), [key], traceparent="") for key in keys)
            assert await asyncio.gather(*told) == [("a-0",), ()]
            assert await scene.told("b-0") == [keys[1]]

        run(work)

    def test_the_instances_are_never_read_before_they_are_asked_for(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = Scene(FakeStorage(loop.clock))

            async def slow(what: str) -> None:
                if what == "instances query":
                    await asyncio.sleep(1)

            cloud = scene.seen_by(slow)
            early = [asyncio.ensure_future(read_fleet(cloud)) for _ in range(8)]
            await asyncio.sleep(0.5)
            late = asyncio.ensure_future(read_fleet(cloud))
            await asyncio.sleep(0.4)
            await scene.join("i0")
            await asyncio.gather(*early)
            assert "i0" in (await late).known

        run(work)


class TestRecent:
    async def test_what_another_process_entered_since_is_met_by_a_conflict_and_kept(self) -> None:
        scene = Scene()
        await scene.join("i0")
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("i0")
        elsewhere = scene.seen_by(Mortal())
        scene.storage.clock.advance(5)
        await scene.report("i0", [await scene.row(HOST)], outcome=InstallOutcome.FAILED)
        [report] = await scene.reports()
        await fold(elsewhere, report)
        assert (await scene.record("a.pfx")).status is UploadStatus.FAILED
        scene.storage.clock.advance(5)
        await scene.proves("i0", HOST)  # entered by the first process, which remembers what stood there before
        [entry] = await scene.outside.state.reports_on(HOST, 443)
        assert entry.finished_at == scene.storage.clock()
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE

    async def test_a_row_that_moved_elsewhere_is_read_again_for_a_report_on_it(self) -> None:
        scene = Scene()
        await scene.join("i0")
        await scene.accepted("a.pfx", HOST)
        elsewhere = scene.seen_by(Mortal())
        await scene.looked_at(await scene.upload("a.pfx", HOST, day=-1, serial=1), elsewhere)
        await scene.everyone_obeys("i0")  # on the generation that only the other process has written
        record = await scene.record("a.pfx")
        assert (record.status, record.live) == (UploadStatus.LIVE, 1)
        assert not scene.storage.queues[RESULTS_QUEUE]

    async def test_no_more_is_remembered_than_is_allowed(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", HOST)
        row, recent = await scene.row(HOST), Recent()
        for number in range(MOST_ROWS + 10):
            recent.see_row(replace(row, host=f"{number}.test"), is_new=True)
        names = [BindingKey(role="*", host=f"{number}.test", port=443) for number in range(MOST_ROWS + 10)]
        assert sum(recent.row(name) is not None for name in names) == MOST_ROWS
        assert sum(recent.knows_reports((name.host, 443)) for name in names) == MOST_ROWS
        many: Reports = {f"i{number}": Held(value=None, etag=None) for number in range(MOST_REPORTS)}
        recent.see_reports({("large.test", 443): many})
        assert not recent.knows_reports(("0.test", 443))
        recent.see_reports({("last.test", 443): {"i0": many["i0"]}})
        assert (recent.knows_reports(("large.test", 443)), recent.knows_reports(("last.test", 443))) == (False, True)
