"""The storage edges against the emulator: the same contract as the fakes, and what only real requests can show."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity import DefaultAzureCredential
from azure.storage import blob as blocking
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from shared.azure.account import _TABLE_PATIENCE, Account
from shared.azure.blobs import UPLOADS_CONTAINER, AzureUploads
from shared.azure.bundles import BUNDLES_CONTAINER, SealedBundles
from shared.azure.clock import ServiceClock
from shared.azure.key_encryption import make_key_file, read_key_file
from shared.azure.key_ring import open_keys
from shared.azure.tables import AzureTable
from shared.binding import BindingState, DesiredBinding
from shared.bundle import MAX_BUNDLE_BYTES
from shared.config import StorageAccess
from shared.errors import CertcastError, ConfigurationError, ConflictError, NotSetUpError, UnavailableError
from shared.ports import StoredBundle
from shared.state.records import InstallationRecord, UploadRecord, UploadStatus
from tests.contracts.edges import BundlesContract, Edges, QueuesContract, TableContract, UploadsContract, own
from tests.fakes.storage import START
from tests.rigs.certificates import authority
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.rows import claim
from tests.rigs.some import some

_SOME_ETAG = "W/\"datetime'2026-03-01T12%3A00%3A00.0000000Z'\""


@pytest.fixture
async def account(azurite: Emulator, tmp_path: Path) -> AsyncIterator[Account]:
    async with opened_account(azurite.connection_string, tmp_path / "key") as opened:
        yield opened


@pytest.fixture
async def edges(azurite: Emulator, account: Account, tmp_path: Path) -> AsyncIterator[Edges]:
    async with (
        opened_account(azurite.connection_string, tmp_path / "another key") as other,
        QueueServiceClient.from_connection_string(azurite.connection_string) as raw,
    ):

        async def send_raw(queue: str, text: str) -> None:
            await raw.get_queue_client(queue).send_message(text)

        async def wait(seconds: float) -> None:
            await asyncio.sleep(seconds)

        yield Edges(
            table=account.state.installations._table,
            uploads=account.uploads,
            bundles=account.bundles,
            other_bundles=other.bundles,
            queues=account.queues,
            send_raw=send_raw,
            wait=wait,
        )


class TestAzureTable(TableContract):
    pass


class TestAzureUploads(UploadsContract):
    pass


class TestSealedBundles(BundlesContract):
    pass


class TestAzureQueues(QueuesContract):
    pass


@pytest.fixture
async def watched(azurite: Emulator) -> AsyncIterator[Callable[..., Any]]:
    """Makes a client of a container that notes its requests' methods, and lets something happen after an answer."""
    async with contextlib.AsyncExitStack() as stack:

        async def client_of(container: str, methods: list[str], meddle: Callable[[str], Awaitable[None]]) -> Any:
            class Transport(AioHttpTransport):  # type: ignore[misc]
                async def send(self, request: Any, **options: Any) -> Any:
                    methods.append(request.method)
                    answer = await super().send(request, **options)
                    await meddle(request.method)
                    return answer

            service = BlobServiceClient.from_connection_string(azurite.connection_string, transport=Transport())
            return (await stack.enter_async_context(service)).get_container_client(container)

        yield client_of


async def nothing(_: str) -> None:
    """Let nothing happen."""


class TestReadingAnUpload:
    async def test_takes_one_request_however_much_there_is(self, account: Account, watched: Callable[..., Any]) -> None:
        methods: list[str] = []
        uploads = AzureUploads(await watched(UPLOADS_CONTAINER, methods, nothing))
        for content in (b"a", b"a" * 100, b"a" * 101, os.urandom(3_000_000)):
            name = own("a")
            etag = await account.uploads.write(name, content, {"HostHeader": "h"})
            found = some(await uploads.read(name, max_bytes=100))
            assert (found.content, found.version.size, found.version.etag) == (content[:100], len(content), etag)
            assert found.version == await account.uploads.version(name)
        assert methods == ["GET"] * 4

    async def test_that_is_empty_takes_two(self, account: Account, watched: Callable[..., Any]) -> None:
        methods: list[str] = []
        name = own("a")
        await account.uploads.write(name, b"", {"HostHeader": "h"})
        found = some(await AzureUploads(await watched(UPLOADS_CONTAINER, methods, nothing)).read(name, max_bytes=9))
        assert (found.content, found.version) == (b"", await account.uploads.version(name))
        assert methods == ["GET", "HEAD"]

    async def test_that_was_empty_a_moment_ago_tells_of_one_version(
        self, account: Account, watched: Callable[..., Any]
    ) -> None:
        methods: list[str] = []
        name = own("a")
        await account.uploads.write(name, b"", {"HostHeader": "old"})

        async def fill(_: str) -> None:
            if len(methods) == 1:
                await account.uploads.write(name, b"new content", {"HostHeader": "new"})

        found = some(await AzureUploads(await watched(UPLOADS_CONTAINER, methods, fill)).read(name, max_bytes=99))
        assert (found.content, found.version.metadata) == (b"new content", {"HostHeader": "new"})
        assert methods == ["GET", "HEAD", "GET"]

    async def test_that_is_emptied_and_filled_again_and_again_is_put_off(
        self, account: Account, watched: Callable[..., Any]
    ) -> None:
        name = own("a")
        await account.uploads.write(name, b"", {})

        async def change(method: str) -> None:
            await account.uploads.write(name, b"" if method == "HEAD" else b"new", {})

        with pytest.raises(ConflictError, match="again and again") as caught:
            await AzureUploads(await watched(UPLOADS_CONTAINER, [], change)).read(name, max_bytes=99)
        assert caught.value.retriable

    async def test_that_is_deleted_meanwhile_finds_nothing(self, account: Account, watched: Callable[..., Any]) -> None:
        name = own("a")
        await account.uploads.write(name, b"", {})

        async def delete(_: str) -> None:
            await account.uploads.delete(name)

        assert await AzureUploads(await watched(UPLOADS_CONTAINER, [], delete)).read(name, max_bytes=99) is None


class TestMetadata:
    @pytest.mark.parametrize("value", ["größe", "日本", "a\nb", "a\x01b"])
    async def test_that_cannot_be_sent_is_named_in_a_sentence(self, account: Account, value: str) -> None:
        name = own("a")
        with pytest.raises(CertcastError, match="the metadata HostHeader has characters outside ASCII") as caught:
            await account.uploads.write(name, b"", {"Role": "web", "HostHeader": value})
        assert not caught.value.retriable
        etag = await account.uploads.write(name, b"", {})
        with pytest.raises(CertcastError, match=f"writing the metadata of blob {name}: the metadata HostHeader"):
            await account.uploads.set_metadata(name, {"HostHeader": value}, etag=etag)

    @pytest.mark.parametrize("key", ["a-b", "1a"])
    async def test_whose_name_azure_does_not_take_is_refused_in_a_sentence(self, account: Account, key: str) -> None:
        with pytest.raises(CertcastError, match="metadata has names of ASCII letters, digits and _"):
            await account.uploads.write(own("a"), b"", {key: "x"})


class TestTypedRows:
    async def test_an_upload_with_every_column_set_is_read_back_whole(self, account: Account) -> None:
        issued = authority().issue("a.example.com")
        record = UploadRecord(
            name=f"folder/{own()} größe.pfx",
            revision=3,
            status=UploadStatus.LIVE,
            etag="0x8DC",
            hosts=tuple(f"{'h' * 200}{number}.example.com" for number in range(250)),
            subject=issued.bundle().subject,
            not_before=START,
            live_at=START,
            warned_days=-1,
        )
        await account.state.uploads.update(record.name, lambda _: record)
        assert await account.state.uploads.get(record.name) == record
        assert record in [known.value async for known in account.state.uploads.all()]

    async def test_two_hundred_claims_fit_one_row(self, account: Account) -> None:
        claims = tuple(
            claim(f"{number}/{'n' * 1000}.pfx", bundle=f"{own()}/{own()}", revision=number, source_etag=own())
            for number in range(200)
        )
        row = DesiredBinding(
            role="*",
            host=own(),
            port=443,
            state=BindingState.PRESENT,
            generation=1,
            changed_at=START,
            claims=claims,
        )
        await account.state.bindings.update(row.key, lambda _: row)
        assert await account.state.bindings.get(row.key) == row

    async def test_milliseconds_by_stage_are_read_back(self, account: Account) -> None:
        entry = InstallationRecord(
            host=own(),
            port=443,
            instance="web_0",
            role="*",
            generation=2,
            source="a.pfx",
            outcome="live",  # type: ignore[arg-type]  # as read from a message
            finished_at=START,
            reported_at=START,
            stages_ms={"apply": 1.5, "probe": 2.0},
        )
        key = (entry.host, entry.port, entry.instance)
        await account.state.installations.update(key, lambda _: entry)
        assert await account.state.installations.get(key) == entry

    async def test_fifty_writers_of_one_row_each_get_their_turn(self, account: Account) -> None:
        name = own()

        async def write() -> None:
            def count(known: UploadRecord | None) -> UploadRecord:
                before = 0 if known is None else known.revision
                return UploadRecord(name=name, revision=before + 1, status=UploadStatus.RECEIVED)

            await account.state.uploads.update(name, count)

        await asyncio.gather(*(write() for _ in range(50)))
        assert some(await account.state.uploads.get(name)).revision == 50


class TestSealing:
    async def test_no_part_of_the_key_is_stored_in_the_clear(self, azurite: Emulator, account: Account) -> None:
        bundle = authority().issue("a.example.com").bundle()
        bundle_id = f"{own('b')}/{own('c')}"
        await account.bundles.seal(bundle_id, bundle.to_pem())
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            blob = service.get_blob_client(BUNDLES_CONTAINER, f"{bundle_id}.pem")
            stored = await (await blob.download_blob()).readall()
            metadata = (await blob.get_blob_properties()).metadata
        pem = bundle.to_pem()
        assert pem[100:116] not in stored
        assert b"PRIVATE KEY" not in stored
        assert "A256KW" in metadata["encryptiondata"]

    async def test_a_bundle_that_was_tampered_with_is_refused(self, azurite: Emulator, account: Account) -> None:
        bundle_id = f"{own('b')}/{own('c')}"
        await account.bundles.seal(bundle_id, b"pem" * 1000)
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            blob = service.get_blob_client(BUNDLES_CONTAINER, f"{bundle_id}.pem")
            stored = bytearray(await (await blob.download_blob()).readall())
            metadata = (await blob.get_blob_properties()).metadata
            stored[100] ^= 1
            await blob.upload_blob(bytes(stored), metadata=metadata, overwrite=True)
        with pytest.raises(Exception, match="is damaged"):
            await account.bundles.open(bundle_id)

    async def test_a_bundle_stored_in_the_clear_is_refused(self, azurite: Emulator, account: Account) -> None:
        bundle_id = f"{own('b')}/{own('c')}"
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            await service.get_blob_client(BUNDLES_CONTAINER, f"{bundle_id}.pem").upload_blob(b"planted")
        with pytest.raises(Exception, match="cannot be opened"):
            await account.bundles.open(bundle_id)

    async def test_one_of_nothing_at_all_is_refused(self, azurite: Emulator, account: Account) -> None:
        bundle_id = f"{own('b')}/{own('c')}"
        await account.bundles.seal(bundle_id, b"pem")
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            blob = service.get_blob_client(BUNDLES_CONTAINER, f"{bundle_id}.pem")
            metadata = (await blob.get_blob_properties()).metadata
            await blob.upload_blob(b"", metadata=metadata, overwrite=True)
        with pytest.raises(CertcastError, match=f"bundle {bundle_id} cannot be opened with key file:key"):
            await account.bundles.open(bundle_id)

    @pytest.mark.usefixtures("account")
    async def test_sealing_and_opening_take_one_request_each(self, tmp_path: Path, watched: Callable[..., Any]) -> None:
        methods: list[str] = []
        container = await watched(BUNDLES_CONTAINER, methods, nothing)
        bundle_id = f"{own('b')}/{own('c')}"
        with (
            contextlib.closing(open_keys(f"file:{tmp_path / 'key'}", DefaultAzureCredential)) as keys,
            ThreadPoolExecutor(1) as threads,
        ):
            bundles = SealedBundles(container, keys, threads)
            await bundles.seal(bundle_id, b"pem" * 1000)
            assert await bundles.open(bundle_id) == b"pem" * 1000
        assert methods == ["PUT", "GET"]

    @pytest.mark.parametrize("size", [1, 5000, MAX_BUNDLE_BYTES])
    async def test_the_sdk_opens_what_is_sealed_here_and_what_it_sealed_is_opened(
        self, azurite: Emulator, account: Account, tmp_path: Path, size: int
    ) -> None:
        ours, theirs, content = f"{own('b')}/{own('c')}", f"{own('b')}/{own('c')}", os.urandom(size)
        await account.bundles.seal(ours, content)
        service = blocking.BlobServiceClient.from_connection_string(
            azurite.connection_string,
            require_encryption=True,
            encryption_version="2.0",
            key_encryption_key=read_key_file(tmp_path / "key"),
        )
        with service, service.get_container_client(BUNDLES_CONTAINER) as sdk:
            assert sdk.download_blob(f"{ours}.pem").readall() == content
            sdk.upload_blob(f"{theirs}.pem", content)
        assert await account.bundles.open(theirs) == content

    async def test_many_bundles_are_opened_at_once(self, account: Account) -> None:
        ids = [f"{own('b')}/{own('c')}" for _ in range(40)]
        await asyncio.gather(*(account.bundles.seal(each, each.encode()) for each in ids))
        assert await asyncio.gather(*(account.bundles.open(each) for each in ids)) == [each.encode() for each in ids]


class TestAnAccount:
    async def test_creating_everything_twice_does_no_harm(self, account: Account) -> None:
        await account.create_all()
        assert [name async for name in account.queues.names("install-results")] == ["install-results"]

    async def test_without_a_key_bundles_cannot_be_asked_for(self, azurite: Emulator) -> None:
        async with Account(StorageAccess(connection_string=azurite.connection_string)) as keyless:
            with pytest.raises(ConfigurationError, match="CERTCAST_KEY_ENCRYPTION_KEY"):
                _ = keyless.bundles

    @pytest.mark.parametrize("off_s", [600, -600])
    async def test_its_clock_goes_by_the_services_and_not_by_the_machines(
        self, azurite: Emulator, monkeypatch: pytest.MonkeyPatch, off_s: int
    ) -> None:
        wrong = partial(ServiceClock, machine=lambda: time.time() + off_s)
        monkeypatch.setattr("shared.azure.account.ServiceClock", wrong)
        async with Account(StorageAccess(connection_string=azurite.connection_string)) as opened:
            assert abs(opened.clock.now().timestamp() - time.time() - off_s) < 60
            await opened.state.uploads.get(own("none"))
            assert abs(opened.clock.now().timestamp() - time.time()) < 60

    async def test_nothing_is_taken_for_gone_because_its_container_is_not_there(self, azurite: Emulator) -> None:
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            uploads = AzureUploads(service.get_container_client(own("none")))
            for asked in (
                uploads.version("a.pfx"),
                uploads.read("a.pfx", max_bytes=1),
                uploads.write("a.pfx", b"", {}),
                uploads.set_metadata("a.pfx", {}, etag="0x1"),
                uploads.set_tags("a.pfx", {}),
                uploads.tags("a.pfx"),
                uploads.delete("a.pfx"),
                anext(uploads.each()),
            ):
                with pytest.raises(NotSetUpError, match="the container itself is not there"):
                    await asked

    async def test_no_row_is_taken_for_gone_because_its_table_is_not_there(self, account: Account) -> None:
        table = AzureTable(account._tables.get_table_client("nosuchtable"))
        for asked in (
            table.get("p", "r"),
            table.insert("p", "r", {}),
            table.replace("p", "r", {}, etag=_SOME_ETAG),
            table.put("p", "r", {}),
            anext(table.query()),
        ):
            with pytest.raises(NotSetUpError, match="nosuchtable: the table itself is not there"):
                await asked

    async def test_no_bundle_is_taken_for_gone_because_its_container_is_not_there(
        self, azurite: Emulator, tmp_path: Path
    ) -> None:
        make_key_file(tmp_path / "key")
        with (
            contextlib.closing(open_keys(f"file:{tmp_path / 'key'}", DefaultAzureCredential)) as keys,
            ThreadPoolExecutor(1) as threads,
        ):
            async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
                bundles = SealedBundles(service.get_container_client(own("none")), keys, threads)
                stored = StoredBundle(bundle_id="a/b", stored_at=START, etag="0x1")
                for asked in (bundles.seal("a/b", b""), bundles.open("a/b"), bundles.delete(stored)):
                    with pytest.raises(NotSetUpError, match="the container itself is not there"):
                        await asked

    async def test_a_service_that_does_not_answer_is_unavailable_and_no_secret_is_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level(logging.INFO)
        monkeypatch.setitem(_TABLE_PATIENCE, "retry_total", 0)
        closed = "http://127.0.0.1:9/devstoreaccount1"
        key = "c2VjcmV0IG9mIHRoZSBhY2NvdW50"
        text = (
            f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};"
            f"BlobEndpoint={closed};QueueEndpoint={closed};TableEndpoint={closed};"
        )
        make_key_file(tmp_path / "key")
        unreachable = Account(StorageAccess(connection_string=text), key_encryption_key=f"file:{tmp_path / 'key'}")
        async with unreachable as account:
            with pytest.raises(UnavailableError) as caught:
                await account.state.uploads.get("a.pfx")
        assert caught.value.retriable
        assert key not in str(caught.value)
        assert key not in caplog.text

    async def test_a_proxy_that_the_environment_names_is_used_and_without_one_no_thread_looks_for_it(
        self, azurite: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(_TABLE_PATIENCE, "retry_total", 0)
        access = StorageAccess(connection_string=azurite.connection_string)
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        async with Account(access) as direct:
            before = threading.active_count()
            assert await direct.state.uploads.get(own("a")) is None
            assert threading.active_count() == before
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        async with Account(access) as behind_one:
            with pytest.raises(UnavailableError):
                await behind_one.state.uploads.get(own("a"))

    def test_a_connection_string_that_is_cut_short_is_a_setting_to_correct(self) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_STORAGE") as caught:
            Account(StorageAccess(connection_string="BlobEndpoint=http://127.0.0.1:9/x;AccountKey=c2VjcmV0;"))
        assert "c2VjcmV0" not in str(caught.value)

    async def test_uploads_are_looked_for_in_the_container_that_people_upload_to(
        self, azurite: Emulator, account: Account
    ) -> None:
        name = own("a")
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            await service.get_blob_client(UPLOADS_CONTAINER, name).upload_blob(b"x", metadata={"hostheader": "h"})
        assert some(await account.uploads.read(name, max_bytes=10)).version.metadata == {"hostheader": "h"}
