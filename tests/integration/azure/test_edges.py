"""The storage edges against the emulator: the same contract as the fakes, and what only real requests can show."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import DefaultAzureCredential
from azure.storage import blob as blocking
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from shared.azure.account import _TABLE_PATIENCE, Account
from shared.azure.blobs import UPLOADS_CONTAINER, AzureUploads
from shared.azure.bundles import BUNDLES_CONTAINER, SealedBundles
from shared.azure.clock import ServiceClock
from shared.azure.key_encryption import make_key_file
from shared.azure.key_ring import open_keys
from shared.azure.tables import AzureTable
from shared.binding import BindingState, DesiredBinding
from shared.config import StorageAccess
from shared.errors import ConfigurationError, ConflictError, MissingError, UnavailableError
from shared.state.records import InstallationRecord, UploadRecord, UploadStatus
from tests.contracts.edges import BundlesContract, Edges, QueuesContract, TableContract, UploadsContract, own
from tests.fakes.storage import START
from tests.rigs.certificates import authority
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.rows import claim
from tests.rigs.some import some


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


@pytest.mark.usefixtures("no_pause")
class TestSealedBundles(BundlesContract):
    pass


class TestAzureQueues(QueuesContract):
    pass


class Meddling:
    """A container client that lets something happen between looking at a blob and downloading it."""

    def __init__(self, client: Any, meddle: Any) -> None:
        self._client = client
        self._meddle = meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_blob_client(self, name: str) -> Meddling:
        return Meddling(self._client.get_blob_client(name), self._meddle)

    async def get_blob_properties(self) -> Any:
        properties = await self._client.get_blob_properties()
        await self._meddle()
        return properties


class TestReadingWhileOthersWrite:
    @staticmethod
    def meddled(account: Account, meddle: Any) -> AzureUploads:
        return AzureUploads(Meddling(account.uploads._container, meddle))  # type: ignore[arg-type]

    async def test_content_overwritten_between_the_two_requests_is_read_with_its_own_metadata(
        self, account: Account
    ) -> None:
        name = own("a")
        await account.uploads.write(name, b"old", {"HostHeader": "old"})
        meddled_with = False

        async def overwrite() -> None:
            nonlocal meddled_with
            if not meddled_with:
                meddled_with = True
                await account.uploads.write(name, b"new content", {"HostHeader": "new"})

        found = some(await self.meddled(account, overwrite).read(name, max_bytes=100))
        assert (found.content, found.version.metadata) == (b"new content", {"HostHeader": "new"})

    async def test_content_overwritten_again_and_again_is_put_off(self, account: Account) -> None:
        name = own("a")
        await account.uploads.write(name, b"old", {})

        async def overwrite() -> None:
            await account.uploads.write(name, b"new", {})

        with pytest.raises(ConflictError, match="again and again") as caught:
            await self.meddled(account, overwrite).read(name, max_bytes=100)
        assert caught.value.retriable

    async def test_a_blob_deleted_between_the_two_requests_is_not_there(self, account: Account) -> None:
        name = own("a")
        await account.uploads.write(name, b"old", {})

        async def delete() -> None:
            await account.uploads.delete(name)

        assert await self.meddled(account, delete).read(name, max_bytes=100) is None


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


@pytest.mark.usefixtures("no_pause")
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

    async def test_a_bundle_that_is_sealed_again_while_it_is_read_is_opened(
        self, azurite: Emulator, account: Account, tmp_path: Path
    ) -> None:
        bundle_id = f"{own('b')}/{own('c')}"
        await account.bundles.seal(bundle_id, b"pem")
        loop = asyncio.get_running_loop()
        sealed_again: list[str] = []

        class Meddling(RequestsTransport):  # type: ignore[misc]
            def send(self, request: Any, **options: Any) -> Any:
                answer = super().send(request, **options)
                if request.method == "HEAD" and not sealed_again:
                    sealed_again.append(bundle_id)
                    asyncio.run_coroutine_threadsafe(account.bundles.seal(bundle_id, b"pem"), loop).result()
                return answer

        keys = open_keys(f"file:{tmp_path / 'key'}", DefaultAzureCredential)
        with (
            contextlib.closing(keys),
            blocking.BlobServiceClient.from_connection_string(
                azurite.connection_string, transport=Meddling()
            ) as service,
            ThreadPoolExecutor(1) as threads,
        ):
            reader = SealedBundles(service.get_container_client(BUNDLES_CONTAINER), keys, threads)
            assert await reader.open(bundle_id) == b"pem"
        assert sealed_again

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

    async def test_a_container_that_is_not_there_is_said_to_be_missing(self, azurite: Emulator) -> None:
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            uploads = AzureUploads(service.get_container_client(own("none")))
            with pytest.raises(MissingError, match="not there"):
                await uploads.write("a.pfx", b"", {})

    async def test_a_table_that_is_not_there_is_said_to_be_missing(self, account: Account) -> None:
        table = AzureTable(account._tables.get_table_client("nosuchtable"))
        with pytest.raises(MissingError, match="nosuchtable"):
            _ = [row async for row in table.query()]

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
