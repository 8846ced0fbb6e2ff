import asyncio
import io
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import AccountSasPermissions, BlobBlock, ResourceTypes, generate_account_sas
from azure.storage.blob.aio import BlobServiceClient, ContainerClient
from yarl import URL

from local_azure.azurite import StorageEndpoints
from local_azure.eventgrid.delivery import Disorder, EventDelivery, RetrySchedule, Subscription
from local_azure.eventgrid.relay import EventGridRelay
from shared.bounded import Delays
from shared.config import EMULATOR_ACCOUNT, EMULATOR_KEY
from shared.errors import ConfigurationError
from tests.rigs.emulator import Emulator

Event = dict[str, Any]
QUICK = RetrySchedule(delays=Delays((0.05,)), refused_delay_s=0.05)
CERTIFICATES = "/blobServices/default/containers/{}/"


@dataclass
class Subscriber:
    """A webhook that keeps what it is sent, and answers as a test wants."""

    received: list[tuple[str, Event]] = field(default_factory=list)
    answer: Callable[[Event], int] = lambda _event: 200
    validates: bool = True
    url: str = ""
    asked_thrice: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def events(self) -> list[Event]:
        return [event for kind, event in self.received if kind == "Notification"]

    async def take(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        kind = request.headers["aeg-event-type"]
        self.received.append((kind, event))
        if len(self.received) == 3:
            self.asked_thrice.set()
        if kind == "SubscriptionValidation":
            code = event["data"]["validationCode"] if self.validates else "another"
            return web.json_response({"validationResponse": code})
        return web.Response(status=self.answer(event))


@asynccontextmanager
async def listening(subscriber: Subscriber, port: int = 0) -> AsyncIterator[Subscriber]:
    app = web.Application()
    app.router.add_post("/hook", subscriber.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    subscriber.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield subscriber
    finally:
        await runner.cleanup()


def endpoints(azurite: Emulator) -> StorageEndpoints:
    ports = [urlsplit(url).port or 0 for url in (azurite.blob_url, azurite.queue_url, azurite.table_url)]
    return StorageEndpoints(blob_port=ports[0], queue_port=ports[1], table_port=ports[2])


@dataclass
class Bench:
    """A relay, its subscriber, and a container that is subscribed to."""

    relay: EventGridRelay
    subscriber: Subscriber
    container: ContainerClient
    service: BlobServiceClient

    async def events(self) -> list[Event]:
        await self.relay.delivery.idle()
        return self.subscriber.events

    async def changes(self) -> list[tuple[str, str]]:
        """The API and the blob name of each event, in the order of their sequencers."""
        ordered = sorted(await self.events(), key=lambda event: str(event["data"]["sequencer"]))
        return [(event["data"]["api"], event["subject"].partition("/blobs/")[2]) for event in ordered]


@asynccontextmanager
async def bench(
    azurite: Emulator, subscriber: Subscriber, schedule: RetrySchedule = QUICK, drop: float = 0.0
) -> AsyncIterator[Bench]:
    name = f"c{uuid.uuid4().hex}"
    upstream = endpoints(azurite)
    subscription = Subscription(endpoint=subscriber.url, subject_begins_with=CERTIFICATES.format(name))
    relay = await EventGridRelay(upstream, EventDelivery(subscription, schedule=schedule, drop=drop)).start()
    through = StorageEndpoints(blob_port=relay.port, queue_port=upstream.queue_port, table_port=upstream.table_port)
    try:
        async with BlobServiceClient.from_connection_string(through.connection_string) as service:
            container = await service.create_container(name)
            yield Bench(relay=relay, subscriber=subscriber, container=container, service=service)
    finally:
        await relay.stop()


@pytest.fixture
async def relayed(azurite: Emulator) -> AsyncIterator[Bench]:
    async with listening(Subscriber()) as subscriber, bench(azurite, subscriber) as made:
        yield made


async def test_an_upload_makes_one_event_that_names_the_blob_and_its_version(relayed: Bench) -> None:
    blob = relayed.container.get_blob_client("shop.pfx")
    answer = await blob.upload_blob(b"content", metadata={"HostHeader": "a.example"}, tags={"a": "b"})
    (event,) = await relayed.events()
    assert event["eventType"] == "Microsoft.Storage.BlobCreated"
    assert event["subject"] == f"/blobServices/default/containers/{relayed.container.container_name}/blobs/shop.pfx"
    data = event["data"]
    assert data["api"] == "PutBlob"
    assert data["eTag"] == str(answer["etag"]).strip('"')
    assert data["requestId"] == answer["request_id"]
    assert data["clientRequestId"] == answer["client_request_id"]
    assert data["contentLength"] == 7
    assert data["contentType"] == "application/octet-stream"
    assert data["blobType"] == "BlockBlob"
    assert data["url"] == blob.url


async def test_a_block_list_tells_the_size_of_the_whole_and_blocks_tell_nothing(relayed: Bench) -> None:
    blob = relayed.container.get_blob_client("blocks.pfx")
    await blob.stage_block("QQ==", b"a" * 10)
    await blob.stage_block("Qg==", b"b" * 5)
    answer = await blob.commit_block_list([BlobBlock("QQ=="), BlobBlock("Qg==")])
    (event,) = await relayed.events()
    assert event["data"]["api"] == "PutBlockList"
    assert event["data"]["contentLength"] == 15
    assert event["data"]["eTag"] == str(answer["etag"]).strip('"')


async def test_a_copy_whose_source_is_named_through_the_relay_makes_an_event(relayed: Bench) -> None:
    source = relayed.container.get_blob_client("a b/ü%.pfx")
    await source.upload_blob(b"content")
    await relayed.container.get_blob_client("copy.pfx").start_copy_from_url(source.url)
    await relayed.container.get_blob_client("sync.pfx").start_copy_from_url(source.url, requires_sync=True)
    assert await relayed.changes() == [("PutBlob", "a b/ü%.pfx"), ("CopyBlob", "copy.pfx"), ("CopyBlob", "sync.pfx")]
    assert {event["data"]["contentLength"] for event in await relayed.events()} == {7}


async def test_a_deletion_tells_the_type_of_what_was_deleted(relayed: Bench) -> None:
    blob = relayed.container.get_blob_client("log.txt")
    await blob.create_append_blob()
    await blob.append_block(b"line")
    await blob.delete_blob()
    assert await relayed.changes() == [("PutBlob", "log.txt"), ("DeleteBlob", "log.txt")]
    deleted = next(event for event in await relayed.events() if event["data"]["api"] == "DeleteBlob")
    assert deleted["eventType"] == "Microsoft.Storage.BlobDeleted"
    assert deleted["data"]["blobType"] == "AppendBlob"
    assert deleted["data"].keys().isdisjoint({"eTag", "contentLength"})


async def test_what_does_not_change_the_content_makes_no_event(relayed: Bench) -> None:
    blob = relayed.container.get_blob_client("a.pfx")
    await blob.upload_blob(b"content")
    await relayed.events()
    relayed.subscriber.received.clear()

    await blob.set_blob_metadata({"CertificatePassword": "x"})
    await blob.set_blob_tags({"status": "live"})
    await blob.set_http_headers()
    lease = await blob.acquire_lease()
    await lease.release()
    snapshot = await blob.create_snapshot()
    await blob.create_snapshot()
    await relayed.container.get_blob_client("a.pfx", snapshot=str(snapshot["snapshot"])).delete_blob()
    await blob.delete_blob(delete_snapshots="only")
    await (await blob.download_blob()).readall()
    assert [found.name async for found in relayed.container.list_blobs()] == ["a.pfx"]
    assert await relayed.events() == []


async def test_a_write_that_fails_makes_no_event(relayed: Bench) -> None:
    blob = relayed.container.get_blob_client("a.pfx")
    with pytest.raises(ResourceNotFoundError):
        await blob.delete_blob()
    await blob.upload_blob(b"content")
    with pytest.raises(ResourceModifiedError):
        await blob.upload_blob(b"x", overwrite=True, etag='"0x1"', match_condition=MatchConditions.IfNotModified)
    assert await relayed.changes() == [("PutBlob", "a.pfx")]


async def test_other_containers_are_not_subscribed_to(relayed: Bench) -> None:
    other = await relayed.service.create_container(f"o{uuid.uuid4().hex}")
    await other.upload_blob("a.pfx", b"content")
    await other.delete_container()
    assert await relayed.events() == []


@pytest.mark.parametrize(
    "name", ["a/b/c.pfx", "with space.pfx", "100%.pfx", "grün€😀.pfx", "a+b&c=d#e?.pfx", "%2F.pfx"]
)
async def test_names_of_every_kind_reach_storage_and_subscriber_alike(relayed: Bench, name: str) -> None:
    await relayed.container.upload_blob(name, b"content")
    (event,) = await relayed.events()
    assert event["subject"].partition("/blobs/")[2] == name
    assert [found.name async for found in relayed.container.list_blobs()] == [name]
    assert event["data"]["url"] == relayed.container.get_blob_client(name).url


async def test_blobs_larger_than_any_buffer_pass_unchanged_in_ranges_and_whole(relayed: Bench) -> None:
    content = os.urandom(9 * 1024 * 1024 + 17)
    headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-12-02"}
    async with (
        aiohttp.ClientSession() as session,
        session.put(signed(f"{relayed.container.url}/large.bin"), data=io.BytesIO(content), headers=headers) as answer,
    ):
        assert answer.status == 201
    blob = relayed.container.get_blob_client("large.bin")
    assert await (await blob.download_blob(max_concurrency=4)).readall() == content
    assert await (await blob.download_blob(offset=5_000_000, length=1234)).readall() == content[5_000_000:5_001_234]
    assert (await blob.get_blob_properties()).size == len(content)
    assert (await relayed.events())[0]["data"]["contentLength"] == len(content)


def account_sas() -> str:
    return generate_account_sas(
        EMULATOR_ACCOUNT,
        EMULATOR_KEY,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, write=True, delete=True, list=True, create=True),
        datetime.now(UTC) + timedelta(hours=1),
    )


def signed(url: str, separator: str = "?") -> URL:
    return URL(f"{url}{separator}{account_sas()}", encoded=True)


async def test_a_shared_access_signature_is_as_good_as_the_key(relayed: Bench) -> None:
    url = f"http://127.0.0.1:{relayed.relay.port}/{EMULATOR_ACCOUNT}"
    async with BlobServiceClient(url, credential=account_sas()) as service:
        await service.get_container_client(relayed.container.container_name).upload_blob("sas name.pfx", b"content")
    assert await relayed.changes() == [("PutBlob", "sas name.pfx")]


async def test_a_chunked_upload_that_asks_first_passes(relayed: Bench) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(50):
            yield b"%04d" % number * 1000
            await asyncio.sleep(0)

    headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-12-02", "Content-Type": "text/plain"}
    async with (
        aiohttp.ClientSession() as session,
        session.put(
            signed(f"{relayed.container.url}/chunked.bin"), data=chunks(), headers=headers, expect100=True
        ) as answer,
    ):
        # Storage wants a length for Put Blob; whatever it answers is what the client must see.
        assert (answer.status < 300) == bool(await relayed.events())
        assert answer.headers["Server"].startswith("Azurite-Blob/")


async def test_a_client_that_hangs_up_in_the_middle_makes_no_event_and_blocks_no_other(relayed: Bench) -> None:
    target = f"/{EMULATOR_ACCOUNT}/{relayed.container.container_name}/half.pfx?{account_sas()}"
    head = (
        f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{relayed.relay.port}\r\nContent-Length: 1000000\r\n"
        "x-ms-blob-type: BlockBlob\r\nx-ms-version: 2021-12-02\r\n\r\n"
    )
    _reader, writer = await asyncio.open_connection("127.0.0.1", relayed.relay.port)
    writer.write(head.encode() + b"x" * 1000)
    await writer.drain()
    await relayed.container.upload_blob("half.pfx", b"whole")
    writer.close()
    await writer.wait_closed()
    blob = relayed.container.get_blob_client("half.pfx")
    assert await (await blob.download_blob()).readall() == b"whole"
    assert await relayed.changes() == [("PutBlob", "half.pfx")]


async def test_a_batch_makes_one_event_for_each_blob_it_deleted(relayed: Bench) -> None:
    for name in ("a b.pfx", "c.pfx"):
        await relayed.container.upload_blob(name, b"content")
    name, sas = relayed.container.container_name, account_sas()
    parts = "".join(
        f"--batch_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: {number}\r\n"
        f"\r\nDELETE /{EMULATOR_ACCOUNT}/{name}/{blob}?{sas} HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
        for number, blob in enumerate(["a%20b.pfx", "missing.pfx", "c.pfx"])
    )
    headers = {"Content-Type": "multipart/mixed; boundary=batch_1", "x-ms-version": "2021-12-02"}
    url = signed(f"http://127.0.0.1:{relayed.relay.port}/{EMULATOR_ACCOUNT}/?comp=batch", "&")
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=f"{parts}--batch_1--\r\n".encode(), headers=headers) as answer,
    ):
        assert answer.status == 202
        assert (await answer.text()).count("HTTP/1.1 202") == 2
    assert sorted((await relayed.changes())[2:]) == [("DeleteBlob", "a b.pfx"), ("DeleteBlob", "c.pfx")]


async def test_the_last_event_by_sequencer_is_the_version_that_storage_holds(relayed: Bench) -> None:
    blob = relayed.container.get_blob_client("contested.pfx")
    await asyncio.gather(*(blob.upload_blob(b"%d" % number, overwrite=True) for number in range(40)))
    last = max(await relayed.events(), key=lambda event: str(event["data"]["sequencer"]))
    assert len(await relayed.events()) == 40
    assert last["data"]["eTag"] == (await blob.get_blob_properties()).etag.strip('"')


async def test_nothing_is_delivered_before_the_subscriber_has_answered_the_handshake(azurite: Emulator) -> None:
    subscriber = Subscriber(validates=False)
    async with listening(subscriber), bench(azurite, subscriber) as made:
        await made.container.upload_blob("a.pfx", b"content")
        await asyncio.wait_for(subscriber.asked_thrice.wait(), 10)
        assert subscriber.events == []
        subscriber.validates = True
        assert len(await made.events()) == 1


async def test_a_subscriber_that_starts_later_gets_what_happened_before(azurite: Emulator) -> None:
    subscriber = Subscriber()
    async with listening(subscriber):
        port = urlsplit(subscriber.url).port or 0
    async with bench(azurite, subscriber) as made:
        await made.container.upload_blob("a.pfx", b"content")
        async with listening(subscriber, port):
            assert await made.changes() == [("PutBlob", "a.pfx")]
        await made.container.upload_blob("b.pfx", b"content")
        async with listening(subscriber, port):
            assert await made.changes() == [("PutBlob", "a.pfx"), ("PutBlob", "b.pfx")]


async def test_a_failed_delivery_is_repeated_until_it_succeeds(azurite: Emulator) -> None:
    statuses = iter([500, 503, 404, 202])
    async with (
        listening(Subscriber(answer=lambda _event: next(statuses))) as subscriber,
        bench(azurite, subscriber) as made,
    ):
        await made.container.upload_blob("a.pfx", b"content")
        events = await made.events()
        assert [event["id"] for event in events] == [events[0]["id"]] * 4
        assert made.relay.delivery.counts["delivered"] == 1


@pytest.mark.parametrize("status", [400, 401, 403, 413])
async def test_an_event_that_is_refused_is_dropped_with_a_loud_line(
    azurite: Emulator, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(Subscriber(answer=lambda _event: status)) as subscriber, bench(azurite, subscriber) as made:
        await made.container.upload_blob("a.pfx", b"content")
        assert len(await made.events()) == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert f"dropped: the endpoint answered {status}" in line


async def test_an_event_that_is_too_old_is_given_up(azurite: Emulator) -> None:
    schedule = RetrySchedule(delays=Delays((0.02,)), time_to_live_s=0.1)
    async with (
        listening(Subscriber(answer=lambda _event: 500)) as subscriber,
        bench(azurite, subscriber, schedule) as made,
    ):
        await made.container.upload_blob("a.pfx", b"content")
        assert 1 < len(await made.events()) < 10
        assert made.relay.delivery.counts["dropped"] == 1


async def test_events_can_be_withheld_for_a_test(azurite: Emulator) -> None:
    async with listening(Subscriber()) as subscriber, bench(azurite, subscriber, drop=0.5) as made:
        for number in range(40):
            await made.container.upload_blob(f"{number}.pfx", b"content")
        arrived = len(await made.events())
        assert 0 < arrived < 40
        assert made.relay.delivery.counts["lost"] == 40 - arrived

        made.relay.delivery.drop = 1.0
        await made.container.upload_blob("lost.pfx", b"content")
        assert len(await made.events()) == arrived


async def test_events_can_be_doubled_and_overtaken_for_a_test(azurite: Emulator) -> None:
    async with listening(Subscriber()) as subscriber, bench(azurite, subscriber) as made:
        made.relay.delivery.disorder = Disorder(doubled=0.5, late=0.5, late_s=0.2)
        for number in range(40):
            await made.container.upload_blob(f"{number:02}.pfx", b"content")
        names = [event["subject"].rpartition("/")[2] for event in await made.events()]
        assert set(names) == {f"{number:02}.pfx" for number in range(40)}
        assert 40 < len(names) < 80
        assert names != sorted(names)


async def test_an_event_is_given_up_after_its_last_attempt(azurite: Emulator) -> None:
    schedule = RetrySchedule(delays=Delays((0.01,)), most_attempts=3)
    async with (
        listening(Subscriber(answer=lambda _event: 500)) as subscriber,
        bench(azurite, subscriber, schedule) as made,
    ):
        await made.container.upload_blob("a.pfx", b"content")
        assert len(await made.events()) == 3
        assert made.relay.delivery.counts["dropped"] == 1


async def test_a_client_is_asked_to_come_back_when_azurite_is_gone(azurite: Emulator) -> None:
    gone = StorageEndpoints(blob_port=1, queue_port=1, table_port=1)
    async with listening(Subscriber()) as subscriber:
        relay = await EventGridRelay(gone, EventDelivery(Subscription(endpoint=subscriber.url))).start()
        try:
            async with aiohttp.ClientSession() as session:
                for target in ("c?restype=container", "c/b"):
                    url = f"http://127.0.0.1:{relay.port}/{EMULATOR_ACCOUNT}/{target}"
                    async with session.put(url, headers={"x-ms-blob-type": "BlockBlob"}, data=b"x") as answer:
                        assert answer.status == 503
        finally:
            await relay.stop()
    assert azurite.blob_url


async def test_a_taken_port_is_one_line(azurite: Emulator) -> None:
    taken = urlsplit(azurite.blob_url).port or 0
    with pytest.raises(ConfigurationError, match=f"port {taken} for the blob service is taken"):
        await EventGridRelay(endpoints(azurite), EventDelivery(Subscription(endpoint="http://127.0.0.1:1/"))).start(
            taken
        )
