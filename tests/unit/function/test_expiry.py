"""Warnings before a certificate ends: each once, the nearest only, and what has ended stays bound."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.binding import BindingKey
from shared.errors import UnavailableError
from shared.function.blob_event import Notice
from shared.function.expiry import ON_EXPIRY, WARN_DAYS, rows_in_place, warn, warning_due
from shared.function.intake import look_at
from shared.function.results import fold
from shared.function.sweep import sweep
from shared.messages import OUTBOX_QUEUE, BindingReport, EventType, InstallOutcome, InstallReport, OutgoingEvent, decode
from shared.state.records import InstanceRecord, UploadRecord, UploadStatus
from shared.state.tags import STATUS_TAG
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing, Mortal
from tests.fakes.storage import START
from tests.rigs.certificates import authority
from tests.rigs.event_schemas import check_event
from tests.rigs.scenes import PASSWORD, Scene

if TYPE_CHECKING:
    from datetime import datetime

    from shared.function.cloud import Cloud

NAME = "a.pfx"
DAY = timedelta(days=1)
MOMENT = timedelta(seconds=1)
ENDS = (START + 60 * DAY).replace(microsecond=0)

RECORD = UploadRecord(name=NAME, revision=1, status=UploadStatus.LIVE, not_after=ENDS)


def due(before_end: timedelta, *, warned: int | None = None, status: UploadStatus = UploadStatus.LIVE) -> int | None:
    return warning_due(replace(RECORD, warned_days=warned, status=status), ENDS - before_end)


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
        served = {"accepted", "live", "partially_live", "failed"}
        assert (due(5 * DAY, status=status) is not None) == (status.value in served)


async def live_upload(storage: FakeStorage, *, ends: datetime = ENDS) -> Cloud:
    """An upload that one instance serves."""
    cloud = storage.cloud()
    await cloud.state.instances.update(
        "web-0",
        lambda _: InstanceRecord(
            id="web-0",
            role="web",
            host="h",
            target_kind="embedded",
            target_version="1",
            agent_version="1",
            queue="cert-agent-web-0",
            session="s",
            started_at=START,
            last_seen=START,
        ),
    )
    await cloud.queues.create("cert-agent-web-0")
    await upload(storage, cloud, ends)
    return cloud


async def upload(storage: FakeStorage, cloud: Cloud, ends: datetime) -> None:
    issued = authority(not_before=START - 400 * DAY).issue("a.test", not_before=ends - 90 * DAY, not_after=ends)
    etag = await cloud.uploads.write(NAME, issued.pfx(None), {})
    record = await look_at(cloud, Notice(name=NAME, etag=etag))
    assert record is not None, storage
    row = await cloud.state.bindings.get(BindingKey(role="*", host="a.test", port=443))
    assert row is not None
    report = BindingReport(
        role="*",
        host="a.test",
        port=443,
        generation=row.generation,
        source=NAME,
        outcome=InstallOutcome.LIVE,
        reason="",
        fingerprint_sha256=issued.fingerprint,
        finished_at=storage.clock(),
    )
    await fold(cloud, InstallReport(instance="web-0", reports=(report,)))
    assert (await current(cloud)).status is UploadStatus.LIVE
    storage.queues[OUTBOX_QUEUE].clear()


async def current(cloud: Cloud) -> UploadRecord:
    record = await cloud.state.uploads.get(NAME)
    assert record is not None
    return record


def warnings(storage: FakeStorage) -> list[OutgoingEvent]:
    events = [decode(OutgoingEvent, message.body or "") for message in storage.queues[OUTBOX_QUEUE].values()]
    return [event for event in events if event.kind is EventType.EXPIRING]


async def alive(storage: FakeStorage, cloud: Cloud) -> None:
    """Beat the instance's heart: a silent one is not counted."""
    now = storage.clock()
    await cloud.state.instances.update("web-0", lambda known: known and replace(known, last_seen=now))


class TestWarnings:
    async def test_sweeps_over_the_last_months_give_each_warning_once(self, storage: FakeStorage) -> None:
        cloud = await live_upload(storage)
        given = []
        for _ in range(62 * 4):
            await alive(storage, cloud)
            given += (await sweep(cloud)).warned
            storage.clock.advance(6 * 3600)
        assert len(given) == len(warnings(storage)) == len(WARN_DAYS) + 1
        assert len({event.event_id for event in warnings(storage)}) == len(WARN_DAYS) + 1
        assert (await current(cloud)).warned_days == ON_EXPIRY

    async def test_two_sweeps_at_once_count_it_once_and_tell_it_under_one_id(self, storage: FakeStorage) -> None:
        cloud = await live_upload(storage, ends=ENDS)
        storage.clock.advance((ENDS - 5 * DAY - START).total_seconds())
        record = await current(cloud)
        given = await asyncio.gather(warn(cloud, record), warn(cloud, record))
        assert sorted(given) == [False, True]
        assert len({event.event_id for event in warnings(storage)}) == 1

    async def test_a_renewal_is_warned_of_again(self, storage: FakeStorage) -> None:
        cloud = await live_upload(storage)
        storage.clock.advance((ENDS - 5 * DAY - START).total_seconds())
        await alive(storage, cloud)
        await sweep(cloud)
        first = warnings(storage)
        await upload(storage, cloud, ENDS + 60 * DAY)
        assert (await sweep(cloud)).warned == []
        storage.clock.advance(60 * 86_400)
        await alive(storage, cloud)
        assert (await sweep(cloud)).warned == [NAME]
        assert warnings(storage)[0].event_id != first[0].event_id

    async def test_a_warning_that_could_not_be_sent_is_given_by_the_next_sweep(self, storage: FakeStorage) -> None:
        cloud = await live_upload(storage)
        storage.clock.advance((ENDS - 5 * DAY - START).total_seconds())
        failing = storage.cloud(Failing({"queue send": [UnavailableError("away")]}))
        with pytest.raises(UnavailableError):
            await warn(failing, await current(cloud))
        assert (await current(cloud)).warned_days is None
        assert (await sweep(cloud)).warned == [NAME]
        assert len(warnings(storage)) == 1

    async def test_without_a_topic_it_is_still_said_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        storage = FakeStorage()
        cloud = replace(await live_upload(storage), topic=None)
        storage.clock.advance((ENDS - 5 * DAY - START).total_seconds())
        assert await warn(cloud, await current(cloud))
        assert "a.pfx: its certificate ends in less than 7 day(s)" in caplog.text
        assert warnings(storage) == []


class TestExpired:
    async def test_it_stays_bound_and_says_so_in_row_tags_log_and_event(self, caplog: pytest.LogCaptureFixture) -> None:
        storage = FakeStorage()
        cloud = await live_upload(storage)
        key = BindingKey(role="*", host="a.test", port=443)
        before = await cloud.state.bindings.get(key)
        storage.clock.advance((ENDS + DAY - START).total_seconds())
        await alive(storage, cloud)
        await sweep(cloud)
        after = await cloud.state.bindings.get(key)
        assert before is not None
        assert after is not None
        assert after.present
        assert after.generation == before.generation
        record = await current(cloud)
        assert record.status is UploadStatus.LIVE
        assert record.reason.startswith(f"expired on {ENDS:%Y-%m-%d %H:%M} UTC and still served")
        assert storage.uploads[NAME].tags[STATUS_TAG] == "live"
        assert "expired on" in storage.uploads[NAME].tags["certcast_reason"]
        assert "a.pfx: its certificate has ended" in caplog.text
        [event] = warnings(storage)
        assert "expired on" in json.loads(event.document)["reason"]


SECOND = replace(RECORD, status=UploadStatus.REJECTED, claims=(BindingKey(role="*", host="a.test", port=443),))


class TestTheCertificateInPlace:
    """What is served while an upload under its name was rejected, waits for its password, or is not yet valid."""

    @staticmethod
    async def overwritten(scene: Scene, how: str) -> UploadRecord:
        """A certificate that ends in 30 days less an hour, and an upload under its name that is not served."""
        await scene.join("web-0")
        await scene.accepted("a.pfx", "a.test", day=-60)
        await scene.everyone_obeys("web-0")
        scene.storage.queues[OUTBOX_QUEUE].clear()
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

    @staticmethod
    async def sweeps(scene: Scene, days: float) -> list[str]:
        """Sweep four times a day."""
        given = []
        for _ in range(round(days * 4)):
            await scene.beat("web-0")
            given += (await sweep(scene.cloud)).warned
            scene.storage.clock.advance(6 * 3600)
        return given

    @pytest.mark.parametrize("how", ["rejected", "damaged", "waiting_for_metadata", "scheduled"])
    async def test_each_warning_is_given_once_and_tells_of_what_is_served(
        self, how: str, caplog: pytest.LogCaptureFixture, scene: Scene
    ) -> None:
        await self.overwritten(scene, how)
        row = await scene.row("a.test")
        assert row.not_after is not None
        given = await self.sweeps(scene, 35)
        assert given == ["a.pfx"] * (len(WARN_DAYS) + 1)
        events = warnings(scene.storage)
        assert len({event.event_id for event in events}) == len(WARN_DAYS) + 1
        for event in events:
            document = json.loads(event.document)
            check_event(as_cloud_event(event))
            assert document["status"] == {"damaged": "rejected"}.get(how, how)
            assert document["fingerprint_sha256"] == row.fingerprint_sha256
            assert document["not_after"] == f"{row.not_after:%Y-%m-%dT%H:%M:%SZ}"
            assert (document["hosts"], document["port"]) == (["a.test"], 443)
            assert "b.test" not in (document["subject"] or "")
        assert "a.pfx: the certificate accepted before and still in place has ended" in caplog.text
        assert await scene.row("a.test") == row

    async def test_what_was_warned_of_before_it_was_overwritten_is_not_warned_of_again(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("a.pfx", "a.test", day=-75)
        await scene.everyone_obeys("web-0")
        assert (await sweep(scene.cloud)).warned == ["a.pfx"]
        for _ in range(3):
            await scene.looked_at(await scene.upload("a.pfx", "b.test", metadata=rejected_metadata("a.test")))
            assert (await sweep(scene.cloud)).warned == []
        scene.storage.clock.advance(9 * 86_400)
        assert (await sweep(scene.cloud)).warned == ["a.pfx"]

    async def test_the_same_certificate_uploaded_again_is_not_warned_of_again_and_its_renewal_is(self) -> None:
        scene = Scene()
        await scene.join("web-0")
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
        assert await self.sweeps(scene, 32) == []

    async def test_of_two_hosts_the_one_that_was_taken_over_is_not_told_of(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("a.pfx", "a.test", "b.test", day=-60)
        await scene.accepted("other.pfx", "b.test", day=-1)
        await scene.looked_at(await scene.upload("a.pfx", content=b"damaged", metadata=rejected_metadata("a.test")))
        scene.storage.queues[OUTBOX_QUEUE].clear()
        assert (await sweep(scene.cloud)).warned == ["a.pfx"]
        [event] = warnings(scene.storage)
        assert json.loads(event.document)["hosts"] == ["a.test"]

    async def test_what_was_removed_before_the_rejected_upload_is_neither_warned_of_nor_said_to_be_in_place(
        self, scene: Scene
    ) -> None:
        await scene.join("web-0")
        await scene.accepted("a.pfx", "a.test", day=-60)
        await scene.everyone_obeys("web-0")
        await scene.looked_at(await scene.delete("a.pfx"))
        record = await scene.looked_at(await scene.upload("a.pfx", "b.test", metadata=rejected_metadata("a.test")))
        assert record.status is UploadStatus.REJECTED
        assert record.reason == ""
        assert await self.sweeps(scene, 32) == []

    async def test_a_renewal_that_was_accepted_since_the_rows_were_read_is_left_alone(self, scene: Scene) -> None:
        record = await self.overwritten(scene, "rejected")
        rows = await rows_in_place(scene.cloud, [record])
        assert warning_due(record, scene.storage.clock(), rows) == 30
        await scene.accepted("a.pfx", "a.test", day=-0.5)
        assert not await warn(scene.cloud, record, rows)
        assert (await scene.record("a.pfx")).warned_days is None

    async def test_the_rows_are_read_only_when_an_upload_needs_them(self, scene: Scene) -> None:
        life = Mortal()
        seen = scene.seen_by(life)
        assert await rows_in_place(seen, [RECORD, replace(SECOND, claims=())]) == {}
        assert life.steps == {}
        await rows_in_place(seen, [RECORD, SECOND])
        assert life.steps == {"bindings query": 1}


def rejected_metadata(host: str) -> dict[str, str]:
    return {"CertificatePassword": PASSWORD, "HostHeader": host}


def as_cloud_event(event: OutgoingEvent) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": event.event_id,
        "source": "/certcast",
        "type": event.kind.value,
        "subject": event.subject,
        "time": event.at.isoformat(),
        "datacontenttype": "application/json",
        "data": json.loads(event.document),
    }
