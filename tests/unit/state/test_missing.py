"""Who does not serve an upload, by name, and how many do, as it is read."""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.function import status_api
from shared.function.results import fold
from shared.function.sweep import sweep
from shared.messages import InstallOutcome, InstallReport
from shared.state.document import status_document, upload_document
from shared.state.missing import REMARKED_FOR, Roll
from shared.state.records import REAP_AFTER, SILENT_AFTER, InstanceRecord, UploadRecord, UploadStatus
from shared.state.rows import Versioned
from shared.state.telling import with_reasons
from tests.fakes.storage import START
from tests.rigs.rows import registered, report_on
from tests.rigs.scenes import Scene

HOST = "a.example.com"


async def instances(scene: Scene) -> dict[str, Versioned[InstanceRecord]]:
    return {known.value.id: known async for known in scene.outside.state.instances.all()}


async def told(scene: Scene, name: str = "a.pfx") -> UploadRecord:
    """An upload as people are told of it."""
    record = await scene.record(name)
    [found] = await with_reasons(scene.outside.state, [record], scene.storage.clock(), instances=await instances(scene))
    return found


async def ready(scene: Scene, *names: str, role: str = "*", **others: object) -> None:
    """A heartbeat of instances that tried all they are to serve."""
    for name in names:
        row = replace(registered(name, role=role, at=scene.storage.clock(), ready=True), **others)  # type: ignore[arg-type]
        await scene.outside.state.instances.overwrite(name, row)


async def live_on(scene: Scene, *names: str) -> None:
    await scene.join(*names)
    await ready(scene, *names)
    await scene.accepted("a.pfx", HOST)
    await scene.everyone_obeys(*names)
    assert (await scene.record("a.pfx")).status is UploadStatus.LIVE


def numbers(record: UploadRecord) -> tuple[UploadStatus, int, int]:
    return (record.status, record.live, record.total)


class TestWhileItIsWaitedFor:
    async def test_an_instance_is_named_with_when_it_was_told_and_seen(self, scene: Scene) -> None:
        await scene.join("web-0", "web-1")
        await ready(scene, "web-0", "web-1")
        scene.storage.clock.advance(26)
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0")
        scene.storage.clock.advance(14)
        record = await told(scene)
        assert numbers(record) == (UploadStatus.ACCEPTED, 1, 2)
        assert record.reason == "web-1 has not proved it (told 14 s ago, last seen 40 s ago)"

    async def test_none_is_named_before_it_had_the_time_to(self, scene: Scene) -> None:
        await scene.join("web-0")
        await ready(scene, "web-0")
        await scene.accepted("a.pfx", HOST)
        record = await told(scene)
        assert (record.reason, record.missing) == ("", ("web-0",))

    async def test_three_of_many_are_named(self, scene: Scene) -> None:
        names = [f"web-{number}" for number in range(7)]
        await scene.join(*names)
        await ready(scene, *names)
        await scene.accepted("a.pfx", HOST)
        scene.storage.clock.advance(5)
        record = await told(scene)
        assert [name for name in names if f"{name} has not" in record.reason] == names[:3]
        assert record.reason.endswith(" and 4 more")
        assert record.missing == tuple(names)

    async def test_one_that_reported_a_failure_is_missing_too(self, scene: Scene) -> None:
        await scene.join("web-0", "web-1")
        await ready(scene, "web-0", "web-1")
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0")
        await scene.everyone_obeys("web-1", outcome=InstallOutcome.FAILED, reason="disk full")
        record = await told(scene)
        assert (record.status, record.missing) == (UploadStatus.PARTIALLY_LIVE, ("web-1",))
        assert upload_document(record)["missing"] == ["web-1"]
        assert (await scene.record("a.pfx")).missing == ()  # derived

    async def test_what_keeps_its_server_from_use_is_said(self, scene: Scene) -> None:
        await scene.join("web-0")
        await ready(scene, "web-0", trouble="nginx: \x1b[31munknown directive\x07")
        await scene.accepted("a.pfx", HOST)
        reason = (await told(scene)).reason
        assert "web-0 has not proved it: nginx: \N{REPLACEMENT CHARACTER}[31munknown directive" in reason
        await scene.everyone_obeys("web-0")
        assert (await told(scene)).reason == ""  # it has proved it, whatever is wrong there now

    async def test_one_that_goes_silent_meanwhile_is_named_so_until_it_is_reaped(self, scene: Scene) -> None:
        await scene.join("web-0", "web-1")
        await ready(scene, "web-0", "web-1")
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0")
        at = f"{scene.storage.clock():%H:%M:%S}"
        scene.storage.clock.advance(SILENT_AFTER.total_seconds())
        await ready(scene, "web-0")
        before = await told(scene)
        await sweep(scene.cloud)
        after = await told(scene)
        assert numbers(after) == (UploadStatus.LIVE, 1, 1)
        assert before.reason == after.reason == f"web-1 silent since {at} UTC and had not proved it"
        assert (await scene.record("a.pfx")).reason == ""
        scene.storage.clock.advance(REAP_AFTER.total_seconds())
        await ready(scene, "web-0")
        await sweep(scene.cloud)
        assert ((await told(scene)).reason, numbers(await told(scene))) == ("", (UploadStatus.LIVE, 1, 1))
        assert (before.missing, after.missing, (await told(scene)).missing) == (("web-1",), ("web-1",), ())

    async def test_one_that_comes_back_is_named_as_running_and_then_counted(self, scene: Scene) -> None:
        await self.test_one_that_is_told_and_silent(scene)
        scene.storage.clock.advance(5)
        await ready(scene, "web-0", "web-1")
        assert "web-1 has not proved it (told" in (await told(scene)).reason
        await scene.proves("web-1", HOST)
        assert ((await told(scene)).reason, numbers(await told(scene))) == ("", (UploadStatus.LIVE, 2, 2))

    async def test_it_is_named_also_where_another_that_was_told_is_silent(self, scene: Scene) -> None:
        await scene.join("web-0", "web-1")
        scene.storage.clock.advance(100)
        await ready(scene, "web-0")
        await scene.accepted("a.pfx", HOST)
        scene.storage.clock.advance(14)
        before = await told(scene)
        await sweep(scene.cloud)
        for record in (before, await told(scene)):
            assert numbers(record) == (UploadStatus.ACCEPTED, 0, 1)
            assert "web-0 has not proved it (told 14 s ago, last seen 14 s ago)" in record.reason
            assert "web-1 silent since " in record.reason

    async def test_one_that_is_told_and_silent(self, scene: Scene) -> None:
        await scene.join("web-0", "web-1")
        await ready(scene, "web-1")
        scene.storage.clock.advance(100)
        await ready(scene, "web-0")
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0")
        assert numbers(await told(scene)) == (UploadStatus.LIVE, 1, 1)
        assert "web-1 silent since" in (await told(scene)).reason


class TestWhatIsLive:
    async def test_counts_those_that_run_and_names_who_had_proved_it(self, scene: Scene) -> None:
        await live_on(scene, "web-0", "web-1", "web-2")
        await ready(scene, "web-1", stopped=True)
        at = f"{scene.storage.clock():%H:%M:%S}"
        scene.storage.clock.advance(180)
        await ready(scene, "web-0")
        record = await told(scene)
        assert numbers(record) == (UploadStatus.LIVE, 1, 1)
        assert record.reason == (
            f"web-1 stopped 3 min ago and had proved it before; web-2 silent since {at} UTC and had proved it before"
        )
        assert record.missing == ("web-1", "web-2")
        assert numbers(await scene.record("a.pfx")) == (UploadStatus.LIVE, 3, 3)  # no row is written for it

    async def test_names_one_that_had_been_stopped_when_the_others_were_told(self, scene: Scene) -> None:
        await scene.join("web-0", "web-2")
        await ready(scene, "web-2", stopped=True)
        scene.storage.clock.advance(180)
        await ready(scene, "web-0")
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0")
        record = await told(scene)
        assert numbers(record) == (UploadStatus.LIVE, 1, 1)
        assert record.reason == "web-2 stopped 3 min ago and had not been told"

    async def test_does_not_count_one_that_was_started_again_until_it_is_ready(self, scene: Scene) -> None:
        await live_on(scene, "web-0", "web-1")
        await ready(scene, "web-1", stopped=True)
        scene.storage.clock.advance(10)
        started = scene.storage.clock()
        await ready(scene, "web-1", ready=False, started_at=started)
        scene.storage.clock.advance(4)
        record = await told(scene)
        assert numbers(record) == (UploadStatus.LIVE, 1, 1)
        assert record.reason == "web-1 started 4 s ago and is not through with what it serves"
        await ready(scene, "web-1", ready=False, started_at=started, trouble="nginx: unknown directive")
        assert (await told(scene)).reason.endswith("is not through with what it serves: nginx: unknown directive")
        await ready(scene, "web-1", started_at=started)
        assert ((await told(scene)).reason, numbers(await told(scene))) == ("", (UploadStatus.LIVE, 2, 2))

    async def test_names_one_that_joined_and_has_not_proved_it_and_counts_it_then(self, scene: Scene) -> None:
        await live_on(scene, "web-0")
        scene.storage.clock.advance(5)
        await scene.join("web-1")
        assert (await told(scene)).reason == "web-1 registered after the others were told, and has not proved it"
        item = report_on(
            await scene.row(HOST), at=scene.storage.clock(), outcome=InstallOutcome.FAILED, reason="no room"
        )
        await fold(scene.cloud, InstallReport(instance="web-1", reports=(item,)))
        await ready(scene, "web-1")
        assert (await told(scene)).reason == "web-1 registered after the others were told, and has not proved it"
        scene.storage.clock.advance(1)
        await scene.proves("web-1", HOST)
        assert ((await told(scene)).reason, numbers(await told(scene))) == ("", (UploadStatus.LIVE, 2, 2))

    async def test_says_nothing_of_instances_of_other_roles_or_that_obey_their_own_roles_row(
        self, scene: Scene
    ) -> None:
        await live_on(scene, "web-0")
        await scene.join("silver-0", role="silver")
        await look_at_role(scene)
        await ready(scene, "silver-0", role="silver", stopped=True)
        assert (await told(scene)).reason == ""
        assert "silver-0 stopped" in (await told(scene, "silver.pfx")).reason
        assert "web-0" not in (await told(scene, "silver.pfx")).reason

    async def test_forgets_what_was_reaped(self, scene: Scene) -> None:
        await live_on(scene, "web-0", "web-1")
        scene.storage.clock.advance(REAP_AFTER.total_seconds() + 1)
        await ready(scene, "web-0")
        await sweep(scene.cloud)
        assert ((await told(scene)).reason, numbers(await told(scene))) == ("", (UploadStatus.LIVE, 1, 1))
        await scene.proves("web-0", HOST)
        assert numbers(await told(scene)) == (UploadStatus.LIVE, 1, 1)

    async def test_says_so_where_all_that_proved_it_were_reaped(self, scene: Scene) -> None:
        await live_on(scene, "web-0")
        scene.storage.clock.advance(REAP_AFTER.total_seconds() + 1)
        await sweep(scene.cloud)
        record = await told(scene)
        assert numbers(record) == (UploadStatus.LIVE, 0, 0)
        assert record.reason == "no instance that proved it is registered any more"

    async def test_is_told_alike_by_the_status_api(self, scene: Scene) -> None:
        await live_on(scene, "web-0", "web-1")
        await ready(scene, "web-1", stopped=True)
        [listed] = (await status_api.certificates(scene.outside)).document["uploads"]
        one = (await status_api.certificate(scene.outside, "a.pfx")).document
        for found in (listed, one):
            assert (found["live"], found["expected"]) == (1, 1)
            assert found["reason"] == "web-1 stopped 0 s ago and had proved it before"
        answer = (await status_api.instances(scene.outside)).document["instances"]
        assert {each["id"]: (each["state"], each["alive"]) for each in answer} == {
            "web-0": ("running", True),
            "web-1": ("stopped", False),
        }


async def look_at_role(scene: Scene) -> None:
    """An upload for the role `silver` takes the same host there."""
    notice = await scene.upload("silver.pfx", HOST, metadata={"CertificatePassword": "correct horse", "Role": "silver"})
    await scene.looked_at(notice)
    await scene.everyone_obeys("silver-0")


class TestWhatIsRemoved:
    async def test_names_who_has_not_let_go_of_it(self, scene: Scene) -> None:
        await live_on(scene, "web-0", "web-1")
        await scene.looked_at(await scene.delete("a.pfx"))
        await scene.everyone_obeys("web-0")
        scene.storage.clock.advance(14)
        record = await told(scene)
        assert (record.live, record.total) == (1, 2)
        assert record.reason == ("web-1 has not shown that it serves it no more (told 14 s ago, last seen 14 s ago)")
        assert record.missing == ("web-1",)

    async def test_stays_listed_while_one_that_went_silent_may_serve_it(self, scene: Scene) -> None:
        await live_on(scene, "web-0", "web-1")
        scene.storage.clock.advance(100)
        await ready(scene, "web-0")
        await scene.looked_at(await scene.delete("a.pfx"))
        await scene.everyone_obeys("web-0")
        assert (await scene.record("a.pfx")).live == 0
        record = await told(scene)
        assert record.reason.startswith("web-1 silent since ")
        assert record.reason.endswith(" and had not shown that it serves it no more")
        listed = status_document([record], [*(await instances(scene)).values()], now=scene.storage.clock())["uploads"]
        assert [each["name"] for each in listed] == ["a.pfx"]
        assert [each["name"] for each in (await status_api.certificates(scene.outside)).document["uploads"]] == [
            "a.pfx"
        ]
        await ready(scene, "web-1")
        await scene.everyone_obeys("web-1")
        assert (await told(scene)).reason == ""

    async def test_what_one_showed_when_it_came_back_is_known_where_another_upload_took_over(
        self, scene: Scene
    ) -> None:
        await scene.join("web-0", "web-1")
        await scene.looked_at(await scene.upload("older.pfx", HOST, day=-5))
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0", "web-1")
        scene.storage.clock.advance(100)
        await ready(scene, "web-0")
        await scene.looked_at(await scene.delete("a.pfx"))
        await scene.everyone_obeys("web-0")
        assert (await told(scene)).reason.startswith("web-1 silent since ")
        await ready(scene, "web-1")
        await scene.everyone_obeys("web-1")
        await ready(scene, "web-1", stopped=True)
        assert (await told(scene)).reason == ""

    async def test_is_served_by_none_that_was_reaped(self, scene: Scene) -> None:
        await live_on(scene, "web-0", "web-1")
        await scene.looked_at(await scene.delete("a.pfx"))
        assert (await told(scene)).live == 2
        for known in (await instances(scene)).values():
            await scene.outside.state.instances.remove(known.value.id, known)
        record = await told(scene)
        assert (record.live, record.reason) == (0, "")


class TestDrift:
    async def drifted(self, scene: Scene, reason: str = "") -> None:
        await live_on(scene, "web-0", "web-1")
        scene.storage.clock.advance(60)
        await ready(scene, "web-0", "web-1")
        now = scene.storage.clock()
        item = replace(report_on(await scene.row(HOST), at=now, reason=reason), drifted_at=now)
        await fold(scene.cloud, InstallReport(instance="web-1", reports=(item,)))

    async def test_is_told_for_a_day_while_it_is_live(self, scene: Scene) -> None:
        await self.drifted(scene)
        seen = scene.storage.clock()
        expected = f"instance web-1, {HOST}:443: changed behind certcast's back at {seen:%Y-%m-%d %H:%M} UTC; put right"
        record = await told(scene)
        assert (record.reason, record.drifted_at, record.status) == (expected, seen, UploadStatus.LIVE)
        assert (await scene.record("a.pfx")).reason == ""
        scene.storage.clock.advance(REMARKED_FOR.total_seconds())
        await ready(scene, "web-0", "web-1")
        assert (await told(scene)).reason == ""

    async def test_the_agents_own_words_are_taken(self, scene: Scene) -> None:
        await self.drifted(scene, "changed behind certcast's back at noon: served CN=x")
        assert (await told(scene)).reason.endswith(": changed behind certcast's back at noon: served CN=x")

    async def test_is_remembered_when_an_agent_that_does_not_know_of_it_reports_again(self, scene: Scene) -> None:
        await self.drifted(scene)
        seen = scene.storage.clock()
        scene.storage.clock.advance(5)
        await scene.proves("web-1", HOST)
        assert (await scene.record("a.pfx")).drifted_at == seen
        await scene.accepted("a.pfx", HOST, serial=1)
        await scene.everyone_obeys("web-0", "web-1")
        assert (await scene.record("a.pfx")).drifted_at is None  # that was another certificate

    async def test_is_known_also_where_its_report_comes_after_a_later_one(self, scene: Scene) -> None:
        await live_on(scene, "web-0")
        scene.storage.clock.advance(60)
        await ready(scene, "web-0")
        now, row = scene.storage.clock(), await scene.row(HOST)
        later, earlier = report_on(row, at=now), report_on(row, at=now - timedelta(seconds=1))
        for item in (later, replace(earlier, drifted_at=now - timedelta(seconds=1))):
            await fold(scene.cloud, InstallReport(instance="web-0", reports=(item,)))
        assert (await scene.record("a.pfx")).drifted_at == now - timedelta(seconds=1)

    async def test_what_a_proof_was_made_without_is_told_too(self, scene: Scene) -> None:
        await scene.join("web-0")
        await ready(scene, "web-0")
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0", outcome=InstallOutcome.LIVE, reason="bound, but not looked at: no listener")
        assert (await told(scene)).reason == f"instance web-0, {HOST}:443: bound, but not looked at: no listener"


class TestServed:
    """The two tables of `certcast status` never contradict each other."""

    async def columns(self, scene: Scene) -> tuple[list[tuple[int, int]], Mapping[str, int]]:
        known = await instances(scene)
        records = [each.value async for each in scene.outside.state.uploads.all()]
        now = scene.storage.clock()
        uploads = await with_reasons(scene.outside.state, records, now, instances=known)
        document = status_document(uploads, [*known.values()], now=now)
        return (
            [(each["live"], each["expected"]) for each in document["uploads"]],
            {each["id"]: each["bindings"] for each in document["instances"]},
        )

    async def test_is_counted_by_the_uploads_until_the_next_heartbeat(self, scene: Scene) -> None:
        await scene.join("web-0", "web-1")
        await ready(scene, "web-0", "web-1")
        scene.storage.clock.advance(1)
        await scene.accepted("a.pfx", HOST, "b.example.com")
        await scene.everyone_obeys("web-0")
        assert await self.columns(scene) == ([(1, 2)], {"web-0": 2, "web-1": 0})
        await scene.everyone_obeys("web-1")
        assert await self.columns(scene) == ([(2, 2)], {"web-0": 2, "web-1": 2})
        scene.storage.clock.advance(1)
        await ready(scene, "web-0", "web-1", bindings=2)
        scene.storage.clock.advance(1)
        await scene.looked_at(await scene.delete("a.pfx"))
        await scene.everyone_obeys("web-0", "web-1")
        assert await self.columns(scene) == ([], {"web-0": 0, "web-1": 0})


def test_ten_thousand_uploads_on_twenty_instances_are_told_of_in_a_moment() -> None:
    known = {
        name: Versioned(value=registered(name, ready=True, stopped=name == "web-19"), etag="1", written_at=START)
        for name in (f"web-{number}" for number in range(20))
    }
    record = UploadRecord(
        name="a.pfx", revision=1, status=UploadStatus.LIVE, live=20, total=20, won=1, expected=tuple(known)
    )
    roll = Roll(known, START + timedelta(seconds=5))
    began = time.process_time()
    for _ in range(10_000):
        seen = roll.as_seen(record)
    assert seen.live == 19
    assert time.process_time() - began < 5


@pytest.mark.parametrize("hours", [-30, 30])
async def test_what_an_instance_says_of_the_time_has_no_part_in_it(hours: int, scene: Scene) -> None:
    await live_on(scene, "web-0")
    await ready(scene, "web-0", last_seen=scene.storage.clock() + timedelta(hours=hours))
    assert ((await told(scene)).reason, numbers(await told(scene))) == ("", (UploadStatus.LIVE, 1, 1))


async def test_a_name_that_is_huge_and_odd_does_not_fill_a_reason(scene: Scene) -> None:
    await live_on(scene, "web-0")
    name = "\u202e\x07" + "x" * 5_000
    row = registered(name, stopped=True)
    known = {name: Versioned(value=row, etag="1", written_at=scene.storage.clock())}
    reason = Roll(await instances(scene) | known, scene.storage.clock()).as_seen(await scene.record("a.pfx")).reason
    assert reason.isprintable()
    assert len(reason) < 300
    assert reason.endswith("... stopped 0 s ago and had not been told")
