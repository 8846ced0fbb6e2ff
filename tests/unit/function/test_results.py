"""From reports to a status: who is waited for, what counts, and that many reports at once cost no square of them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import CertcastError, UnavailableError
from shared.function.announcing import tell_all
from shared.function.cloud import Cloud
from shared.function.fanout import read_fleet
from shared.function.in_process import SETTLE_AFTER_S, Gathering, Later
from shared.function.intake import look_at
from shared.function.results import fold
from shared.function.settling import settle
from shared.function.sweep import sweep
from shared.messages import InstallOutcome, InstallReport, queue_of
from shared.state.records import REAP_AFTER, SILENT_AFTER, UploadRecord, UploadStatus
from shared.state.tags import status_tags
from shared.verdict import VerdictCode, Violation
from tests.fakes.edges import FakeStorage, Step
from tests.fakes.processes import Failing, Mortal, ProcessDiedError, StandingStill
from tests.fakes.virtual_time import Bursts, Interleaving, VirtualLoop, run
from tests.rigs.effort import examples
from tests.rigs.scenes import PASSWORD, Scene

HOST = "a.example.com"


async def platform(*names: str) -> Scene:
    """Instances, and one upload they were told of."""
    scene = Scene()
    await scene.join(*names)
    await scene.accepted("a.pfx", HOST)
    return scene


async def counts(scene: Scene, name: str = "a.pfx") -> tuple[UploadStatus, int, int]:
    record = await scene.record(name)
    return (record.status, record.live, record.total)


class TestStatus:
    async def test_is_live_only_when_every_expected_instance_has_proved_it(self) -> None:
        scene = await platform("i0", "i1", "i2")
        seen = [await counts(scene)]
        for name in ("i0", "i1", "i2"):
            scene.storage.clock.advance(1)
            await scene.everyone_obeys(name)
            seen.append(await counts(scene))
        accepted = UploadStatus.ACCEPTED
        assert seen == [(accepted, 0, 3), (accepted, 1, 3), (accepted, 2, 3), (UploadStatus.LIVE, 3, 3)]
        assert (await scene.record("a.pfx")).seconds_to_live == 3
        assert (await scene.tags("a.pfx"))["certcast_live"] == "3/3"

    async def test_is_live_only_when_every_host_is_proved(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("a.pfx", "a.example.com", "b.example.com")
        await scene.proves("i0", "b.example.com")
        assert await counts(scene) == (UploadStatus.ACCEPTED, 0, 1)
        await scene.proves("i0", "a.example.com")
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

    async def test_is_partially_live_with_the_reason_when_some_fail(self) -> None:
        scene = await platform("i0", "i1")
        await scene.obey("i0")
        await scene.everyone_obeys("i1", outcome=InstallOutcome.PROBE_MISMATCH, reason="the catch-all binding answers")
        assert await counts(scene) == (UploadStatus.PARTIALLY_LIVE, 1, 2)
        reason = (await scene.record("a.pfx")).reason
        assert reason == "instance i1, a.example.com:443: the catch-all binding answers"
        tags = await scene.tags("a.pfx")
        assert tags["certcast_status"] == "partially_live"
        assert tags["certcast_reason"] == "instance i1 a.example.com:443: the catch-all binding answers"

    @pytest.mark.parametrize("outcome", [InstallOutcome.FAILED, InstallOutcome.REFUSED, InstallOutcome.PROBE_MISMATCH])
    async def test_is_failed_with_the_reason_when_all_fail(self, outcome: InstallOutcome) -> None:
        scene = await platform("i0", "i1")
        await scene.everyone_obeys("i0", "i1", outcome=outcome)
        assert await counts(scene) == (UploadStatus.FAILED, 0, 2)
        assert outcome.value in (await scene.record("a.pfx")).reason

    async def test_is_not_decided_while_an_instance_is_still_at_work(self) -> None:
        scene = await platform("i0", "i1")
        await scene.everyone_obeys("i0", outcome=InstallOutcome.FAILED, reason="no room")
        assert await counts(scene) == (UploadStatus.ACCEPTED, 0, 2)
        assert "no room" in (await scene.record("a.pfx")).reason

    async def test_is_live_after_all_when_an_instance_succeeds_later(self) -> None:
        scene = await platform("i0")
        await scene.everyone_obeys("i0", outcome=InstallOutcome.FAILED)
        scene.storage.clock.advance(5)
        await scene.proves("i0", HOST)
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)
        assert (await scene.record("a.pfx")).reason == ""

    async def test_keeps_the_moment_it_became_live(self) -> None:
        scene = await platform("i0")
        scene.storage.clock.advance(2)
        await scene.everyone_obeys("i0")
        scene.storage.clock.advance(60)
        await scene.beat("i0")
        await scene.proves("i0", HOST)
        assert (await scene.record("a.pfx")).seconds_to_live == 2

    async def test_without_instances_says_that_there_are_none(self) -> None:
        scene = await platform()
        record = await scene.record("a.pfx")
        assert (record.status, record.total) == (UploadStatus.ACCEPTED, 0)
        assert record.reason.startswith("no running instance was registered for role * when this was last looked at")


class TestWhoIsWaitedFor:
    async def test_an_instance_that_went_silent_is_not(self) -> None:
        scene = await platform("i0", "i1")
        scene.storage.clock.advance(SILENT_AFTER.total_seconds() / 2)
        await scene.beat("i0")
        await scene.everyone_obeys("i0")
        assert await counts(scene) == (UploadStatus.ACCEPTED, 1, 2)
        scene.storage.clock.advance(SILENT_AFTER.total_seconds() / 2)
        await scene.proves("i0", HOST)
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

    async def test_an_instance_that_was_stopped_is_not(self) -> None:
        scene = await platform("i0", "i1")
        await scene.beat("i1", stopped=True)
        await scene.everyone_obeys("i0")
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

    @pytest.mark.parametrize("stopping", [("i1", "i0"), ("i0", "i1")])
    async def test_where_none_runs_any_more_what_each_said_last_stands(self, stopping: tuple[str, str]) -> None:
        scene = await platform("i0", "i1")
        await scene.obey("i0")
        await scene.everyone_obeys("i1", outcome=InstallOutcome.PROBE_MISMATCH, reason="the catch-all binding answers")
        for name in stopping:
            await scene.beat(name, stopped=True)
        await sweep(scene.cloud)
        assert (await scene.record("a.pfx")).status is UploadStatus.PARTIALLY_LIVE
        assert "the catch-all binding answers" in (await scene.record("a.pfx")).reason

    async def test_where_only_one_runs_that_joined_later_what_those_before_it_said_counts_no_more(self) -> None:
        scene = await platform("i0")
        await scene.everyone_obeys("i0", outcome=InstallOutcome.FAILED, reason="the server is down")
        await scene.join("late")
        await scene.proves("late", HOST)
        assert await counts(scene) == (UploadStatus.PARTIALLY_LIVE, 1, 2)
        await scene.beat("i0", stopped=True)
        await sweep(scene.cloud)
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

    async def test_an_instance_that_went_silent_for_good_is_found_out_by_the_sweep(self) -> None:
        scene = await platform("i0", "i1")
        await scene.everyone_obeys("i0")
        scene.storage.clock.advance(SILENT_AFTER.total_seconds())
        await scene.beat("i0")
        await sweep(scene.cloud)
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

    async def test_an_instance_that_was_reaped_is_not(self) -> None:
        scene = await platform("i0", "i1")
        await scene.everyone_obeys("i0")
        scene.storage.clock.advance(REAP_AFTER.total_seconds())
        await scene.beat("i0")
        await sweep(scene.cloud)
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)
        assert queue_of("i1") not in scene.storage.queues

    async def test_an_instance_that_joins_late_counts_once_it_serves_everything(self) -> None:
        scene = await platform("i0")
        await scene.everyone_obeys("i0")
        await scene.join("late")
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)
        await scene.proves("late", HOST)
        assert await counts(scene) == (UploadStatus.LIVE, 2, 2)

    async def test_an_instance_that_joins_late_and_fails_does_not_take_the_status_back(self) -> None:
        scene = await platform("i0")
        await scene.everyone_obeys("i0")
        await scene.join("late")
        await scene.proves("late", HOST, outcome=InstallOutcome.FAILED)
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

    async def test_the_first_instance_ever_makes_it_live(self) -> None:
        scene = await platform()
        await scene.join("i0")
        await scene.proves("i0", HOST)
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

    async def test_one_that_never_reports_is_given_up_in_the_end_and_named(self) -> None:
        scene = await platform("i0", "mute")
        await scene.everyone_obeys("i0")
        for _ in range(11):
            scene.storage.clock.advance(60)
            await scene.beat("i0", "mute")
            await sweep(scene.cloud)
        assert await counts(scene) == (UploadStatus.PARTIALLY_LIVE, 1, 2)
        assert "instance mute has reported nothing" in (await scene.record("a.pfx")).reason

    async def test_one_that_registers_while_a_report_is_being_entered_is(self, scene: Scene) -> None:
        await scene.join("i0")
        before_telling, before_entering = StandingStill("instances query"), StandingStill("installations insert")
        notice = await scene.upload("a.pfx", HOST)
        looking = asyncio.ensure_future(look_at(scene.seen_by(before_telling), notice))
        await before_telling.reached.wait()
        # Its row is written, and read by a reconcile before anybody is told of it.
        report = await scene.report("i0", [await scene.row(HOST)])
        entering = asyncio.ensure_future(fold(scene.seen_by(before_entering), report))
        await before_entering.reached.wait()
        await scene.join("i1")
        before_telling.go_on.set()
        await looking
        before_entering.go_on.set()
        await entering
        assert await counts(scene) == (UploadStatus.ACCEPTED, 1, 2)
        await scene.everyone_obeys("i1")
        assert await counts(scene) == (UploadStatus.LIVE, 2, 2)

    @pytest.mark.parametrize("came_back", [False, True])
    @pytest.mark.parametrize("after", ["upload", "removal"])
    async def test_one_that_came_after_the_instances_were_read_is(
        self, scene: Scene, after: str, *, came_back: bool
    ) -> None:
        await scene.join("i0")
        if came_back:
            await scene.join("i1")
            await scene.beat("i1", stopped=True)
        before = await read_fleet(scene.cloud)
        await (scene.beat if came_back else scene.join)("i1")
        await scene.accepted("a.pfx", HOST)
        if after == "removal":
            await scene.everyone_obeys("i0", "i1")
            await scene.handle(await scene.delete("a.pfx"))
        await scene.everyone_obeys("i0")
        await settle(scene.cloud, "a.pfx", fleet=before)
        record = await scene.record("a.pfx")
        assert (record.status is UploadStatus.REMOVED, record.live, record.total) == (after == "removal", 1, 2)

    async def test_one_that_reports_and_registered_after_the_instances_were_read_counts(self) -> None:
        scene = await platform("i0")
        await scene.everyone_obeys("i0")
        before = await read_fleet(scene.cloud)
        await scene.join("i1")
        await scene.proves("i1", HOST)
        await settle(scene.cloud, "a.pfx", fleet=before)
        assert await counts(scene) == (UploadStatus.LIVE, 2, 2)

    async def test_an_instance_of_another_role_is_not(self, scene: Scene) -> None:
        await scene.join("web0", role="web")
        await scene.join("api0", role="api")
        metadata = {"CertificatePassword": PASSWORD, "Role": "web"}
        await look_at(scene.cloud, await scene.upload("a.pfx", HOST, metadata=metadata))
        await scene.everyone_obeys("web0", "api0")
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

    async def test_an_instance_told_twice_reports_twice_and_counts_once(self) -> None:
        scene = await platform("i0", "i1")
        for _ in range(2):
            await scene.proves("i0", HOST)
        assert await counts(scene) == (UploadStatus.ACCEPTED, 1, 2)


class TestReportsOutOfOrder:
    async def test_a_late_report_of_an_older_generation_is_ignored(self) -> None:
        scene = await platform("i0")
        old = await scene.row(HOST)
        await scene.accepted("a.pfx", HOST, serial=1)
        await scene.everyone_obeys("i0")
        scene.storage.clock.advance(1)
        await scene.report("i0", [old], outcome=InstallOutcome.FAILED)
        await scene.fold()
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

    async def test_an_earlier_report_of_the_same_generation_is_ignored(self) -> None:
        scene = await platform("i0")
        row = await scene.row(HOST)
        failed = InstallReport(instance="i0", reports=(scene.outcome_of(row, InstallOutcome.FAILED),))
        scene.storage.clock.advance(1)
        succeeded = InstallReport(instance="i0", reports=(scene.outcome_of(row),))
        await fold(scene.cloud, succeeded)
        await fold(scene.cloud, failed)
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

    async def test_a_report_on_what_has_been_renewed_since_proves_nothing(self) -> None:
        scene = await platform("i0")
        old = await scene.row(HOST)
        await scene.accepted("a.pfx", HOST, serial=1)
        await scene.report("i0", [old])
        await scene.fold()
        assert await counts(scene) == (UploadStatus.ACCEPTED, 0, 1)

    async def test_a_report_about_an_unknown_upload_does_no_harm(self) -> None:
        scene = await platform("i0")
        stranger = replace(await scene.row(HOST), source="stranger.pfx")
        await scene.report("i0", [stranger])
        await scene.fold()
        assert await counts(scene) == (UploadStatus.ACCEPTED, 0, 1)


class TestRoles:
    @staticmethod
    async def upload_for(scene: Scene, role: str, name: str, *hosts: str, day: int = 0) -> None:
        metadata = {"CertificatePassword": PASSWORD, "Role": role}
        await look_at(scene.cloud, await scene.upload(name, *hosts, day=day, metadata=metadata))

    async def test_a_row_of_an_instances_role_overrides_the_one_for_all(self, scene: Scene) -> None:
        await scene.join("web0", role="web")
        await scene.join("api0", role="api")
        await self.upload_for(scene, "*", "all.pfx", HOST)
        await self.upload_for(scene, "web", "web.pfx", HOST)
        await scene.everyone_obeys("web0", "api0")
        assert await counts(scene, "web.pfx") == (UploadStatus.LIVE, 1, 1)
        assert await counts(scene, "all.pfx") == (UploadStatus.LIVE, 1, 1)

    async def test_an_instance_that_turned_to_its_roles_row_is_no_longer_counted_for_all(self, scene: Scene) -> None:
        await scene.join("web0", role="web")
        await scene.join("api0", role="api")
        await self.upload_for(scene, "*", "all.pfx", HOST)
        await scene.everyone_obeys("web0", "api0")
        assert await counts(scene, "all.pfx") == (UploadStatus.LIVE, 2, 2)
        await self.upload_for(scene, "web", "web.pfx", HOST)
        await scene.everyone_obeys("web0")
        assert await counts(scene, "web.pfx") == (UploadStatus.LIVE, 1, 1)
        assert await counts(scene, "all.pfx") == (UploadStatus.LIVE, 1, 1)

    async def test_a_role_row_that_is_new_is_not_live_before_it_is_proved(self, scene: Scene) -> None:
        """The instance's last report on that host is about the row for all: it proves nothing about the new one."""
        await scene.join("web0", role="web")
        await self.upload_for(scene, "*", "all.pfx", "a.example.com", "b.example.com")
        await scene.everyone_obeys("web0")
        await self.upload_for(scene, "web", "web.pfx", "a.example.com", "b.example.com")
        await scene.proves("web0", "b.example.com", role="web")
        assert await counts(scene, "web.pfx") == (UploadStatus.ACCEPTED, 0, 1)
        await scene.everyone_obeys("web0")
        assert await counts(scene, "web.pfx") == (UploadStatus.LIVE, 1, 1)

    async def test_the_removal_of_a_role_row_hands_the_host_back(self, scene: Scene) -> None:
        await scene.join("web0", role="web")
        await self.upload_for(scene, "*", "all.pfx", HOST)
        await self.upload_for(scene, "web", "web.pfx", HOST)
        await scene.everyone_obeys("web0")
        await look_at(scene.cloud, await scene.delete("web.pfx"))
        await scene.everyone_obeys("web0")
        assert await counts(scene, "web.pfx") == (UploadStatus.REMOVED, 0, 1)
        assert await counts(scene, "all.pfx") == (UploadStatus.LIVE, 1, 1)

    @pytest.mark.parametrize("order", [("web.pfx", "all.pfx"), ("all.pfx", "web.pfx")])
    async def test_the_removal_of_both_is_seen_to_the_end(self, order: tuple[str, str], scene: Scene) -> None:
        await scene.join("web0", role="web")
        await self.upload_for(scene, "*", "all.pfx", HOST)
        await self.upload_for(scene, "web", "web.pfx", HOST)
        await scene.everyone_obeys("web0")
        for name in order:
            scene.storage.clock.advance(1)
            await look_at(scene.cloud, await scene.delete(name))
            await scene.everyone_obeys("web0")
        for name in order:
            assert (await counts(scene, name))[:2] == (UploadStatus.REMOVED, 0)


class TestRemoval:
    async def test_counts_those_that_still_serve_it_and_names_what_keeps_them(self) -> None:
        scene = await platform("i0", "i1")
        await scene.everyone_obeys("i0", "i1")
        await look_at(scene.cloud, await scene.delete("a.pfx"))
        await scene.obey("i0", outcome=InstallOutcome.FAILED, reason="the file is locked")
        await scene.everyone_obeys("i1")
        record = await scene.record("a.pfx")
        assert (record.status, record.live) == (UploadStatus.REMOVED, 1)
        assert "the file is locked" in record.reason

    async def test_does_not_wait_for_the_silent(self) -> None:
        scene = await platform("i0", "i1")
        await scene.everyone_obeys("i0", "i1")
        await look_at(scene.cloud, await scene.delete("a.pfx"))
        scene.storage.clock.advance(SILENT_AFTER.total_seconds())
        await scene.beat("i0")
        await scene.everyone_obeys("i0")
        assert (await scene.record("a.pfx")).live == 0

    async def test_is_seen_to_the_end_when_another_upload_took_its_place_before_any_report(self) -> None:
        scene = await platform("i0")
        await scene.everyone_obeys("i0")
        await look_at(scene.cloud, await scene.delete("a.pfx"))
        await scene.accepted("b.pfx", HOST)
        await scene.everyone_obeys("i0")
        assert (await scene.record("a.pfx")).live == 0
        assert await counts(scene, "b.pfx") == (UploadStatus.LIVE, 1, 1)

    async def test_is_seen_to_the_end_when_what_takes_over_was_rejected_since_and_only_its_last_good_one_is_left(
        self,
    ) -> None:
        scene = await platform("i0")
        await scene.accepted("b.pfx", HOST, day=-5)
        await look_at(scene.cloud, await scene.upload("b.pfx", HOST, metadata={"CertificatePassword": "wrong"}))
        await scene.everyone_obeys("i0")
        await look_at(scene.cloud, await scene.delete("a.pfx"))
        await scene.everyone_obeys("i0")
        assert (await scene.row(HOST)).source == "b.pfx"
        assert (await scene.record("b.pfx")).status is UploadStatus.REJECTED
        assert (await scene.record("a.pfx")).live == 0

    async def test_of_two_uploads_one_after_the_other_is_seen_to_the_end_of_both(self) -> None:
        scene = await platform("i0")
        await scene.accepted("b.pfx", HOST, day=-5)
        await scene.everyone_obeys("i0")
        await look_at(scene.cloud, await scene.delete("a.pfx"))
        await look_at(scene.cloud, await scene.delete("b.pfx"))
        await scene.everyone_obeys("i0")
        await sweep(scene.cloud)
        assert (await scene.record("a.pfx")).live == 0
        assert (await scene.record("b.pfx")).live == 0

    async def test_leaves_the_tags_of_a_blob_that_came_after_alone(self) -> None:
        scene = await platform("i0")
        await scene.everyone_obeys("i0")
        await look_at(scene.cloud, await scene.delete("a.pfx"))
        await scene.upload("a.pfx", HOST)
        await scene.everyone_obeys("i0")
        assert await scene.tags("a.pfx") == {}


class TestManyReports:
    def test_of_a_hundred_instances_at_once_need_far_fewer_reads_than_their_square(self) -> None:
        number = 100

        async def work(loop: VirtualLoop) -> Counter[str]:
            scene = Scene(FakeStorage(loop.clock))
            names = [f"i{each:03}" for each in range(number)]
            await scene.join(*names)
            await scene.accepted("a.pfx", HOST)
            await scene.obey(*names)
            order = Interleaving(loop, lambda processes: processes[len(order.taken) * 7919 % len(processes)])
            steps: Counter[str] = Counter()

            async def counted(what: str, step: object) -> None:
                steps[what] += 1
                await step(what)  # type: ignore[operator]

            async def folding(report: InstallReport) -> None:
                step = order.step(report.instance)
                await fold(scene.seen_by(lambda what: counted(what, step)), report)

            await asyncio.gather(*(folding(report) for report in await scene.reports()))
            assert await counts(scene) == (UploadStatus.LIVE, number, number)
            assert (await scene.tags("a.pfx"))["certcast_live"] == f"{number}/{number}"
            return steps

        steps = run(work)
        assert steps["installations query"] < 3 * number
        assert steps["instances query"] < 3 * number
        assert steps["bindings get"] < 3 * number
        assert steps.total() < 20 * number

    @given(data=st.data())
    @settings(max_examples=examples(40), deadline=None)
    def test_at_once_in_any_order_are_all_counted_and_shown(self, data: st.DataObject) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = Scene(FakeStorage(loop.clock))
            names = ("i0", "i1", "i2", "i3")
            await scene.join(*names)
            await scene.accepted("a.pfx", "a.example.com", "b.example.com")
            outcomes = data.draw(st.lists(st.booleans(), min_size=4, max_size=4))
            for name, well in zip(names, outcomes, strict=True):
                await scene.obey(name, outcome=None if well else InstallOutcome.FAILED)
            order = Interleaving(loop, Bursts(data))
            reports = await scene.reports()
            await asyncio.gather(*(fold(scene.seen_by(order.step(each.instance), page=2), each) for each in reports))
            record = await scene.record("a.pfx")
            live = sum(outcomes)
            wanted = UploadStatus.LIVE if live == 4 else UploadStatus.PARTIALLY_LIVE if live else UploadStatus.FAILED
            assert (record.status, record.live, record.total) == (wanted, live, 4)
            assert await scene.tags("a.pfx") == status_tags(record)

        run(work)

    async def test_of_many_hosts_each_settle_every_upload_once(self, scene: Scene) -> None:
        await scene.join("i0")
        hosts = [f"h{number}.example.com" for number in range(40)]
        await scene.accepted("a.pfx", *hosts)
        await scene.obey("i0")
        watched = Mortal()
        scene.cloud = scene.seen_by(watched)
        await scene.fold()
        assert await counts(scene) == (UploadStatus.LIVE, 1, 1)
        assert watched.steps["installations query"] == 2 * len(hosts)  # to enter the reports, and to settle once


class TestInterruptions:
    async def test_a_fold_that_dies_anywhere_and_is_repeated_ends_as_one_that_lived(self) -> None:
        async def prepared() -> tuple[Scene, list[InstallReport]]:
            scene = await platform("i0", "i1")
            await scene.accepted("b.pfx", HOST, "b.example.com", day=-5)
            await scene.everyone_obeys("i0", "i1")
            await look_at(scene.cloud, await scene.delete("a.pfx"))
            await scene.everyone_obeys("i0")
            await scene.obey("i1")
            return scene, list(await scene.reports())

        dies_at, died = 0, True
        while died:
            dies_at += 1
            died = False
            scene, reports = await prepared()
            dying = scene.seen_by(Mortal(dies_at=dies_at))
            for report in reports:
                try:
                    await fold(dying, report)
                except ProcessDiedError:
                    died = True
            # The queue holds a message ten minutes after the process that took it died.
            scene.storage.clock.advance(600)
            await scene.beat("i0", "i1")
            for report in reports:
                await fold(scene.cloud, report)
            assert await counts(scene, "a.pfx") == (UploadStatus.REMOVED, 0, 2), dies_at
            assert await counts(scene, "b.pfx") == (UploadStatus.LIVE, 2, 2), dies_at
            assert await scene.tags("b.pfx") == status_tags(await scene.record("b.pfx"))
        assert dies_at > 5

    async def test_a_fold_that_a_service_fails_anywhere_is_made_good_when_the_message_comes_again(self) -> None:
        kinds = ("installations get", "installations insert", "uploads get", "uploads replace", "instances query")
        for kind in (*kinds, "installations query", "bindings get", "blob set_tags"):
            for nth in range(4):
                scene = await platform("i0")
                await scene.obey("i0")
                (report,) = await scene.reports()
                failing = Failing({kind: [*[None] * nth, UnavailableError(f"{kind} was not answered")]})
                try:
                    await fold(scene.seen_by(failing), report)
                except UnavailableError:
                    scene.storage.clock.advance(5)
                    await fold(scene.cloud, report)
                assert await counts(scene) == (UploadStatus.LIVE, 1, 1), (kind, nth)
                if kind == "blob set_tags":
                    await sweep(scene.cloud)
                assert (await scene.tags("a.pfx"))["certcast_live"] == "1/1", (kind, nth)

    async def test_a_live_upload_whose_settling_died_is_as_it_should_be_by_the_sweep(self) -> None:
        """It lost its host to another: no instance will report on it any more."""
        scene = await platform("i0")
        await scene.everyone_obeys("i0")
        row = await scene.row(HOST)
        await scene.outside.state.bindings.update(row.key, lambda _: replace(row, source="b.pfx", generation=2))
        scene.storage.clock.advance(60)
        await sweep(scene.cloud)
        assert (await scene.record("a.pfx")).status is UploadStatus.SUPERSEDED

    def test_a_run_that_took_too_long_does_not_overwrite_what_another_found(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = Scene(FakeStorage(loop.clock))
            await scene.join("i0", "i1")
            await scene.accepted("a.pfx", HOST)
            await scene.obey("i0")
            slow = asyncio.ensure_future(fold(scene.seen_by(late("uploads replace", 15)), (await scene.reports())[0]))
            await asyncio.sleep(1)
            await scene.everyone_obeys("i1")
            assert await counts(scene) == (UploadStatus.LIVE, 2, 2)
            await slow
            assert await counts(scene) == (UploadStatus.LIVE, 2, 2)
            assert (await scene.tags("a.pfx"))["certcast_live"] == "2/2"

        run(work)

    def test_a_deletion_in_the_moment_of_a_settling_is_not_written_over(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = Scene(FakeStorage(loop.clock))
            await scene.join("i0")
            await scene.accepted("a.pfx", HOST)
            await scene.obey("i0")
            settling = asyncio.ensure_future(
                fold(scene.seen_by(late("uploads replace", 15)), (await scene.reports())[0])
            )
            await asyncio.sleep(1)
            await look_at(scene.cloud, await scene.delete("a.pfx"))
            await settling
            record = await scene.record("a.pfx")
            assert (record.status, record.etag) == (UploadStatus.REMOVED, "deleted")

        run(work)


def late(kind: str, seconds: float) -> Step:
    """Steps of a process that stands still once, before the first step of this kind."""
    stood = False

    async def step(what: str) -> None:
        nonlocal stood
        if what == kind and not stood:
            stood = True
            await asyncio.sleep(seconds)

    return step


class TestWhenAStatusIsDerived:
    """With a second's wait, as the Function has it; the other tests derive it at each report."""

    def test_one_report_of_three_is_shown_after_a_second_and_the_last_at_once(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = await waiting_scene(loop, "i0", "i1", "i2")
            seen = []
            for name in ("i0", "i1", "i2"):
                await scene.everyone_obeys(name)
                seen.append(await counts(scene))
                await asyncio.sleep(SETTLE_AFTER_S + 0.1)
                seen.append(await counts(scene))
            accepted, live = UploadStatus.ACCEPTED, UploadStatus.LIVE
            assert seen == [
                *((accepted, 0, 3), (accepted, 1, 3)),
                *((accepted, 1, 3), (accepted, 2, 3)),
                *((live, 3, 3), (live, 3, 3)),
            ]

        run(work)

    def test_a_failure_is_shown_at_once(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = await waiting_scene(loop, "i0", "i1")
            await scene.everyone_obeys("i0", outcome=InstallOutcome.FAILED, reason="no room")
            assert "no room" in (await scene.record("a.pfx")).reason

        run(work)

    def test_a_report_that_comes_before_the_upload_is_entered_is_not_lost(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = await waiting_scene(loop, "i0")
            record = await scene.record("a.pfx")
            await scene.outside.state.uploads.update(
                "a.pfx", lambda r: r and replace(r, status=UploadStatus.RECEIVED, expected=())
            )
            await scene.everyone_obeys("i0")
            await scene.outside.state.uploads.update("a.pfx", lambda _: record)
            await asyncio.sleep(SETTLE_AFTER_S + 0.1)
            assert await counts(scene) == (UploadStatus.LIVE, 1, 1)

        run(work)

    def test_a_hundred_reports_at_once_are_entered_together(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            names = [f"i{number:02}" for number in range(100)]
            scene = await waiting_scene(loop, *names)
            await scene.obey(*names)
            watched = Mortal()
            function = replace(scene.seen_by(watched), later=Later())
            await asyncio.gather(*(fold(function, report) for report in await scene.reports()))
            assert await counts(scene) == (UploadStatus.LIVE, 100, 100)
            assert watched.steps["installations insert"] == 100
            assert watched.steps.total() < 130

        run(work)

    def test_three_that_bring_the_last_word_at_once_do_not_have_it_settled_three_times(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            names = ("i0", "i1", "i2")
            scene = await waiting_scene(loop, *names)
            await scene.obey(*names)
            watched = Mortal()
            entered = asyncio.Barrier(len(names))

            async def step(what: str) -> None:
                watched.steps[what] += 1
                if what == "installations insert":
                    await entered.wait()  # so that each finds that all have reported

            function = replace(scene.seen_by(step), later=Later(), reports=Apart())
            await asyncio.gather(*(fold(function, report) for report in await scene.reports()))
            assert await counts(scene) == (UploadStatus.LIVE, 3, 3)
            assert watched.steps["uploads get"] <= 2

        run(work)

    @pytest.mark.parametrize("error", [UnavailableError("busy"), CertcastError("refused"), RuntimeError("odd")])
    def test_one_report_that_cannot_be_entered_fails_alone(self, error: Exception) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = await waiting_scene(loop, "i0", "i1", "i2")
            await scene.obey("i0", "i1", "i2")
            function = replace(scene.seen_by(Failing({"installations insert": [error]})), later=Later())
            await asyncio.gather(*(fold(function, each) for each in await scene.reports()))
            assert await counts(scene) == (UploadStatus.LIVE, 3, 3)

        run(work)

    def test_one_that_no_table_can_hold_keeps_none_of_its_batch_from_being_entered(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = await waiting_scene(loop, "i0", "i1", "i2")
            await scene.obey("i0", "i1", "i2")
            reports = list(await scene.reports())
            [told] = reports[0].reports
            hostile = replace(reports[0], reports=(replace(told, host="\ud800.test"),))
            function = replace(scene.cloud, later=Later())
            folds = (fold(function, each) for each in (hostile, *reports))
            results = await asyncio.gather(*folds, return_exceptions=True)
            assert isinstance(results[0], Exception)
            assert results[1:] == [None, None, None]
            assert await counts(scene) == (UploadStatus.LIVE, 3, 3)

        run(work)

    def test_a_handler_that_is_cut_short_takes_no_other_with_it(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = await waiting_scene(loop, "i0", "i1")
            await scene.obey("i0", "i1")
            function = replace(scene.seen_by(late("instances query", 5)), later=Later())
            reports = await scene.reports()
            first, second = (asyncio.ensure_future(fold(function, each)) for each in reports)
            await asyncio.sleep(1)
            first.cancel()
            results = await asyncio.gather(first, second, return_exceptions=True)
            assert isinstance(results[0], asyncio.CancelledError)
            assert results[1] is None
            assert await counts(scene) == (UploadStatus.LIVE, 2, 2)

        run(work)


class Apart(Gathering[InstallReport, None]):
    """Enters each report by itself."""

    async def take_part(self, item: InstallReport, act: Callable[[Sequence[InstallReport]], Awaitable[None]]) -> None:
        await act([item])


async def waiting_scene(loop: VirtualLoop, *names: str) -> Scene:
    """A platform whose Function waits for further reports, with one upload that the instances were told of."""
    scene = Scene(FakeStorage(loop.clock))
    scene.cloud = replace(scene.cloud, later=Later())
    await scene.join(*names)
    await scene.accepted("a.pfx", HOST)
    return scene


class TestTags:
    @given(data=st.data())
    @settings(max_examples=examples(40), deadline=None)
    def test_follow_the_row_whatever_happens_to_it_between(self, data: st.DataObject) -> None:
        async def work(loop: VirtualLoop) -> None:
            scene = Scene(FakeStorage(loop.clock))
            await scene.accepted("a.pfx", HOST)
            order = Interleaving(loop, Bursts(data))

            async def changing(cloud: Cloud, live: int) -> None:
                update = await cloud.state.uploads.update(
                    "a.pfx", lambda record: replace(record, live=live, total=9) if record else None
                )
                await tell_all(cloud, update.held)

            await asyncio.gather(*(changing(scene.seen_by(order.step(str(each))), each) for each in range(3)))
            assert await scene.tags("a.pfx") == status_tags(await scene.record("a.pfx"))

        run(work)

    @given(st.text(max_size=600), st.sampled_from(UploadStatus))
    def test_have_only_characters_that_tags_may_have(self, text: str, status: UploadStatus) -> None:
        async def work(_: VirtualLoop) -> None:
            scene = Scene()
            await scene.upload("a.pfx", content=b"", metadata={})
            violation = Violation(code=VerdictCode.INVALID_HOST, detail=text)
            for reason in ("", text):
                record = UploadRecord(
                    name="a.pfx", revision=1, status=status, reason=reason, violations=(violation,), source_etag=text
                )
                assert await scene.outside.uploads.set_tags("a.pfx", status_tags(record))

        run(work)

    def test_name_the_version_that_they_are_about(self) -> None:
        record = UploadRecord(name="a.pfx", revision=1, status=UploadStatus.REJECTED, source_etag="0x8DC1")
        assert status_tags(record)["certcast_version"] == "0x8DC1"
