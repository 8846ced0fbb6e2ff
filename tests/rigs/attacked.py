"""A real storage account that somebody writes into who means harm, and the Function that works on it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from azure.data.tables.aio import TableClient
from azure.storage.queue.aio import QueueServiceClient

from shared.azure.account import Account
from shared.function.blob_event import Notice
from shared.function.cloud import Cloud
from shared.function.intake import look_at
from shared.messages import queue_of
from shared.state.records import (
    BINDINGS_TABLE,
    HISTORY_TABLE,
    INSTALLATIONS_TABLE,
    INSTANCES_TABLE,
    UPLOADS_TABLE,
    InstanceRecord,
    UploadRecord,
)
from tests.rigs.certificates import authority
from tests.rigs.emulator import cloud_on, opened_account
from tests.rigs.rows import registered
from tests.rigs.some import some

PASSWORD = "hunter2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """One account of its own: what is done to it must not reach other tests.

    Attributes:
        account: The account as the Function has it.
        cloud: What the use cases act on.
        connection_string: What the attacker holds.
    """

    account: Account
    cloud: Cloud
    connection_string: str

    async def write_row(self, table: str, partition: str, row: str, **columns: Any) -> None:
        """Write any row into a table, past certcast."""
        async with TableClient.from_connection_string(self.connection_string, table) as client:
            await client.upsert_entity({"PartitionKey": partition, "RowKey": row, **columns}, mode="replace")

    async def row(self, table: str, partition: str, row: str) -> dict[str, Any]:
        """A row's columns as they are stored."""
        async with TableClient.from_connection_string(self.connection_string, table) as client:
            entity = await client.get_entity(partition, row)
        return {name: value for name, value in entity.items() if name not in {"PartitionKey", "RowKey"}}

    def at(self, moment: datetime) -> Cloud:
        """The Function at another time."""
        return replace(self.cloud, now=lambda: moment)

    async def queues(self) -> set[str]:
        async with QueueServiceClient.from_connection_string(self.connection_string) as service:
            return {str(queue.name) async for queue in service.list_queues()}

    async def join(self, name: str, **columns: Any) -> InstanceRecord:
        """Register an instance as its agent does: queue, then row."""
        await self.account.queues.create(queue_of(name))
        record = registered(name, at=self.cloud.now(), **columns)
        await self.account.state.instances.update(name, lambda _: record)
        return record

    async def upload(self, name: str, *hosts: str) -> Notice:
        """Upload a sound file with its password in the metadata."""
        content = authority().issue(*hosts).pfx(PASSWORD, iterations=1)
        etag = await self.account.uploads.write(name, content, {"CertificatePassword": PASSWORD})
        return Notice(name=name, etag=etag)

    async def looked_at(self, name: str, *hosts: str) -> UploadRecord:
        """Upload, and have it handled."""
        return some(await look_at(self.cloud, await self.upload(name, *hosts)))

    async def metadata(self, name: str) -> dict[str, str]:
        return dict(some(await self.account.uploads.version(name)).metadata)

    async def clear(self) -> None:
        """Forget what an earlier test left."""
        for table in (UPLOADS_TABLE, BINDINGS_TABLE, INSTANCES_TABLE, INSTALLATIONS_TABLE, HISTORY_TABLE):
            async with TableClient.from_connection_string(self.connection_string, table) as client:
                async for entity in client.list_entities():
                    await client.delete_entity(entity)
        async for blob in self.account.uploads.each():
            await self.account.uploads.delete(blob.name)
        async with QueueServiceClient.from_connection_string(self.connection_string) as service:
            for queue in await self.queues():
                if queue.startswith("cert-agent-"):
                    await service.delete_queue(queue)
                else:
                    await service.get_queue_client(queue).clear_messages()


@contextlib.asynccontextmanager
async def attacked(connection_string: str, folder: Path) -> AsyncIterator[Attacked]:
    """Open an emulator's account, with nothing in it."""
    async with opened_account(connection_string, folder / "key") as account:
        site = Attacked(account=account, cloud=cloud_on(account), connection_string=connection_string)
        await site.clear()
        yield site
