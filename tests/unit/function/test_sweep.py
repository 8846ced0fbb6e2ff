"""What a sweep finds by comparing, what it leaves alone, and what happens between its reading and its acting."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.errors import HeldError
from shared.function.cloud import Cloud
from shared.function.forgetting import ABSENT_KEEP
from shared.function.sweep import MAX_FAILED, MAX_STRAYS, RESEND_AFTER, sweep
from shared.function.sweep_report import SweepReport
from shared.messages import InstallOutcome, queue_of
from shared.state.keys import installation_key
from shared.state.records import INSTALLATIONS_TABLE, REAP_AFTER, InstallationRecord, UploadRecord, UploadStatus
from shared.state.wholeness import WHOLENESS
from tests.fakes.processes import Failing, Mortal, StandingStill
from tests.rigs.scenes import Scene

HOST = "a.test"
HELD = HeldError("deleting: an immutability policy keeps it as it is")
FAILED = InstallOutcome.FAILED


async def served(scene: Scene, *hosts: str, outcomes: dict[str, InstallOutcome | None]) -> UploadRecord:
    """An upload that instances were told of and have reported on."""
    await scene.join(*outcomes)
    await scene.accepted("a.pfx", *hosts)
    for name, outcome in outcomes.items():
        await scene.everyone_obeys(name, outcome=outcome, reason="the disk is full" if outcome else "")
    return await scene.record("a.pfx")


async def stands(scene: Scene, **changes: object) -> None:
    """Have an upload's row say something else than follows from the reports."""
    await scene.outside.state.uploads.update("a.pfx", lambda known: replace(known, **changes) if known else None)  # type: ignore[arg-type]


async def entered(scene: Scene, instance: str, **changes: object) -> None:
    """Have a report stand in the table that nothing was made of."""
    await scene.outside.state.installations.update(
        (HOST, 443, instance),
        lambda known: replace(known, **changes) if known else None,  # type: ignore[arg-type]
    )


@pytest.fixture(params=["in the first sweep of a process", "in a later one"])
async def sweeping(request: pytest.FixtureRequest, scene: Scene) -> Cloud:
    """A Function that is to sweep: once an hour it sees all reports, and otherwise those that may matter."""
    if "later" in request.param:
        await sweep(scene.cloud)
        scene.storage.clock.advance(60)
    return scene.cloud


class TestStatus:
    @pytest.mark.parametrize("hosts", [(HOST,), (HOST, "b.test")], ids=["one host", "two hosts"])
    @pytest.mark.parametrize("was", [UploadStatus.ACCEPTED, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED])
    async def test_one_that_all_have_proved_becomes_live(
        self, was: UploadStatus, hosts: tuple[str, ...], sweeping: Cloud, scene: Scene
    ) -> None:
        true = await served(scene, *hosts, outcomes={"web-0": None, "web-1": None})
        assert true.status is UploadStatus.LIVE
        await stands(scene, status=was, live=1, live_at=None)
        assert (await sweep(sweeping)).settled == ["a.pfx"]
        record = await scene.record("a.pfx")
        assert (record.status, record.live, record.total) == (UploadStatus.LIVE, 2, 2)
        assert (await sweep(sweeping)).settled == []

    async def test_a_live_one_at_which_an_instance_fails_is_live_no_more(self, sweeping: Cloud, scene: Scene) -> None:
        await served(scene, HOST, outcomes={"web-0": None, "web-1": None})
        await entered(scene, "web-1", outcome=FAILED, reason="the disk is full")
        assert (await sweep(sweeping)).settled == ["a.pfx"]
        record = await scene.record("a.pfx")
        assert (record.status, record.live) == (UploadStatus.PARTIALLY_LIVE, 1)
        assert "the disk is full" in record.reason
        assert (await scene.tags("a.pfx"))["certcast_live"] == "1/2"

    async def test_a_live_one_stays_so_for_an_instance_that_joined_later_and_fails(
        self, sweeping: Cloud, scene: Scene
    ) -> None:
        await served(scene, HOST, outcomes={"web-0": None})
        await scene.join("late")
        await scene.proves("late", HOST, outcome=FAILED)
        assert (await sweep(sweeping)).settled == []
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE

    async def test_a_failure_at_what_the_row_said_before_says_nothing(self, sweeping: Cloud, scene: Scene) -> None:
        await served(scene, HOST, outcomes={"web-0": None, "web-1": None})
        before = await scene.row(HOST)
        renewed = await scene.accepted("a.pfx", HOST, serial=1)
        await scene.everyone_obeys("web-0", "web-1")
        assert renewed.status is UploadStatus.ACCEPTED
        assert (await scene.row(HOST)).generation > before.generation
        await entered(scene, "web-1", outcome=FAILED, generation=before.generation)
        assert (await sweep(sweeping)).settled == []

    async def test_a_removed_one_that_all_have_let_go_of_is_counted_down(self, sweeping: Cloud, scene: Scene) -> None:
        await served(scene, HOST, outcomes={"web-0": None, "web-1": None})
        await scene.looked_at(await scene.delete("a.pfx"))
        await scene.everyone_obeys("web-0", "web-1")
        await stands(scene, live=1)
        assert (await sweep(sweeping)).settled == ["a.pfx"]
        assert (await scene.record("a.pfx")).live == 0

    @pytest.mark.parametrize("outcomes", [{"web-0": FAILED}, {"web-0": None, "web-1": FAILED}, {}])
    async def test_one_of_which_nothing_new_is_known_costs_no_request_of_its_own(
        self, outcomes: dict[str, InstallOutcome | None], scene: Scene
    ) -> None:
        record = await served(scene, HOST, outcomes=outcomes)
        assert record.status in {UploadStatus.FAILED, UploadStatus.PARTIALLY_LIVE, UploadStatus.ACCEPTED}
        await stands(scene, due=(), resent=True)
        report, steps = await swept(scene.cloud, scene)
        assert (report.settled, report.problems) == ([], [])
        assert steps.steps.pop("note seal") == 1, "once in five minutes it says that the tables are whole"
        assert {step.partition(" ")[2] for step in steps.steps} == {"query", "each"}
        assert steps.steps.total() == 7


async def swept(cloud: Cloud, scene: Scene) -> tuple[SweepReport, Mortal]:
    life = Mortal()
    return await sweep(replace(scene.seen_by(life), last_done=cloud.last_done)), life


class TestBetweenReadingAndActing:
    """Things that happen while a sweep stands still before one of its requests."""

    @staticmethod
    async def standing(scene: Scene, before: str) -> tuple[StandingStill, asyncio.Future[SweepReport]]:
        still = StandingStill(before)
        running = asyncio.ensure_future(sweep(scene.seen_by(still)))
        await asyncio.wait_for(still.reached.wait(), 5)
        return still, running

    @pytest.mark.parametrize("before", ["blob each", "bindings query", "instances query", "installations query"])
    async def test_an_upload_that_is_looked_at_meanwhile_is_left_alone(self, before: str, scene: Scene) -> None:
        await scene.join("web-0")
        still, running = await self.standing(scene, before)
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0")
        still.go_on.set()
        report = await running
        assert (report.problems, report.settled) == ([], [])
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE
        assert (await scene.row(HOST)).present

    async def test_an_instance_that_returns_is_not_reaped(self, scene: Scene) -> None:
        await scene.join("web-0")
        scene.storage.clock.advance(REAP_AFTER.total_seconds())
        still, running = await self.standing(scene, "instances get")
        await scene.beat("web-0")
        still.go_on.set()
        assert (await running).reaped == []
        assert queue_of("web-0") in scene.storage.queues

    async def test_a_host_that_is_claimed_again_keeps_its_row_and_its_reports(self, scene: Scene) -> None:
        await served(scene, HOST, outcomes={"web-0": None})
        await scene.looked_at(await scene.delete("a.pfx"))
        await scene.everyone_obeys("web-0")
        scene.storage.clock.advance(ABSENT_KEEP.total_seconds())
        await scene.beat("web-0")
        still, running = await self.standing(scene, "bindings get")
        await scene.accepted("b.pfx", HOST, day=29)
        await scene.everyone_obeys("web-0")
        still.go_on.set()
        await running
        assert (await scene.row(HOST)).source == "b.pfx"
        assert [report.instance for report in await scene.outside.state.reports_on(HOST, 443)] == ["web-0"]

    async def test_a_claim_that_was_lost_is_not_entered_for_an_upload_that_is_gone(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        await scene.accepted("a.pfx", HOST)
        key = (await scene.row(HOST)).key
        known = await scene.outside.state.bindings.find(key)
        assert known is not None
        await scene.outside.state.bindings.remove(key, known)
        still, running = await self.standing(scene, "instances query")
        await scene.looked_at(await scene.delete("a.pfx"))
        still.go_on.set()
        assert (await running).problems == []
        row = await scene.outside.state.bindings.get(key)
        assert row is None or not row.present
        assert "were lost" not in caplog.text

    async def test_reports_of_an_instance_that_returns_are_kept(self, scene: Scene) -> None:
        await served(scene, HOST, outcomes={"web-0": None})
        known = await scene.outside.state.instances.find("web-0")
        assert known is not None
        await scene.outside.state.instances.remove("web-0", known)
        scene.storage.clock.advance(timedelta(hours=2).total_seconds())
        still, running = await self.standing(scene, "instances get")
        await scene.join("web-0")
        still.go_on.set()
        assert (await running).forgotten == 0
        assert len(await scene.outside.state.reports_on(HOST, 443)) == 1


class TestWhatASweepLookedAt:
    async def test_is_not_compared_again_as_it_was_before(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("a.pfx", HOST)
        assert len(await scene.told("web-0")) == 1
        scene.storage.clock.advance(RESEND_AFTER.total_seconds())
        await scene.beat("web-0")
        await scene.upload("a.pfx", HOST, serial=1)
        report = await sweep(scene.cloud)
        assert (report.looked_at, report.settled) == (["a.pfx"], [])
        assert len(await scene.told("web-0")) == 1, "told by the look, and not once more for the upload before"

    async def test_and_what_it_took_over_is_right_in_the_end(self, scene: Scene) -> None:
        await served(scene, HOST, outcomes={"web-0": None})
        await scene.upload("b.pfx", HOST, day=1)
        scene.storage.clock.advance(86_400)
        await scene.beat("web-0")
        assert (await sweep(scene.cloud)).looked_at == ["b.pfx"]
        assert (await scene.record("a.pfx")).status is UploadStatus.SUPERSEDED
        assert (await scene.record("b.pfx")).status is UploadStatus.ACCEPTED


async def test_strays_are_deleted_in_portions_that_fit_into_memory(scene: Scene) -> None:
    await served(scene, HOST, outcomes={"web-0": None})
    table = scene.storage.tables[INSTALLATIONS_TABLE]
    [(_, stored)] = table.items()
    sample = (await scene.outside.state.reports_on(HOST, 443))[0]
    for number in range(MAX_STRAYS + 1):
        gone: InstallationRecord = replace(sample, instance=f"gone-{number}")
        key = installation_key((gone.host, gone.port, gone.instance))
        table[key] = replace(stored, columns={**stored.columns, "instance": gone.instance})
    scene.storage.clock.advance(timedelta(hours=2).total_seconds())
    await scene.beat("web-0")
    assert (await sweep(scene.cloud)).forgotten == MAX_STRAYS
    assert (await sweep(scene.cloud)).forgotten == 1
    assert len(table) == 1


class TestWhatCannotBeDeleted:
    async def removed(self, count: int) -> Scene:
        """Uploads that were removed so long ago that nothing needs their rows and bundles."""
        scene = Scene()
        for number in range(count):
            await scene.accepted(f"{number}.pfx", f"h{number}.test")
            await scene.looked_at(await scene.delete(f"{number}.pfx"))
        scene.storage.clock.advance(ABSENT_KEEP.total_seconds() + 1)
        return scene

    @pytest.mark.parametrize("kind", ["bindings delete", "uploads delete", "bundle delete"])
    async def test_stops_no_other_from_being(self, kind: str) -> None:
        scene = await self.removed(3)
        if kind == "bundle delete":
            await sweep(scene.outside)
        report = await sweep(scene.seen_by(Failing({kind: [HELD]})))
        assert [problem for problem in report.problems if str(HELD) in problem] == report.problems
        assert len(report.problems) == 1
        left: dict[str, Collection[object]] = {
            "bindings delete": scene.storage.tables["bindings"],
            "uploads delete": scene.storage.tables["uploads"],
            "bundle delete": scene.storage.bundles.keys() - {WHOLENESS},
        }
        assert len(left[kind]) == 1

    async def test_is_not_asked_for_thousands_of_times_where_all_are_refused(self) -> None:
        scene = await self.removed(5 * MAX_FAILED)
        await sweep(scene.outside)
        failing = Failing({"bundle delete": [HELD] * 1000})
        cloud = scene.seen_by(failing)
        assert len((await sweep(cloud)).problems) == MAX_FAILED
        scene.storage.clock.advance(60)
        assert (await sweep(cloud)).problems == [], "bundles are gone through once an hour"
        scene.storage.clock.advance(3600)
        failing.errors.clear()
        await sweep(cloud)
        assert set(scene.storage.bundles) == {WHOLENESS}
