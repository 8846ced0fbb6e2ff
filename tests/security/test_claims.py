"""Hundreds of uploads for one host: none pushes another out, and what they cost is theirs to wait for."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.binding import ANY_ROLE, BindingKey
from shared.function.election import MAX_CLAIMS
from shared.function.intake import look_at, recheck
from shared.function.lanes import Lanes
from shared.function.sweep import sweep
from shared.messages import RECHECK_QUEUE, RecheckUpload, decode
from shared.state.records import UploadStatus
from shared.verdict import VerdictCode
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing, Mortal
from tests.fakes.storage import START
from tests.rigs.scenes import Scene
from tests.rigs.some import some

HOST = "a.example.com"
KEY = BindingKey(role=ANY_ROLE, host=HOST, port=443)


async def crowd(scene: Scene, count: int) -> None:
    """So many uploads for one host by strangers, each newer than the one before."""
    for number in range(count):
        scene.storage.clock.advance(1)
        await scene.looked_at(await scene.upload(f"mallory/{number:03}.pfx", HOST, day=-2))


class TestTheCap:
    async def test_no_claim_is_pushed_out_and_one_too_many_is_refused_with_a_reason(self, scene: Scene) -> None:
        await scene.accepted("rightful.pfx", HOST, day=-3)
        await crowd(scene, MAX_CLAIMS - 1)
        row = await scene.row(HOST)
        assert (len(row.claims), row.source) == (MAX_CLAIMS, f"mallory/{MAX_CLAIMS - 2:03}.pfx")
        refused = await scene.looked_at(await scene.upload("mallory/more.pfx", HOST))
        assert refused.status is UploadStatus.REJECTED
        [violation] = refused.violations
        assert violation.code is VerdictCode.TOO_MANY_CLAIMS
        assert f"200 uploads claimed {HOST}:443" in violation.detail
        assert some((await scene.row(HOST)).claim_of("mallory/more.pfx")).withdrawn_at is not None
        for number in range(MAX_CLAIMS - 1):
            await scene.looked_at(await scene.delete(f"mallory/{number:03}.pfx"))
        row = await scene.row(HOST)
        assert (row.present, row.source) == (True, "rightful.pfx")
        assert (await scene.record("rightful.pfx")).status is UploadStatus.ACCEPTED

    async def test_a_renewal_under_its_own_name_is_taken_however_crowded_the_host_is(self, scene: Scene) -> None:
        await scene.accepted("rightful.pfx", HOST, day=-3)
        await crowd(scene, MAX_CLAIMS - 1)
        renewed = await scene.accepted("rightful.pfx", HOST, day=-1)
        assert renewed.status is UploadStatus.ACCEPTED
        assert (await scene.row(HOST)).source == "rightful.pfx"

    async def test_of_an_upload_that_cannot_have_all_its_hosts_none_is_left(self, scene: Scene) -> None:
        await scene.accepted("mine.pfx", "mine.example.com", day=-3)
        await crowd(scene, MAX_CLAIMS)
        both = await scene.looked_at(await scene.upload("mine.pfx", "mine.example.com", "z.example.com", HOST, day=-1))
        assert [violation.code for violation in both.violations] == [VerdictCode.TOO_MANY_CLAIMS]
        assert both.reason.endswith("the certificate accepted before under this name stays in place")
        assert both.claims == (replace(KEY, host="mine.example.com"),)
        assert (await scene.row("mine.example.com")).source == "mine.pfx"
        assert not (await scene.row("z.example.com")).present
        assert (await sweep(scene.cloud)).problems == []
        assert not (await scene.row("z.example.com")).present

    async def test_where_there_is_room_again_as_many_are_taken_as_there_is_room_for_and_no_other_is_looked_at(
        self, scene: Scene
    ) -> None:
        await crowd(scene, MAX_CLAIMS)
        for number in range(4):
            scene.storage.clock.advance(1)
            await scene.looked_at(await scene.upload(f"late {number}.pfx", HOST, day=-9))
        assert (await sweep(scene.cloud)).looked_at == []
        await scene.looked_at(await scene.delete("mallory/007.pfx"))
        await scene.looked_at(await scene.delete("mallory/008.pfx"))
        report = await sweep(scene.cloud)
        assert sorted(report.looked_at) == ["late 0.pfx", "late 1.pfx"]
        statuses = [(await scene.record(f"late {number}.pfx")).status for number in range(4)]
        assert statuses == [UploadStatus.SUPERSEDED] * 2 + [UploadStatus.REJECTED] * 2
        assert (await sweep(scene.cloud)).looked_at == []

    async def test_what_expires_makes_room_for_what_was_refused(self, scene: Scene) -> None:
        await scene.accepted("ending.pfx", HOST, day=-30, lasts=31)
        await crowd(scene, MAX_CLAIMS - 1)
        await scene.looked_at(await scene.upload("late.pfx", HOST, day=-9))
        assert (await scene.record("late.pfx")).status is UploadStatus.REJECTED
        scene.storage.clock.advance(86_400)
        assert (await sweep(scene.cloud)).looked_at == ["late.pfx"]
        assert (await scene.record("late.pfx")).status is UploadStatus.SUPERSEDED


class TestTheWait:
    async def test_an_upload_for_a_crowded_host_costs_no_more_than_for_any_other(self) -> None:
        costs = []
        for others in (2, 150):
            scene = Scene(FakeStorage())
            await scene.join("web-0")
            await crowd(scene, others)
            watched = Mortal()
            scene.storage.clock.advance(1)
            await scene.beat("web-0")  # whether a silent instance is back would be asked once more
            await look_at(scene.seen_by(watched), await scene.upload("one more.pfx", HOST))
            costs.append(watched.steps.total())
        assert costs[1] == costs[0]

    async def test_only_the_first_and_the_winner_of_a_burst_move_the_row(self) -> None:
        scene = Scene(FakeStorage())
        await scene.join("web-0")
        notices = []
        for number in range(60):
            scene.storage.clock.advance(1)
            notices.append(await scene.upload(f"mallory/{number:02}.pfx", HOST))
        await asyncio.gather(*(scene.handle(notice) for notice in notices))
        while scene.storage.queues[RECHECK_QUEUE]:
            scene.storage.clock.advance(30)
            await asyncio.gather(*(recheck(scene.cloud, message) for message in await due(scene)))
        row = await scene.row(HOST)
        assert row.source == "mallory/59.pfx"
        assert len(await scene.told("web-0")) <= 12
        statuses = Counter([(await scene.record(f"mallory/{number:02}.pfx")).status for number in range(60)])
        assert statuses[UploadStatus.SUPERSEDED] == 59

    async def test_looks_at_one_version_at_once_are_one(self) -> None:
        scene = Scene(FakeStorage())
        notice = await scene.upload("a.pfx", HOST)
        await asyncio.gather(*(look_at(scene.cloud, notice) for _ in range(20)))
        assert (await scene.record("a.pfx")).revision == 1


async def due(scene: Scene) -> list[RecheckUpload]:
    found = []
    for message in await scene.outside.queues.receive(RECHECK_QUEUE, limit=32, visibility_s=60):
        found.append(decode(RecheckUpload, message.body or ""))
        await scene.outside.queues.done(RECHECK_QUEUE, message)
    return found


class TestLanes:
    async def test_the_highest_rank_that_waits_is_next_and_all_have_their_turn(self) -> None:
        lanes = Lanes()
        order: list[int] = []

        async def visit(number: int, *hosts: str) -> None:
            async with lanes.turn(hosts, (START + timedelta(days=number), START, "")):
                order.append(number)
                await asyncio.sleep(0.01)

        await asyncio.gather(*(visit(number, "a", "b") for number in (3, 1, 5, 2, 4)))
        assert order == [3, 5, 4, 2, 1]
        await asyncio.gather(visit(1, "a", "b"), visit(2, "b", "c"), visit(3, "c", "a"))
        assert sorted(order[5:]) == [1, 2, 3]

    async def test_one_that_gives_up_while_it_waits_keeps_nobody_out(self) -> None:
        lanes = Lanes()
        rank = (START, START, "")

        async def visit() -> None:
            async with lanes.turn(["a"], rank):
                await asyncio.sleep(0.05)

        visits = [asyncio.create_task(visit()) for _ in range(3)]
        await asyncio.sleep(0.01)
        visits[1].cancel()
        visits[0].cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        assert not visits[2].cancelled()
        await asyncio.wait_for(visit(), 1)


class TestIsolation:
    @pytest.mark.parametrize("step", ["blob download", "bundle seal", "uploads replace", "bindings insert"])
    async def test_one_uploads_unexpected_failure_stops_no_other_in_a_sweep(self, step: str) -> None:
        scene = Scene(FakeStorage())
        await scene.join("gone")
        scene.storage.clock.advance(3600)
        await scene.join("web-0")
        for number in range(3):
            await scene.upload(f"{number}.pfx", f"h{number}.example.com")
        failing = scene.seen_by(Failing({step: [RuntimeError("whatever")]}))
        report = await sweep(failing)
        assert len(report.problems) == 1
        assert report.reaped == ["gone"]
        assert len(report.looked_at) == 2
        assert (await sweep(scene.cloud)).problems == []
        for number in range(3):
            assert (await scene.record(f"{number}.pfx")).status is UploadStatus.ACCEPTED

    @pytest.mark.parametrize("step", ["queue delete", "uploads query", "bindings query", "installations query"])
    async def test_one_step_of_a_sweep_that_fails_leaves_the_others_to_be_taken(self, step: str) -> None:
        scene = Scene(FakeStorage())
        await scene.join("gone", "gone too")
        scene.storage.clock.advance(3600)
        await scene.upload("a.pfx", HOST)
        report = await sweep(scene.seen_by(Failing({step: [RuntimeError("whatever")]})))
        assert len(report.problems) == 1
        assert report.looked_at == ([] if step == "uploads query" else ["a.pfx"])
        assert set(report.reaped) >= ({"gone too"} if step == "queue delete" else {"gone", "gone too"})

    async def test_a_claim_that_no_upload_stands_behind_is_withdrawn(self, scene: Scene) -> None:
        await scene.accepted("rightful.pfx", HOST, day=-3)
        await scene.accepted("gone.pfx", HOST)
        known = some(await scene.outside.state.uploads.find("gone.pfx"))
        await scene.outside.state.uploads.remove("gone.pfx", known)
        assert (await sweep(scene.cloud)).looked_at == ["gone.pfx"], "its blob is there: it is taken for missed"
        known = some(await scene.outside.state.uploads.find("gone.pfx"))
        await scene.outside.uploads.delete("gone.pfx")
        await scene.outside.state.uploads.remove("gone.pfx", known)
        await sweep(scene.cloud)
        row = await scene.row(HOST)
        assert row.source == "rightful.pfx"
        assert (await scene.record("rightful.pfx")).status is UploadStatus.ACCEPTED
