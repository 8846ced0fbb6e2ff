"""A storage account that answers as Azure does: the emulator, and the rules before it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from local_azure.azurite import StorageEndpoints
from local_azure.proxy.faults import Faults
from local_azure.proxy.storage import StorageProxy
from tests.rigs.emulator import Emulator


def services(emulator: Emulator) -> StorageEndpoints:
    """Where an emulator's own services are."""
    ports = [urlsplit(url).port or 0 for url in (emulator.blob_url, emulator.queue_url, emulator.table_url)]
    return StorageEndpoints(blob_port=ports[0], queue_port=ports[1], table_port=ports[2])


@asynccontextmanager
async def behind(emulator: Emulator, faults: Faults) -> AsyncIterator[str]:
    """Stand before an emulator with these rules; gives the connection string."""
    proxy = StorageProxy(rule=faults.answer, seen=faults.done)
    await proxy.start(services(emulator))
    try:
        yield proxy.endpoints.connection_string
    finally:
        await proxy.stop()
