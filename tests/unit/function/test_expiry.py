"""Warnings before a certificate ends: each once, the nearest only, and what has ended stays bound."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NoReturn

import pytest

from shared.binding import BindingKey, DesiredBinding
from shared.errors import UnavailableError
from shared.function.election import with_claim
from shared.function.expiry import ON_EXPIRY, WARN_DAYS, warn, warning_due
from shared.function.sweep import sweep
from shared.messages import RECHECK_QUEUE, EventType, OutgoingEvent, RecheckUpload, decode
from shared.state.records import UploadRecord, UploadStatus
from shared.state.tags import STATUS_TAG
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing
from tests.rigs.event_schemas import as_sent, check_event
from tests.rigs.rows import claim
from tests.rigs.scenes import PASSWORD, Scene, issued

NAME = "a.pfx"
DAY = timedelta(days=1)
MOMENT = timedelta(seconds=1)
KEY = BindingKey(role="*", host="a.test", port=443)
VALID_FROM = -30
ENDS = issued("a.test", day=VALID_FROM).certificate.not_valid_after_utc

ROW = with_claim(None, KEY, claim(NAME, not_after=ENDS, bundle="served"), now=ENDS - 90 * DAY)
RECORD = UploadRecord(
    name=NAME,
    revision=1,
    status=UploadStatus.LIVE,
    claims=(KEY,),
    not_after=ENDS,
    warned_of=ROW.fingerprint_sha256,
)


def due(before_end: timedelta, *, warned: int | None = None, status: UploadStatus = UploadStatus.LIVE) -> int | None:
    return warning_due(replace(RECORD, warned_days=warned, status=status), ENDS - before_end, {KEY: ROW})


class TestWhichWarningIsDue:
    @pytest.mark.parametrize("days", WARN_DAYS)
    def test_it_begins_so_many_days_before_the_end(self, days: int) -> None:
        before = next((more for more in reversed(WARN_DAYS) if more > days), None)
        assert due(days * DAY + MOMENT, warned=before) is None
        assert due(days * DAY, warned=before) == days
        assert due(days * DAY, warned=days) is None

    def test_only_the_nearest_one_is_given_for_what_has_few_days_left(self) -> None:
        assert due(5 * DAY) == 7
        assert due(timedelta(hours=1)) == 1
        assert due(-DAY) == ON_EXPIRY

    def test_the_last_one_comes_with_the_end(self) -> None:
        assert due(MOMENT, warned=1) is None
        assert due(timedelta(0), warned=1) == ON_EXPIRY
        assert due(-400 * DAY, warned=ON_EXPIRY) is None

    @pytest.mark.parametrize("status", list(UploadStatus))
    def test_only_what_is_served_or_should_be_is_warned_of(self, status: UploadStatus) -> None:
        served = {"accepted", "live", "partially_live", "failed", "rejected", "waiting_for_metadata", "scheduled"}
        assert (due(5 * DAY, status=status) is not None) == (status.value in served)


async def live_upload(scene: Scene, *, day: float = VALID_FROM) -> None:
    """An upload that one instance serves."""
    await scene.join("web-0")
    await scene.accepted(NAME, "a.test", day=day)
    await scene.everyone_obeys("web-0")
    assert (await scene.record(NAME)).status is UploadStatus.LIVE
    known = await scene.record(NAME)
    await scene.outside.state.uploads.update(NAME, lambda _: replace(known, due=()))


def advance_to(scene: Scene, moment: datetime) -> None:
    scene.storage.clock.advance((moment - scene.storage.clock()).total_seconds())


async def warnings(storage: FakeStorage) -> list[OutgoingEvent]:
    due = [event async for known in storage.state().uploads.all() for event in known.value.due]
    events = [*storage.published, *due]
    return [event for event in events if event.kind is EventType.EXPIRING]


async def sweeps(scene: Scene, days: float) -> list[str]:
    """Sweep four times a day, while the instance's heart beats."""
    given = []
    for _ in range(round(days * 4)):
        await scene.beat("web-0")
        given += (await sweep(scene.cloud)).warned
        scene.storage.clock.advance(6 * 3600)
    return given


class TestWarnings:
    async def test_sweeps_over_the_last_months_give_each_warning_once(self, scene: Scene) -> None:
        await live_upload(scene)
        given = await sweeps(scene, 62)
        assert len(given) == len(await warnings(scene.storage)) == len(WARN_DAYS) + 1
        assert len({event.event_id for event in await warnings(scene.storage)}) == len(WARN_DAYS) + 1
        assert (await scene.record(NAME)).warned_days == ON_EXPIRY

    async def test_two_sweeps_at_once_count_it_once_and_tell_it_under_one_id(self, scene: Scene) -> None:
        await live_upload(scene)
        advance_to(scene, ENDS - 5 * DAY)
        record = await scene.record(NAME)
        given = await asyncio.gather(warn(scene.cloud, record), warn(scene.cloud, record))
        assert sorted(given) == [False, True]
        assert len({event.event_id for event in await warnings(scene.storage)}) == 1

    async def test_a_renewal_is_warned_of_again(self, scene: Scene) -> None:
        await live_upload(scene)
        advance_to(scene, ENDS - 5 * DAY)
        await scene.beat("web-0")
        await sweep(scene.cloud)
        first = await warnings(scene.storage)
        await live_upload(scene, day=VALID_FROM + 60)
        assert (await sweep(scene.cloud)).warned == []
        scene.storage.clock.advance(60 * 86_400)
        await scene.beat("web-0")
        assert (await sweep(scene.cloud)).warned == [NAME]
        assert (await warnings(scene.storage))[-1].event_id != first[0].event_id

    async def test_a_warning_that_could_not_be_sent_stands_in_the_row(self, scene: Scene) -> None:
        await live_upload(scene)
        advance_to(scene, ENDS - 5 * DAY)
        away = [UnavailableError("away")]
        failing = scene.seen_by(Failing({"topic publish": list(away), "queue send": list(away)}))
        assert await warn(failing, await scene.record(NAME))
        assert len(await warnings(scene.storage)) == 1
        scene.storage.queues[RECHECK_QUEUE].clear()
        scene.storage.clock.advance(60)
        assert (await sweep(scene.cloud)).warned == []
        assert [decode(RecheckUpload, each.body or "") for each in scene.storage.queues[RECHECK_QUEUE].values()] == [
            RecheckUpload(name=NAME, events=True)
        ]

    async def test_without_a_topic_it_is_still_said_in_the_log(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        await live_upload(scene)
        advance_to(scene, ENDS - 5 * DAY)
        assert await warn(replace(scene.cloud, outlets=()), await scene.record(NAME))
        assert "a.pfx: its certificate ends in less than 7 day(s)" in caplog.text
        assert await warnings(scene.storage) == []


class TestExpired:
    async def test_it_stays_bound_and_says_so_in_row_tags_log_and_event(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        await live_upload(scene)
        before = await scene.row("a.test")
        advance_to(scene, ENDS + DAY)
        await scene.beat("web-0")
        await sweep(scene.cloud)
        after = await scene.row("a.test")
        assert (after.present, after.generation) == (True, before.generation)
        record = await scene.record(NAME)
        assert record.status is UploadStatus.LIVE
        assert record.reason.startswith(f"expired on {ENDS:%Y-%m-%d %H:%M} UTC and is still served")
        tags = await scene.tags(NAME)
        assert tags[STATUS_TAG] == "live"
        assert "expired on" in tags["certcast_reason"]
        assert "a.pfx: its certificate has ended" in caplog.text
        [event] = await warnings(scene.storage)
        assert "expired on" in json.loads(event.document)["reason"]


class Unread(dict[BindingKey, DesiredBinding]):
    """Rows that are not to be asked for."""

    def get(self, key: object, default: object = None) -> NoReturn:
        raise AssertionError(key, default)


class TestTheCertificateInPlace:
    """What is served while an upload under its name was rejected, waits for its password, or is not yet valid."""

    @staticmethod
    async def overwritten(scene: Scene, how: str) -> UploadRecord:
        """A certificate that ends in 30 days less an hour, and an upload under its name that is not served."""
        await live_upload(scene, day=-60)
        if how == "rejected":
            notice = await scene.upload("a.pfx", "b.test", day=0, metadata=rejected_metadata("a.test"))
        elif how == "damaged":
            notice = await scene.upload("a.pfx", content=b"damaged", metadata=rejected_metadata("c.test"))
        elif how == "waiting_for_metadata":
            notice = await scene.upload("a.pfx", "a.test", metadata={})
        else:
            notice = await scene.upload("a.pfx", "a.test", day=80)
        record = await scene.looked_at(notice)
        assert record.status == {"damaged": "rejected"}.get(how, how)
        return record

    @pytest.mark.parametrize("how", ["rejected", "damaged", "waiting_for_metadata", "scheduled"])
    async def test_each_warning_is_given_once_and_tells_of_what_is_served(
        self, how: str, caplog: pytest.LogCaptureFixture, scene: Scene
    ) -> None:
        await self.overwritten(scene, how)
        row = await scene.row("a.test")
        assert row.not_after is not None
        given = await sweeps(scene, 35)
        assert given == ["a.pfx"] * (len(WARN_DAYS) + 1)
        events = await warnings(scene.storage)
        assert len({event.event_id for event in events}) == len(WARN_DAYS) + 1
        for event in events:
            document = json.loads(event.document)
            check_event(as_sent(event))
            assert document["status"] == {"damaged": "rejected"}.get(how, how)
            assert document["fingerprint_sha256"] == row.fingerprint_sha256
            assert document["not_after"] == f"{row.not_after:%Y-%m-%dT%H:%M:%SZ}"
            assert (document["hosts"], document["port"]) == (["a.test"], 443)
            assert "b.test" not in (document["subject"] or "")
        assert "a.pfx: the certificate accepted before and still in place has ended" in caplog.text
        assert await scene.row("a.test") == row

    async def test_what_was_warned_of_before_it_was_overwritten_is_not_warned_of_again(self, scene: Scene) -> None:
        await live_upload(scene, day=-75)
        assert (await sweep(scene.cloud)).warned == ["a.pfx"]
        for _ in range(3):
            await scene.looked_at(await scene.upload("a.pfx", "b.test", metadata=rejected_metadata("a.test")))
            assert (await sweep(scene.cloud)).warned == []
        scene.storage.clock.advance(9 * 86_400)
        assert (await sweep(scene.cloud)).warned == ["a.pfx"]

    async def test_the_same_certificate_uploaded_again_is_not_warned_of_again_and_its_renewal_is(self) -> None:
        scene = Scene()
        await self.overwritten(scene, "rejected")
        assert (await sweep(scene.cloud)).warned == ["a.pfx"]
        await scene.accepted("a.pfx", "a.test", day=-60)
        await scene.everyone_obeys("web-0")
        assert (await sweep(scene.cloud)).warned == []
        await scene.accepted("a.pfx", "a.test", day=-0.5)
        assert (await sweep(scene.cloud)).warned == []
        scene.storage.clock.advance(70 * 86_400)
        assert (await sweep(scene.cloud)).warned == ["a.pfx"]

    async def test_what_another_upload_took_over_is_not_warned_of(self, scene: Scene) -> None:
        await self.overwritten(scene, "rejected")
        await scene.accepted("other.pfx", "a.test", day=-1)
        assert await sweeps(scene, 32) == []

    async def test_of_two_hosts_the_one_that_was_taken_over_is_not_told_of(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("a.pfx", "a.test", "b.test", day=-60)
        await scene.accepted("other.pfx", "b.test", day=-1)
        await scene.looked_at(await scene.upload("a.pfx", content=b"damaged", metadata=rejected_metadata("a.test")))
        known = await scene.record(NAME)
        await scene.outside.state.uploads.update(NAME, lambda _: replace(known, due=()))
        assert (await sweep(scene.cloud)).warned == ["a.pfx"]
        [event] = await warnings(scene.storage)
        assert json.loads(event.document)["hosts"] == ["a.test"]

    async def test_what_was_removed_before_the_rejected_upload_is_neither_warned_of_nor_said_to_be_in_place(
        self, scene: Scene
    ) -> None:
        await live_upload(scene, day=-60)
        await scene.looked_at(await scene.delete("a.pfx"))
        record = await scene.looked_at(await scene.upload("a.pfx", "b.test", metadata=rejected_metadata("a.test")))
        assert record.status is UploadStatus.REJECTED
        assert record.reason == ""
        assert await sweeps(scene, 32) == []

    async def test_a_renewal_that_was_accepted_since_the_rows_were_read_is_left_alone(self, scene: Scene) -> None:
        record = await self.overwritten(scene, "rejected")
        row = await scene.row("a.test")
        assert warning_due(record, scene.storage.clock(), {row.key: row}) == 30
        await scene.accepted("a.pfx", "a.test", day=-0.5)
        assert not await warn(scene.cloud, record)
        assert (await scene.record("a.pfx")).warned_days is None

    async def test_of_what_lasts_no_row_is_looked_at(self, scene: Scene) -> None:
        later = replace(RECORD, not_after=scene.storage.clock() + 31 * DAY)
        assert warning_due(later, scene.storage.clock(), Unread()) is None


def rejected_metadata(host: str) -> dict[str, str]:
    return {"CertificatePassword": PASSWORD, "HostHeader": host}
