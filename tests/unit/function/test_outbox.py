"""Which events certcast sends, how often, and that each is what its published schema says."""

import asyncio
import json
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.binding import BindingKey
from shared.errors import AccessDeniedError, BrokenMessageError, CertcastError, UnavailableError
from shared.function.announcing import announce
from shared.function.cloud import Cloud
from shared.function.in_process import OutletTrouble
from shared.function.outbox import MAX_DOCUMENT_BYTES, is_overdue, send_overdue
from shared.function.sending import AWAY_S, KEEP_TRYING, PROMPT_S, RETRY_DELAYS, TROUBLED_S, publish
from shared.function.status_api import openapi
from shared.messages import RECHECK_QUEUE, EventType, OutgoingEvent, RecheckUpload, decode, new_traceparent
from shared.state.cloud_event import TEST_SCHEMA, UPLOAD_SCHEMA, trial_event
from shared.state.records import UploadRecord, UploadStatus
from shared.verdict import VerdictCode, Violation
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing
from tests.fakes.storage import START
from tests.fakes.virtual_time import VirtualLoop, run
from tests.rigs.event_schemas import as_sent, check_event, schemas, validator
from tests.rigs.some import some

NAME = "kunden/größe.pfx"
TOPIC = "topic-key"
DUE = RecheckUpload(name=NAME, events=True, outlet=TOPIC)

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


def outbox(storage: FakeStorage) -> list[RecheckUpload]:
    return [decode(RecheckUpload, message.body or "") for message in storage.queues[RECHECK_QUEUE].values()]


def by_queue(cloud: Cloud) -> Cloud:
    """A process that met a topic in trouble, so that it sends nothing at once."""
    return replace(cloud, outlet_trouble=defaultdict(lambda: OutletTrouble(until=float("inf"))))


async def due(storage: FakeStorage) -> list[OutgoingEvent]:
    """The events that stand in the upload's row."""
    return list(some(await storage.state().uploads.get(NAME)).due)


async def announced(storage: FakeStorage, record: UploadRecord = BASE) -> OutgoingEvent:
    """Announce a status, and take the message from the outbox."""
    await announce(by_queue(storage.cloud()), await stored(storage.cloud(), record))
    assert outbox(storage) == [DUE]
    storage.queues[RECHECK_QUEUE].clear()
    [event] = await due(storage)
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
        assert (storage.published, outbox(storage)) == ([], [])

    async def test_a_status_is_told_once_however_often_it_is_derived(self, storage: FakeStorage, cloud: Cloud) -> None:
        await stored(cloud, BASE)
        for _ in range(3):
            await announce(cloud, some(await cloud.state.uploads.get(NAME)))
        assert len(storage.published) == 1

    async def test_nothing_is_sent_where_no_topic_is_set(self, storage: FakeStorage) -> None:
        cloud = replace(storage.cloud(), outlets=())
        await announce(cloud, await stored(cloud, BASE))
        assert outbox(storage) == []

    async def test_many_hosts_are_cut_to_what_a_queue_message_holds_and_counted(self, storage: FakeStorage) -> None:
        hosts = tuple(f"{number}.{'x' * 60}.{'y' * 60}.test" for number in range(250))
        event = await announced(storage, replace(BASE, hosts=hosts))
        check_event(as_sent(event))
        data = json.loads(event.document)
        assert (data["hosts"], data["hosts_total"]) == (list(hosts[:50]), 250)
        assert len(event.document) <= MAX_DOCUMENT_BYTES


class TestSendingAtOnce:
    async def test_what_the_topic_takes_goes_by_no_queue(self, storage: FakeStorage, cloud: Cloud) -> None:
        await announce(cloud, await stored(cloud, BASE))
        assert [event.kind for event in storage.published] == [EventType.ACCEPTED]
        assert (outbox(storage), await due(storage)) == ([], [])

    def test_what_it_does_not_take_goes_by_the_queue_and_so_do_the_next_ones_for_a_while(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)
            troubled = storage.cloud(Failing({"topic publish": [UnavailableError("away")]}))
            waits = []
            for wait_s in (0, TROUBLED_S - 1, 1):
                await asyncio.sleep(wait_s)
                await announce(troubled, await stored(troubled, replace(BASE, announced="")))
                waits.append((len(storage.published), len(outbox(storage))))
            assert waits == [(0, 1), (0, 2), (1, 2)]

        run(work)

    def test_a_topic_that_says_nothing_holds_up_one_upload_for_a_second_and_not_the_next(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)

            async def silent(what: str) -> None:
                if what == "topic publish":
                    await asyncio.sleep(3600)

            silently = storage.cloud(silent)
            took = []
            for _ in range(2):
                began = loop.time()
                await announce(silently, await stored(silently, replace(BASE, announced="")))
                took.append(loop.time() - began)
            assert took == [PROMPT_S, 0]
            assert outbox(storage) == [DUE, DUE]

        run(work)


class TestPublishing:
    async def test_what_the_topic_takes_is_gone(self, storage: FakeStorage) -> None:
        event = await announced(storage)
        await publish(storage.cloud(), NAME)
        assert storage.published == [event]
        assert (outbox(storage), await due(storage)) == ([], [])

    async def test_events_are_sent_in_their_order_and_none_twice(self, storage: FakeStorage, cloud: Cloud) -> None:
        await stored(cloud, BASE)
        for status in (UploadStatus.ACCEPTED, UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE):
            known = some(await cloud.state.uploads.get(NAME))
            await announce(by_queue(cloud), await stored(cloud, replace(known, status=status, live=1, live_at=START)))
        for _ in range(3):
            await publish(cloud, NAME)
        kinds = [event.kind for event in storage.published]
        assert kinds == [EventType.ACCEPTED, EventType.LIVE, EventType.PARTIALLY_LIVE]

    async def test_an_event_keeps_its_id_and_waits_ever_longer_while_the_topic_is_away(self) -> None:
        storage = FakeStorage()
        away = storage.cloud(Failing({"topic publish": [UnavailableError("away") for _ in range(4)]}))
        event = await announced(storage)
        waits = []
        for attempt in range(3):
            away.outlet_trouble[TOPIC].away_until = 0  # the wait is longer than that
            storage.queues[RECHECK_QUEUE].clear()
            await publish(away, NAME, attempt=attempt)
            [message] = storage.queues[RECHECK_QUEUE].values()
            waits.append((message.visible_at - storage.clock()).total_seconds())
            assert decode(RecheckUpload, message.body or "") == replace(DUE, attempt=attempt + 1)
        assert tuple(waits) == RETRY_DELAYS.seconds == (5, 15, 60)
        storage.queues[RECHECK_QUEUE].clear()
        await publish(away, NAME, attempt=3)
        assert outbox(storage) == []
        assert await due(storage) == [event]

    def test_a_topic_that_is_away_is_asked_once_in_a_while_however_many_wait(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)
            refusals = [AccessDeniedError("publishing: refused (Unauthorized)")] * 100
            cloud = storage.cloud(Failing({"topic publish": refusals}))
            names = [f"{number:03}.pfx" for number in range(50)]
            for name in names:
                await announce(by_queue(storage.cloud()), await stored(storage.cloud(), replace(BASE, name=name)))
            for name in names:
                await publish(cloud, name)
            assert len(refusals) == 99
            assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
            await asyncio.sleep(AWAY_S)
            refusals.clear()
            for name in names:
                await publish(cloud, name)
            assert len(storage.published) == len(names)

        assert RETRY_DELAYS[0] > AWAY_S
        run(work)

    async def test_the_sweep_has_an_event_sent_that_no_message_is_about_any_more(self, storage: FakeStorage) -> None:
        event = await announced(storage)
        record = some(await storage.state().uploads.get(NAME))
        asked = replace(record, due_asked_at=event.at)
        assert [n for n in range(8) if is_overdue(record, event.at + timedelta(minutes=n))] == [1, 2, 3, 4, 5, 6, 7]
        assert [n for n in range(8) if is_overdue(asked, event.at + timedelta(minutes=n))] == [5, 6, 7]

    @pytest.mark.parametrize("every_minutes", [1, 7, 60])
    async def test_however_seldom_sweeps_run_each_event_is_asked_for_and_not_by_every_one(
        self, every_minutes: int, storage: FakeStorage, cloud: Cloud
    ) -> None:
        event = await announced(storage, replace(BASE, claims=(), hosts=(), not_after=START + timedelta(days=300)))
        asked = 0
        for _ in range(14):
            storage.clock.advance(60 * every_minutes)
            record = some(await cloud.state.uploads.get(NAME))
            if is_overdue(record, storage.clock()):
                await send_overdue(cloud, record)
            asked += len(outbox(storage))
            storage.queues[RECHECK_QUEUE].clear()
        assert asked == (3 if every_minutes == 1 else 14)
        assert await due(storage) == [event]

    async def test_an_event_that_the_topic_refuses_for_good_is_dropped_and_keeps_none_back(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        storage = FakeStorage()
        strict = storage.cloud(Failing({"topic publish": [CertcastError("the service answered 413")]}))
        await announced(storage)
        live = await stored(strict, replace(some(await strict.state.uploads.get(NAME)), status=UploadStatus.LIVE))
        await announce(by_queue(strict), live)
        await publish(strict, NAME)
        assert [event.kind for event in storage.published] == [EventType.LIVE]
        assert await due(storage) == []
        assert "is given up: the service answered 413" in caplog.text

    async def test_a_role_that_is_not_granted_yet_loses_no_event(self, storage: FakeStorage) -> None:
        refused = storage.cloud(Failing({"topic publish": [AccessDeniedError("403")]}))
        event = await announced(storage)
        await publish(refused, NAME)
        assert await due(storage) == [event]

    async def test_an_event_is_given_up_after_a_week(self, caplog: pytest.LogCaptureFixture) -> None:
        storage = FakeStorage()
        away = storage.cloud(Failing({"topic publish": [UnavailableError("away")]}))
        await announced(storage)
        storage.clock.advance(KEEP_TRYING.total_seconds() + 1)
        await publish(away, NAME)
        assert (outbox(storage), await due(storage)) == ([], [])
        assert "is given up: away" in caplog.text

    async def test_with_neither_topic_nor_outbox_the_queue_delivers_it_again(self, storage: FakeStorage) -> None:
        await announced(storage)
        broken = {"topic publish": [UnavailableError("away")], "queue send": [UnavailableError("away too")]}
        with pytest.raises(UnavailableError, match="away too"):
            await publish(storage.cloud(Failing({key: list(value) for key, value in broken.items()})), NAME)


class TestSchemas:
    def test_every_event_type_has_one_and_each_is_a_schema(self) -> None:
        assert set(schemas()) == {kind.value for kind in EventType} | {"cloudevent", "upload", "test"}
        for name in schemas():
            validator(name)

    def test_what_events_name_as_the_schema_of_their_data_is_its_id(self) -> None:
        assert schemas()["upload"]["$id"] == UPLOAD_SCHEMA
        assert schemas()["test"]["$id"] == TEST_SCHEMA
        ids = [schema["$id"] for schema in schemas().values()]
        assert len(set(ids)) == len(ids)

    def test_a_test_event_is_as_its_schema_says(self) -> None:
        check_event(as_sent(trial_event(at=START, event_id="e1")))

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
            {"source": ""},
            {"source": "two words"},
            {"dataschema": TEST_SCHEMA},
            {"data": {"name": NAME}},
        ],
    )
    async def test_what_is_no_such_event_does_not_pass(self, change: dict[str, Any], storage: FakeStorage) -> None:
        event = await announced(storage)
        with pytest.raises(AssertionError):
            check_event(as_sent(event) | change)


@pytest.mark.parametrize("body", ["", "{}", "[1]", '{"version": 1}', "\ufffd"])
def test_a_message_that_names_no_upload_is_told_apart(body: str) -> None:
    with pytest.raises(BrokenMessageError):
        decode(RecheckUpload, body)
