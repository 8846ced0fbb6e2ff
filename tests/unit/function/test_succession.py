"""Certificates that end: another upload takes over in time, whatever becomes of the sweep that sees to it."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import pytest

from shared.binding import BindingKey
from shared.errors import CertcastError, UnavailableError
from shared.function.election import LEAD, elected_again, next_generation
from shared.function.expiry import ON_EXPIRY
from shared.function.sweep import RESEND_AFTER, sweep
from shared.messages import EventType
from shared.state.records import UploadStatus
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing, Mortal, ProcessDiedError, StandingStill
from tests.rigs.scenes import Scene, issued

HOST = "a.test"
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
ENDS_ON = -1 + 60
"""Day of the run on which `ending.pfx` ends, which is valid from a later day than `lasting.pfx`."""
FINGERPRINTS = {
    "ending.pfx": issued(HOST, day=-1, lasts=60).fingerprint,
    "lasting.pfx": issued(HOST, day=-9, lasts=365).fingerprint,
}
ENDS = issued(HOST, day=-1, lasts=60).certificate.not_valid_after_utc


async def both(scene: Scene, *instances: str) -> None:
    """One upload that is served, and ends long before the one that waits behind it."""
    await scene.join(*instances)
    await scene.accepted("ending.pfx", HOST, day=-1, lasts=60)
    await scene.accepted("lasting.pfx", HOST, day=-9, lasts=365)
    await scene.everyone_obeys(*instances)
    assert (await scene.row(HOST)).source == "ending.pfx"
    scene.storage.published.clear()


async def at(scene: Scene, before_end: timedelta, *instances: str) -> None:
    """Come to a moment before the end, with instances whose hearts beat."""
    scene.storage.clock.advance((ENDS - before_end - scene.storage.clock()).total_seconds())
    await scene.beat(*instances)


def kinds(scene: Scene, name: str) -> list[EventType]:
    return [event.kind for event in scene.storage.published if event.subject == name]


class TestTakingOver:
    async def test_it_is_given_over_before_the_end_and_both_uploaders_are_told_how_it_is(self, scene: Scene) -> None:
        await both(scene, "web-0")
        await at(scene, LEAD + MINUTE, "web-0")
        assert (await sweep(scene.cloud)).handed_over == []
        await at(scene, LEAD, "web-0")
        key = BindingKey(role="*", host=HOST, port=443)
        assert (await sweep(scene.cloud)).handed_over == [key]
        row = await scene.row(HOST)
        assert (row.source, row.fingerprint_sha256) == ("lasting.pfx", FINGERPRINTS["lasting.pfx"])
        assert await scene.told("web-0") == [key]
        assert (await scene.record("lasting.pfx")).status is UploadStatus.ACCEPTED
        await scene.proves("web-0", HOST)
        won, lost = await scene.told_of("lasting.pfx"), await scene.told_of("ending.pfx")
        assert (won.status, won.live, won.reason, won.violations) == (UploadStatus.LIVE, 1, "", ())
        assert lost.reason == f"ends on {ENDS:%Y-%m-%d %H:%M} UTC; served in its place: lasting.pfx"
        assert (lost.status, lost.violations) == (UploadStatus.SUPERSEDED, ())
        tags = await scene.tags("ending.pfx")
        assert tags["certcast_reason"].startswith(
            "another upload is served for its hosts this one s certificate is valid"
        )
        assert kinds(scene, "ending.pfx") == [EventType.SUPERSEDED]
        assert kinds(scene, "lasting.pfx")[-1] is EventType.LIVE

    async def test_once_it_has_ended_its_uploader_is_told_so_in_status_row_and_tags(self, scene: Scene) -> None:
        await both(scene, "web-0")
        await at(scene, LEAD, "web-0")
        await sweep(scene.cloud)
        await scene.proves("web-0", HOST)
        await at(scene, -MINUTE, "web-0")
        expired = f"expired on {ENDS:%Y-%m-%d %H:%M} UTC"
        assert (await scene.told_of("ending.pfx")).reason == f"{expired}; served in its place: lasting.pfx"
        await sweep(scene.cloud)
        assert expired in (await scene.record("ending.pfx")).reason
        assert "expired on" in (await scene.tags("ending.pfx"))["certcast_reason"]
        writes = Mortal()
        await sweep(scene.seen_by(writes))
        assert "uploads replace" not in writes.steps, "said once"
        assert kinds(scene, "ending.pfx") == [EventType.SUPERSEDED]

    async def test_what_ends_within_minutes_loses_at_once_though_it_is_newer(self, scene: Scene) -> None:
        await scene.accepted("lasting.pfx", HOST, day=-9, lasts=365)
        short = await scene.accepted("short.pfx", HOST, day=-1, lasts=1 + (1 + 5 / 60) / 24)
        assert short.not_after is not None
        assert short.not_after - scene.storage.clock() < LEAD
        assert (await scene.row(HOST)).source == "lasting.pfx"
        assert (await scene.told_of("short.pfx")).reason.startswith("ends on")

    async def test_without_another_it_is_served_on_and_a_renewal_is_asked_for(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("ending.pfx", HOST, day=-1, lasts=60)
        await scene.accepted("ended before.pfx", HOST, day=-9, lasts=30)
        await scene.everyone_obeys("web-0")
        for before_end in (LEAD, -MINUTE):
            await at(scene, before_end, "web-0")
            assert (await sweep(scene.cloud)).handed_over == []
        told = await scene.told_of("ending.pfx")
        assert (told.status, (await scene.row(HOST)).source) == (UploadStatus.LIVE, "ending.pfx")
        assert told.reason.endswith(f"still served, as no other upload for {HOST}:443 is valid: upload a renewal")

    async def test_an_expired_one_is_served_again_where_its_successor_is_deleted_and_says_so(
        self, scene: Scene
    ) -> None:
        await both(scene, "web-0")
        await at(scene, -DAY, "web-0")
        await sweep(scene.cloud)
        await scene.proves("web-0", HOST)
        await scene.looked_at(await scene.delete("lasting.pfx"))
        assert (await scene.row(HOST)).source == "ending.pfx"
        await scene.everyone_obeys("web-0")
        told = await scene.told_of("ending.pfx")
        assert (told.status, told.live) == (UploadStatus.LIVE, 1)
        assert told.reason.startswith("expired on")
        assert (await sweep(scene.cloud)).warned == ["ending.pfx"]
        assert (await scene.record("ending.pfx")).warned_days == ON_EXPIRY

    async def test_uploads_live_elsewhere_are_told_of_a_host_that_moved_though_its_mover_died(
        self, scene: Scene
    ) -> None:
        await scene.join("web-0")
        await scene.accepted("ending.pfx", HOST, "old.test", day=-1, lasts=60)
        await scene.accepted("lasting.pfx", HOST, "own.test", day=-9, lasts=365)
        await scene.everyone_obeys("web-0")
        assert (await scene.told_of("lasting.pfx")).reason == f"{HOST}:443 is served from ending.pfx"
        await at(scene, LEAD, "web-0")
        key, now = BindingKey(role="*", host=HOST, port=443), scene.storage.clock()
        await scene.cloud.state.bindings.update(key, lambda row: row and elected_again(row, now=now))
        await scene.proves("web-0", HOST)
        await sweep(scene.cloud)
        lost, won = await scene.record("ending.pfx"), await scene.record("lasting.pfx")
        assert (lost.status, lost.reason) == (UploadStatus.LIVE, f"another upload is served for {HOST}:443")
        assert (won.status, won.reason) == (UploadStatus.LIVE, "")
        assert "certcast_reason" not in await scene.tags("lasting.pfx")

    async def test_an_upload_that_wins_another_host_is_not_said_to_have_failed_there(self, scene: Scene) -> None:
        """The time that instances have begins when the host moves, not when the upload was first told of."""
        await scene.join("web-0")
        await scene.accepted("ending.pfx", HOST, day=-1, lasts=60)
        await scene.accepted("lasting.pfx", HOST, "own.test", day=-9, lasts=365)
        await scene.everyone_obeys("web-0")
        assert (await scene.record("lasting.pfx")).status is UploadStatus.LIVE
        await scene.join("web-1")
        await scene.proves("web-1", "own.test")
        await at(scene, LEAD, "web-0", "web-1")
        scene.storage.published.clear()
        await sweep(scene.cloud)
        record = await scene.record("lasting.pfx")
        assert (record.status, record.expected) == (UploadStatus.ACCEPTED, ("web-0", "web-1"))
        await scene.everyone_obeys("web-0", "web-1")
        assert (await scene.record("lasting.pfx")).status is UploadStatus.LIVE
        assert EventType.INSTALL_FAILED not in kinds(scene, "lasting.pfx")

    async def test_a_hundred_hosts_of_one_upload_are_one_message_to_each_instance(self, scene: Scene) -> None:
        hosts = [f"h{number}.test" for number in range(100)]
        await scene.join("web-0", "web-1")
        await scene.accepted("ending.pfx", *hosts, day=-1, lasts=60)
        await scene.accepted("lasting.pfx", *hosts, day=-9, lasts=365)
        await scene.everyone_obeys("web-0", "web-1")
        await at(scene, LEAD, "web-0", "web-1")
        watched = Mortal()
        report = await sweep(scene.seen_by(watched))
        assert len(report.handed_over) == 100
        assert watched.steps["queue send"] == 2


class TestScheduled:
    async def test_one_whose_first_day_comes_takes_over_and_one_that_ended_while_it_waited_is_told(
        self, scene: Scene
    ) -> None:
        await scene.join("web-0")
        await scene.accepted("now.pfx", HOST, day=-1, lasts=20)
        await scene.accepted("later.pfx", HOST, day=10)
        await scene.everyone_obeys("web-0")
        scene.storage.clock.advance(10 * 86_400)
        await scene.beat("web-0")
        await scene.recheck_due()
        assert (await scene.row(HOST)).source == "later.pfx"
        assert (await scene.told_of("now.pfx")).reason == "superseded by later.pfx"
        scene.storage.clock.advance(10 * 86_400)
        await scene.beat("web-0")
        await sweep(scene.cloud)
        assert (await scene.told_of("now.pfx")).reason.endswith("; served in its place: later.pfx")
        assert "expired on" in (await scene.tags("now.pfx"))["certcast_reason"]


class TestTrouble:
    async def test_two_sweeps_at_once_move_it_once(self, scene: Scene) -> None:
        await both(scene, "web-0")
        before = await scene.row(HOST)
        await at(scene, LEAD, "web-0")
        once = next_generation(before.generation, scene.storage.clock())
        await asyncio.gather(sweep(scene.cloud), sweep(scene.seen_by(Mortal())), sweep(scene.seen_by(Mortal())))
        row = await scene.row(HOST)
        assert (row.source, row.generation) == ("lasting.pfx", once)
        await self.becomes_true(scene)

    async def test_a_sweep_that_dies_anywhere_leaves_it_to_the_next_one(self) -> None:
        died_at, moved = 0, 0
        while True:
            died_at += 1
            scene = Scene(FakeStorage())
            await both(scene, "web-0")
            await at(scene, LEAD, "web-0")
            life = Mortal(dies_at=died_at)
            with suppress(ProcessDiedError):
                await sweep(scene.seen_by(life))
            if life.steps.total() < died_at:
                break
            moved += (await scene.row(HOST)).source == "lasting.pfx"
            await self.becomes_true(scene)
        assert moved > 5
        assert died_at - moved > 5

    @pytest.mark.parametrize("what", ["bindings replace", "instances query", "queue send", "uploads replace"])
    async def test_what_is_refused_is_done_by_the_next_sweep(self, what: str, scene: Scene) -> None:
        await both(scene, "web-0")
        await at(scene, LEAD, "web-0")
        away: Sequence[CertcastError] = [UnavailableError("away")] * 3
        await sweep(scene.seen_by(Failing({what: [*away]})))
        await self.becomes_true(scene)

    async def test_an_instance_whose_queue_refuses_is_told_by_the_next_sweep(self, scene: Scene) -> None:
        await both(scene, "web-0")
        await at(scene, LEAD, "web-0")
        await sweep(scene.seen_by(Failing({"queue send": [UnavailableError("away")]})))
        assert (await scene.record("lasting.pfx")).untold == ("web-0",)
        assert await scene.told("web-0") == []
        scene.storage.clock.advance(60)
        await scene.beat("web-0")
        await sweep(scene.cloud)
        assert [key.host for key in await scene.told("web-0")] == [HOST]

    async def test_an_upload_that_changes_while_the_sweep_stands_still_is_elected_as_it_is_then(
        self, scene: Scene
    ) -> None:
        await both(scene, "web-0")
        await at(scene, LEAD, "web-0")
        still = StandingStill(before="bindings get")
        sweeping = asyncio.create_task(sweep(scene.seen_by(still)))
        await still.reached.wait()
        await scene.accepted("ending.pfx", HOST, day=55, lasts=90)
        still.go_on.set()
        report = await sweeping
        assert (report.handed_over, report.problems) == ([], [])
        assert (await scene.row(HOST)).source == "ending.pfx"
        assert (await scene.record("ending.pfx")).status is UploadStatus.ACCEPTED

    async def becomes_true(self, scene: Scene) -> None:
        """Two sweeps on, and what the instance is told of, bring everything in line long before the end."""
        for _ in range(2):
            scene.storage.clock.advance(60)
            await scene.beat("web-0")
            await sweep(scene.cloud)
        scene.storage.clock.advance(RESEND_AFTER.total_seconds())
        await scene.beat("web-0")
        await sweep(scene.cloud)
        assert (await scene.row(HOST)).source == "lasting.pfx"
        await scene.everyone_obeys("web-0")
        won, lost = await scene.record("lasting.pfx"), await scene.record("ending.pfx")
        assert (won.status, won.live, lost.status) == (UploadStatus.LIVE, 1, UploadStatus.SUPERSEDED)
        assert ENDS - scene.storage.clock() > timedelta(0)


class TestWarnings:
    async def test_where_another_takes_over_before_the_end_nothing_is_warned_of(self, scene: Scene) -> None:
        await both(scene, "web-0")
        for days in (29, 13, 6, 2):
            await at(scene, days * DAY, "web-0")
            assert (await sweep(scene.cloud)).warned == []
        await at(scene, LEAD, "web-0")
        await sweep(scene.cloud)
        await scene.proves("web-0", HOST)
        await at(scene, -MINUTE, "web-0")
        assert (await sweep(scene.cloud)).warned == []

    async def test_of_two_hosts_the_one_that_nothing_takes_over_is_warned_of(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("ending.pfx", HOST, "b.test", day=-1, lasts=60)
        await scene.accepted("lasting.pfx", HOST, day=-9, lasts=365)
        await scene.everyone_obeys("web-0")
        await at(scene, 2 * DAY, "web-0")
        assert (await sweep(scene.cloud)).warned == ["ending.pfx"]
        [event] = [event for event in scene.storage.published if event.kind is EventType.EXPIRING]
        assert json.loads(event.document)["hosts"] == ["b.test"]

    async def test_it_goes_by_the_end_of_the_last_that_is_valid_without_a_gap(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("ending.pfx", HOST, day=-1, lasts=60)
        await scene.accepted("lasting.pfx", HOST, day=-9, lasts=70)
        await scene.accepted("for later.pfx", HOST, day=60.5, lasts=90)
        await scene.everyone_obeys("web-0")
        await at(scene, 2 * DAY, "web-0")
        assert (await sweep(scene.cloud)).warned == []
        await scene.looked_at(await scene.delete("for later.pfx"))
        assert (await sweep(scene.cloud)).warned == ["ending.pfx"]
        assert (await scene.record("ending.pfx")).warned_days == 7

    async def test_what_begins_only_after_the_end_leaves_a_gap_that_is_warned_of(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("ending.pfx", HOST, day=-1, lasts=60)
        await scene.accepted("too late.pfx", HOST, day=60)
        await scene.everyone_obeys("web-0")
        await at(scene, 2 * DAY, "web-0")
        assert (await sweep(scene.cloud)).warned == ["ending.pfx"]
