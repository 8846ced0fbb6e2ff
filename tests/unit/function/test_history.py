"""The history: what becomes of an upload is entered once, whatever dies, fails or runs twice in between."""

import asyncio
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.errors import AccessDeniedError, NotSetUpError, UnavailableError
from shared.function.blob_event import Notice
from shared.function.expiry import ON_EXPIRY
from shared.function.history import LEFT_AFTER, with_entry
from shared.function.intake import look_at
from shared.function.redeploy import redeploy
from shared.function.remembering import MAX_FORGOTTEN
from shared.function.results import fold
from shared.function.settling import settle
from shared.function.sweep import sweep
from shared.messages import EventType, InstallReport
from shared.state.history import KEPT_FOR, MAX_PAST, HistoryEntry, HistoryKind
from shared.state.records import HISTORY_TABLE, UploadStatus
from tests.fakes.edges import FakeStorage, Step, unhindered
from tests.fakes.processes import Failing, Mortal, ProcessDiedError, StandingStill
from tests.fakes.storage import START
from tests.rigs.rows import report_on
from tests.rigs.scenes import Scene
from tests.unit.function.test_intake_interrupted import INSTANCES, Case, each_case, prepared

HOST = "a.example.com"
MISSING = NotSetUpError("the table itself is not there")


async def history(scene: Scene) -> list[HistoryEntry]:
    """The table's entries, oldest first."""
    entries = [known.value async for known in scene.outside.state.history.all()]
    return sorted(entries, key=lambda entry: entry.at)


async def kinds(scene: Scene, name: str = "a.pfx") -> list[str]:
    return [entry.kind.value for entry in await history(scene) if entry.name == name]


async def versions(scene: Scene) -> list[tuple[str, str]]:
    """Of a.pfx: what its entries say, and of which version."""
    return [(entry.kind.value, entry.version) for entry in await history(scene) if entry.name == "a.pfx"]


async def live(scene: Scene, *, day: float = -20) -> None:
    await scene.join("web-0")
    await scene.accepted("a.pfx", HOST, day=day)
    await scene.everyone_obeys("web-0")


@pytest.fixture
def scene() -> Scene:
    return scene_with()


def scene_with(step: Step = unhindered, *, scrub_password: bool = True) -> Scene:
    """A scene on whose clock each step of the Function takes a millisecond."""
    storage = FakeStorage()

    async def passing(what: str) -> None:
        storage.clock.advance(0.001)
        await step(what)

    return Scene(storage, passing, scrub_password=scrub_password)


def without_topic() -> Scene:
    scene = scene_with()
    scene.cloud = replace(scene.cloud, outlets=())
    return scene


class TestWhatIsEntered:
    async def test_an_upload_is_accepted_and_live(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("a.pfx", HOST)
        scene.storage.clock.advance(2)
        await scene.everyone_obeys("web-0")
        accepted, is_live = await history(scene)
        record = await scene.record("a.pfx")
        assert (accepted.kind, is_live.kind) == (HistoryKind.ACCEPTED, HistoryKind.LIVE)
        assert (accepted.version, is_live.version) == (record.source_etag, record.source_etag)
        assert (is_live.hosts, is_live.fingerprint_sha256) == ((HOST,), record.fingerprint_sha256)
        assert (is_live.at, is_live.seconds) == (record.live_at, record.seconds_to_live)
        assert record.past == ()

    async def test_what_other_services_are_told_is_entered_under_the_events_id(self, scene: Scene) -> None:
        await live(scene)
        await scene.accepted("a.pfx", HOST, day=-1)
        await scene.everyone_obeys("web-0")
        await redeploy(scene.cloud, "a.pfx")
        await scene.everyone_obeys("web-0")
        await scene.looked_at(await scene.delete("a.pfx"))
        await scene.everyone_obeys("web-0")
        entered = [(entry.id, entry.kind.event_type) for entry in await history(scene)]
        assert entered == [(event.event_id, event.kind) for event in scene.storage.published]
        assert {EventType.ACCEPTED, EventType.LIVE, EventType.REMOVED} == {kind for _, kind in entered}

    async def test_without_a_topic_the_same_is_entered(self) -> None:
        alone, told = without_topic(), scene_with()
        for scene in (alone, told):
            await live(scene)
            await scene.accepted("old.pfx", HOST, day=-50)
            await scene.looked_at(await scene.upload("bad.pfx", content=b"?", metadata={"CertificatePassword": "p"}))
            await scene.looked_at(await scene.delete("a.pfx"))
            await scene.everyone_obeys("web-0")
        for name in ("a.pfx", "old.pfx", "bad.pfx"):
            assert await kinds(alone, name) == await kinds(told, name) != []
        assert alone.storage.published == []
        assert (await alone.record("a.pfx")).due == ()

    async def test_a_certificate_in_place_of_another_is_a_renewal(self, scene: Scene) -> None:
        await live(scene)
        ends = some_end((await scene.record("a.pfx")).not_after)
        await scene.accepted("a.pfx", HOST, day=-1)
        [renewed] = [entry for entry in await history(scene) if entry.kind is HistoryKind.RENEWED]
        assert renewed.reason == f"in place of the certificate valid until {ends}"
        await scene.accepted("new.pfx", HOST)
        [takeover] = [entry for entry in await history(scene) if entry.name == "new.pfx"]
        assert (takeover.kind, takeover.reason) == (HistoryKind.RENEWED, "in place of a.pfx")
        assert (await kinds(scene))[-1] == "superseded"

    async def test_the_same_file_again_is_no_renewal(self, scene: Scene) -> None:
        await live(scene)
        await scene.accepted("a.pfx", HOST, day=-20)
        assert await kinds(scene) == ["accepted", "live", "live"]

    @pytest.mark.parametrize("scrub_password", [True, False])
    async def test_a_look_at_a_version_that_was_told_enters_nothing(self, *, scrub_password: bool) -> None:
        scene = scene_with(scrub_password=scrub_password)
        await live(scene)
        before = await history(scene)
        await look_at(scene.cloud, Notice(name="a.pfx", again=True))
        await scene.proves("web-0", HOST)
        assert await history(scene) == before

    async def test_a_rejection_tells_why_and_not_of_the_certificate_in_place(self, scene: Scene) -> None:
        await live(scene)
        scene.storage.clock.advance(60)
        notice = await scene.upload("a.pfx", content=b"?", metadata={"CertificatePassword": "p"})
        scene.storage.clock.advance(1.5)
        await scene.looked_at(notice)
        entry = (await history(scene))[-1]
        assert (entry.kind, entry.subject, entry.fingerprint_sha256, entry.not_after) == ("rejected", "", "", None)
        assert entry.reason.startswith("unreadable_bundle")
        assert entry.seconds == pytest.approx(1.5, abs=0.1)

    async def test_what_is_not_yet_valid_is_scheduled(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", HOST, day=3)
        [entry] = await history(scene)
        assert entry.kind is HistoryKind.SCHEDULED
        assert entry.seconds == pytest.approx(0, abs=0.1)
        assert entry.reason.startswith("valid from")

    async def test_a_removal_is_entered_when_no_instance_serves_it_any_more(self, scene: Scene) -> None:
        await live(scene)
        await scene.looked_at(await scene.delete("a.pfx"))
        assert (await kinds(scene))[-1] == "live"
        scene.storage.clock.advance(4)
        await scene.everyone_obeys("web-0")
        removed = (await history(scene))[-1]
        assert removed.kind is HistoryKind.REMOVED
        assert removed.seconds == pytest.approx(4, abs=0.1)

    async def test_a_drift_is_entered_once_with_where_it_was(self, scene: Scene) -> None:
        await live(scene)
        for _ in range(2):
            report = report_on(await scene.row(HOST), at=scene.storage.clock())
            drifted = replace(report, drifted_at=START + timedelta(seconds=1))
            scene.storage.clock.advance(5)
            await fold(scene.cloud, InstallReport(instance="web-0", reports=(drifted,)))
        [entry] = [each for each in await history(scene) if each.kind is HistoryKind.DRIFT_REPAIRED]
        assert (entry.instance, entry.at) == ("web-0", START + timedelta(seconds=1))
        assert "changed behind certcast's back" in entry.reason

    async def test_a_drift_that_is_derived_again_stands_there_once(self, scene: Scene) -> None:
        await live(scene)
        report = replace(report_on(await scene.row(HOST), at=scene.storage.clock()), drifted_at=scene.storage.clock())
        await fold(scene.cloud, InstallReport(instance="web-0", reports=(report,)))
        await scene.outside.state.uploads.update("a.pfx", lambda known: known and replace(known, drifted_at=None))
        scene.storage.clock.advance(1)
        await fold(scene.cloud, InstallReport(instance="web-0", reports=(replace(report, finished_at=START),)))
        assert (await kinds(scene)).count("drift_repaired") == 1

    async def test_installing_again_is_entered_once_and_leads_to_live(self, scene: Scene) -> None:
        await live(scene)
        scene.storage.clock.advance(60)
        await redeploy(scene.cloud, "a.pfx")
        await scene.everyone_obeys("web-0")
        assert await kinds(scene) == ["accepted", "live", "redeployed", "live"]

    @pytest.mark.parametrize("make", [scene_with, without_topic])
    async def test_a_warning_before_the_end_is_entered_with_the_certificate_in_place(
        self, make: Callable[[], Scene]
    ) -> None:
        scene = make()
        await live(scene)
        scene.storage.clock.advance(timedelta(days=69, hours=1).total_seconds())
        await scene.beat("web-0")
        await sweep(scene.cloud)
        await sweep(scene.cloud)
        entry = (await history(scene))[-1]
        assert (entry.kind, entry.reason) == (HistoryKind.EXPIRING, "ends in less than 1 day(s)")
        assert (await kinds(scene)).count("expiring") == 1
        assert (await scene.record("a.pfx")).warned_days != ON_EXPIRY

    async def test_a_row_of_a_version_without_history_is_live_since_it_was(self, scene: Scene) -> None:
        await live(scene)
        since = (await scene.record("a.pfx")).live_at
        scene.storage.tables[HISTORY_TABLE].clear()
        await scene.outside.state.uploads.update("a.pfx", lambda known: known and replace(known, announced=""))
        scene.storage.clock.advance(3_600)
        await scene.beat("web-0")
        await scene.proves("web-0", HOST)
        [entry] = await history(scene)
        assert (entry.kind, entry.at) == (HistoryKind.LIVE, since)


class TestOnceAndOnlyOnce:
    @each_case
    async def test_a_look_that_dies_anywhere_leaves_the_history_of_one_that_lived(self, case: Case) -> None:
        before, notice = await prepared(case)
        expected = await told_of(Scene(copy.deepcopy(before.storage)), notice)
        dies_at, died = 0, True
        while died:
            dies_at += 1
            died = False
            scene = Scene(copy.deepcopy(before.storage))
            try:
                await look_at(scene.seen_by(Mortal(dies_at=dies_at)), notice)
            except ProcessDiedError:
                died = True
            scene.storage.clock.advance(15)
            await scene.beat(*INSTANCES)
            assert await told_of(scene, notice) == expected, f"died at step {dies_at}"
        assert dies_at > 5

    async def test_what_a_process_leaves_after_the_last_look_is_written_by_the_sweep(self, scene: Scene) -> None:
        dies_at = 0
        while True:
            dies_at += 1
            scene = scene_with()
            await live(scene)
            scene.storage.clock.advance(5)
            await scene.looked_at(await scene.delete("a.pfx"))
            await scene.obey("web-0")
            life = Mortal(dies_at=dies_at)
            for report in await scene.reports():
                try:
                    await fold(scene.seen_by(life), report)
                except ProcessDiedError:
                    await fold(scene.cloud, report)  # its message is seen again
            scene.storage.clock.advance(LEFT_AFTER.total_seconds() + 60)
            await scene.beat("web-0")
            await sweep(scene.cloud)
            await sweep(scene.cloud)
            assert (await kinds(scene)) == ["accepted", "live", "removed"], f"died at step {dies_at}"
            assert (await scene.record("a.pfx")).past == ()
            if life.steps.total() < dies_at:
                break
        assert dies_at > 3

    @pytest.mark.parametrize("day", [-20, -1])
    @pytest.mark.parametrize("is_superseded", [True, False])
    async def test_what_is_settled_while_a_look_is_under_way_is_told_neither_twice_nor_in_place_of_its_verdict(
        self, scene: Scene, *, is_superseded: bool, day: float
    ) -> None:
        await live(scene)
        if is_superseded:
            await scene.accepted("other.pfx", HOST, day=-10)
        before = await versions(scene)
        notice, standing = await scene.upload("a.pfx", HOST, day=day), StandingStill("blob download")
        look = asyncio.create_task(look_at(scene.seen_by(standing), notice))
        await standing.reached.wait()
        await settle(scene.cloud, "a.pfx")
        assert await versions(scene) == before
        standing.go_on.set()
        await look
        await scene.everyone_obeys("web-0")
        record, since = await scene.record("a.pfx"), (await versions(scene))[len(before) :]
        assert {version for _, version in since} == {record.source_etag} != {before[-1][1]}
        assert since[-1][0] == record.status.value

    async def test_a_removal_after_one_that_was_told_is_told_too(self, scene: Scene) -> None:
        await live(scene)
        for _ in range(2):
            await scene.looked_at(await scene.delete("a.pfx"))
            await scene.everyone_obeys("web-0")
            await scene.looked_at(await scene.upload("a.pfx", HOST, metadata={}))
        assert await kinds(scene) == ["accepted", "live", "removed", "removed"]

    async def test_an_older_function_that_drops_what_waits_drops_nothing_that_was_written(self, scene: Scene) -> None:
        await live(scene)
        before = await history(scene)
        await scene.outside.state.uploads.update("a.pfx", lambda known: known and replace(known, past=()))
        scene.storage.clock.advance(120)
        await scene.beat("web-0")
        await sweep(scene.cloud)
        assert await history(scene) == before


class TestATableThatTakesNothing:
    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (MISSING, "create it (az storage table create"),
            (AccessDeniedError("refused"), "the sweep writes them: refused"),
            (UnavailableError("the service answered 503"), "the sweep writes them: the service answered 503"),
        ],
    )
    async def test_all_goes_on_and_entries_wait(
        self, error: Exception, said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        scene = scene_with(Failing({"history put": [error] * 100}))
        await live(scene)
        await scene.accepted("b.pfx", "b.example.com")
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE
        assert [entry.kind.value for entry in (await scene.record("a.pfx")).past] == ["accepted", "live"]
        assert [line for line in caplog.messages if line.startswith("history: ")] == [
            line for line in caplog.messages if said in line
        ]
        assert len([line for line in caplog.messages if said in line]) == 1
        scene.storage.clock.advance(120)
        await scene.beat("web-0")
        scene.cloud = scene.outside
        await sweep(scene.cloud)
        assert await kinds(scene) == ["accepted", "live"]
        assert (await scene.record("a.pfx")).past == ()

    async def test_a_sweep_finds_out_with_a_few_and_reports_no_problem(self) -> None:
        step = Failing({"history put": [MISSING] * 1_000, "history query": [MISSING] * 1_000})
        scene = scene_with(step)
        for number in range(30):
            await scene.accepted(f"{number}.pfx", f"{number}.example.com")
        scene.storage.clock.advance(120)
        tries = len(step.errors["history put"])
        report = await sweep(scene.cloud)
        assert report.problems == []
        assert 0 < tries - len(step.errors["history put"]) <= 8

    async def test_the_last_twenty_of_an_upload_wait(self, scene: Scene) -> None:
        await live(scene)
        record = await scene.record("a.pfx")
        [entry, *_] = await history(scene)
        for number in range(MAX_PAST + 1):
            record = with_entry(record, replace(entry, id=str(number), at=START + timedelta(hours=number)))
        assert [each.id for each in record.past] == [str(number) for number in range(1, MAX_PAST + 1)]

    async def test_without_a_table_nothing_is_dropped_before_that(self) -> None:
        scene = scene_with(Failing({"history put": [MISSING] * 100}))
        await live(scene)
        for _ in range(8):
            scene.storage.clock.advance(60)
            await scene.beat("web-0")
            await redeploy(scene.cloud, "a.pfx")
            await scene.everyone_obeys("web-0")
        scene.storage.clock.advance(120)
        scene.cloud = scene.outside
        await sweep(scene.cloud)
        assert await kinds(scene) == ["accepted", "live", *["redeployed", "live"] * 8]


class TestWhatIsForgotten:
    async def test_days_that_are_kept_no_more_are_deleted(self, scene: Scene) -> None:
        await live(scene)
        scene.storage.clock.advance(timedelta(days=60).total_seconds())
        await scene.accepted("a.pfx", HOST, day=59)
        scene.storage.clock.advance((KEPT_FOR - timedelta(days=60)).total_seconds())
        await sweep(scene.cloud)
        assert (await kinds(scene))[:2] == ["accepted", "live"], "the ninetieth day is kept"
        scene.storage.clock.advance(timedelta(days=1).total_seconds())
        await sweep(scene.cloud)
        assert (await kinds(scene))[0] == "renewed"

    async def test_more_than_one_sweep_deletes_is_left_to_the_next(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert MAX_FORGOTTEN == 5_000
        monkeypatch.setattr("shared.function.remembering.MAX_FORGOTTEN", 10)
        old = HistoryEntry(id="0", at=START - timedelta(days=200), kind=HistoryKind.LIVE, name="a.pfx")
        await fill(scene.storage, [replace(old, id=str(number)) for number in range(25)])
        for left in (15, 5, 0):
            report = await sweep(scene.cloud)
            assert len(await history(scene)) == left
            assert report.forgotten == (10 if left else 5)


async def told_of(scene: Scene, notice: Notice) -> list[tuple[str, str, str, str]]:
    """What the table tells once a look was made, every instance has done what it was told, and a sweep came by."""
    await look_at(scene.cloud, notice)
    await scene.everyone_obeys(*INSTANCES)
    scene.storage.clock.advance(LEFT_AFTER.total_seconds())
    await scene.beat(*INSTANCES)
    await sweep(scene.cloud)
    found = [(each.name, each.kind.value, each.version, each.fingerprint_sha256) for each in await history(scene)]
    return sorted(found)


def some_end(instant: object) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


async def fill(storage: FakeStorage, entries: Sequence[HistoryEntry]) -> None:
    state = storage.state()
    for entry in entries:
        await state.history.overwrite((entry.at, entry.id), entry)
