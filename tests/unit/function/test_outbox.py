"""Which events certcast sends, how often, and that each is what its published schema says."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.binding import BindingKey
from shared.errors import BrokenMessageError, UnavailableError
from shared.function.announcing import announce
from shared.function.cloud import Cloud
from shared.function.outbox import KEEP_TRYING_S, RETRY_DELAYS, publish
from shared.function.status_api import openapi
from shared.messages import MAX_BODY_BYTES, OUTBOX_QUEUE, EventType, OutgoingEvent, decode, encode, new_traceparent
from shared.state.records import UploadRecord, UploadStatus
from shared.verdict import VerdictCode, Violation
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing
from tests.fakes.storage import START
from tests.rigs.event_schemas import as_sent, check_event, schemas, validator
from tests.rigs.some import some

NAME = "kunden/größe.pfx"

BASE = UploadRecord(
    name=NAME,
    revision=3,
    status=UploadStatus.ACCEPTED,
    etag="0x1",
    hosts=("a.test", "*.b.test"),
    subject="CN=a.test",
    issuer="CN=ca",
    fingerprint_sha256="ab" * 32,
    thumbprint_sha1="AB" * 20,
    not_before=START - timedelta(days=1),
    not_after=START + timedelta(days=60),
    claims=(BindingKey(role="*", host="a.test", port=443),),
    total=2,
    uploaded_at=START,
    counted_from=START,
    traceparent=new_traceparent(),
)
REASON = Violation(code=VerdictCode.EXPIRED, detail="it ended")

TOLD = {
    "accepted": (BASE, EventType.ACCEPTED),
    "scheduled": (replace(BASE, status=UploadStatus.SCHEDULED, reason="valid from then"), EventType.ACCEPTED),
    "rejected": (
        UploadRecord(name=NAME, revision=1, status=UploadStatus.REJECTED, violations=(REASON,)),
        EventType.REJECTED,
    ),
    "live": (replace(BASE, status=UploadStatus.LIVE, live=2, live_at=START), EventType.LIVE),
    "partially live": (
        replace(BASE, status=UploadStatus.PARTIALLY_LIVE, live=1, reason="instance b: no"),
        EventType.PARTIALLY_LIVE,
    ),
    "failed": (replace(BASE, status=UploadStatus.FAILED, reason="instance a: no"), EventType.INSTALL_FAILED),
    "superseded": (replace(BASE, status=UploadStatus.SUPERSEDED, total=0), EventType.SUPERSEDED),
    "removed": (replace(BASE, status=UploadStatus.REMOVED), EventType.REMOVED),
}


async def stored(cloud: Cloud, record: UploadRecord) -> UploadRecord:
    await cloud.state.uploads.update(record.name, lambda _: record)
    return record


def outbox(storage: FakeStorage) -> list[OutgoingEvent]:
    return [decode(OutgoingEvent, message.body or "") for message in storage.queues[OUTBOX_QUEUE].values()]


async def announced(storage: FakeStorage, record: UploadRecord = BASE) -> OutgoingEvent:
    """Announce a status, and take its event from the outbox."""
    await announce(storage.cloud(), await stored(storage.cloud(), record))
    [event] = outbox(storage)
    storage.queues[OUTBOX_QUEUE].clear()
    return event


class TestWhatIsTold:
    @pytest.mark.parametrize(("record", "kind"), TOLD.values(), ids=TOLD)
    async def test_each_status_has_its_event_which_is_as_its_schema_says(
        self, record: UploadRecord, kind: EventType, storage: FakeStorage
    ) -> None:
        event = await announced(storage, record)
        assert (event.kind, event.subject) == (kind, NAME)
        check_event(as_sent(event))

    @pytest.mark.parametrize(
        "record",
        [
            replace(BASE, status=UploadStatus.RECEIVED),
            replace(BASE, status=UploadStatus.WAITING_FOR_METADATA),
            replace(BASE, status=UploadStatus.REMOVED, live=1),
        ],
        ids=["received", "waiting", "removed but still served"],
    )
    async def test_what_is_not_decided_is_not_told(self, record: UploadRecord, storage: FakeStorage) -> None:
        await announce(storage.cloud(), await stored(storage.cloud(), record))
        assert outbox(storage) == []

    async def test_a_status_is_told_once_however_often_it_is_derived(self, storage: FakeStorage, cloud: Cloud) -> None:
        await stored(cloud, BASE)
        for _ in range(3):
            await announce(cloud, some(await cloud.state.uploads.get(NAME)))
        assert len(outbox(storage)) == 1

    async def test_nothing_is_put_on_the_outbox_where_no_topic_is_set(self, storage: FakeStorage) -> None:
        cloud = replace(storage.cloud(), topic=None)
        await announce(cloud, await stored(cloud, BASE))
        assert outbox(storage) == []

    async def test_many_hosts_are_cut_to_what_a_queue_message_holds_and_counted(self, storage: FakeStorage) -> None:
        hosts = tuple(f"{number}.{'x' * 60}.{'y' * 60}.test" for number in range(250))
        event = await announced(storage, replace(BASE, hosts=hosts))
        check_event(as_sent(event))
        data = json.loads(event.document)
        assert (data["hosts"], data["hosts_total"]) == (list(hosts[:50]), 250)
        assert len(encode(event).encode()) < MAX_BODY_BYTES


class TestPublishing:
    async def test_what_the_topic_takes_is_gone(self, storage: FakeStorage) -> None:
        event = await announced(storage)
        await publish(storage.cloud(), event)
        assert storage.published == [event]
        assert outbox(storage) == []

    async def test_an_event_keeps_its_id_and_waits_ever_longer_while_the_topic_is_away(self) -> None:
        storage = FakeStorage()
        away = storage.cloud(Failing({"topic publish": [UnavailableError("away") for _ in range(6)]}))
        event = await announced(storage)
        waits = []
        for attempt in range(6):
            storage.queues[OUTBOX_QUEUE].clear()
            await publish(away, replace(event, attempt=attempt))
            [message] = storage.queues[OUTBOX_QUEUE].values()
            waits.append((message.visible_at - storage.clock()).total_seconds())
            assert decode(OutgoingEvent, message.body or "") == replace(event, attempt=attempt + 1)
        assert waits == [5, 15, 60, 300, 300, 300]
        assert tuple(waits[:4]) == RETRY_DELAYS.seconds

    async def test_an_event_is_given_up_after_a_week(self, caplog: pytest.LogCaptureFixture) -> None:
        storage = FakeStorage()
        away = storage.cloud(Failing({"topic publish": [UnavailableError("away")]}))
        event = await announced(storage)
        storage.clock.advance(KEEP_TRYING_S + 1)
        await publish(away, event)
        assert outbox(storage) == []
        assert "given up after a week" in caplog.text

    async def test_with_neither_topic_nor_outbox_the_queue_delivers_it_again(self, storage: FakeStorage) -> None:
        broken = {"topic publish": [UnavailableError("away")], "queue send": [UnavailableError("away too")]}
        event = OutgoingEvent(event_id="1", kind=EventType.LIVE, subject=NAME, at=START, document="{}")
        with pytest.raises(UnavailableError, match="away too"):
            await publish(storage.cloud(Failing({key: list(value) for key, value in broken.items()})), event)


class TestSchemas:
    def test_every_event_type_has_one_and_each_is_a_schema(self) -> None:
        assert set(schemas()) == {kind.value for kind in EventType} | {"cloudevent", "upload"}
        for name in schemas():
            validator(name)

    def test_an_uploads_entry_is_described_as_the_status_api_describes_it(self) -> None:
        described = openapi()["components"]["schemas"]["Upload"]
        published = schemas()["upload"]
        assert published["required"] == described["required"]
        assert {key: value for key, value in published["properties"].items() if key != "hosts_total"} == described[
            "properties"
        ]

    @pytest.mark.parametrize(
        "change",
        [
            {"type": "Certcast.CertificateRejected"},
            {"specversion": "0.3"},
            {"time": "yesterday"},
            {"traceparent": "none"},
            {"data": {"name": NAME}},
        ],
    )
    async def test_what_is_no_such_event_does_not_pass(self, change: dict[str, Any], storage: FakeStorage) -> None:
        event = await announced(storage)
        with pytest.raises(AssertionError):
            check_event(as_sent(event) | change)


@pytest.mark.parametrize("body", ["", "{}", "[1]", '{"version": 1}', "\ufffd"])
def test_a_message_that_is_no_event_is_told_apart(body: str) -> None:
    with pytest.raises(BrokenMessageError):
        decode(OutgoingEvent, body)
