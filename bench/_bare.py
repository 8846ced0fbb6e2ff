"""A storage account without an SDK: requests with a signature in their address, and nothing retried or checked twice.

This is what a request costs at least. An operation's name is the REST API's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from azure.core.credentials import AzureNamedKeyCredential
from azure.data import tables
from azure.storage import blob, queue
from yarl import URL

from shared.config import EMULATOR_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION = {"x-ms-version": "2021-12-02"}
_JSON = {**_VERSION, "Accept": "application/json;odata=minimalmetadata", "Content-Type": "application/json"}
_EVERYTHING = {"read", "write", "delete", "list", "add", "create", "update", "process"}
_AGES = timedelta(days=1)
_CONNECTIONS = 200


class Bare:
    """The emulator's account; an async context manager.

    Attributes:
        requests: How many were made.
    """

    def __init__(self, connection_string: str) -> None:
        parts = dict(part.split("=", 1) for part in connection_string.split(";") if part)
        self._urls = {kind: parts[f"{kind.capitalize()}Endpoint"] for kind in ("blob", "queue", "table")}
        self._signed = _signatures(parts["AccountKey"])
        self.requests = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_CONNECTIONS))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def create(self, *, containers: tuple[str, ...], tables: tuple[str, ...], queues: tuple[str, ...]) -> None:
        """Create all of these."""
        await asyncio.gather(
            *(self._ask("blob", "PUT", name, "restype=container") for name in containers),
            *(self._ask("queue", "PUT", name) for name in queues),
            *(self._ask("table", "POST", "Tables", data=json.dumps({"TableName": name})) for name in tables),
        )

    async def put_blob(self, path: str, content: bytes, metadata: Mapping[str, str]) -> None:
        """Put Blob."""
        headers = {"x-ms-blob-type": "BlockBlob", **_metadata(metadata)}
        await self._ask("blob", "PUT", path, data=content, headers=headers)

    async def get_blob(self, path: str) -> bytes:
        """Get Blob."""
        return await self._ask("blob", "GET", path)

    async def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        """Set Blob Metadata."""
        await self._ask("blob", "PUT", path, "comp=metadata", headers=_metadata(metadata))

    async def set_tags(self, path: str, tags: Mapping[str, str]) -> None:
        """Set Blob Tags."""
        each = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in tags.items())
        await self._ask("blob", "PUT", path, "comp=tags", data=f"<Tags><TagSet>{each}</TagSet></Tags>")

    async def get_entity(self, table: str, partition: str, row: str) -> bytes:
        """Query Entities, for one; empty where it is missing."""
        return await self._ask("table", "GET", f"{table}(PartitionKey='{partition}',RowKey='{row}')", missing=True)

    async def insert(self, table: str, entity: Mapping[str, Any]) -> None:
        """Insert Entity."""
        await self._ask("table", "POST", table, data=json.dumps(entity), headers={"Prefer": "return-no-content"})

    async def replace(self, table: str, entity: Mapping[str, Any]) -> None:
        """Update Entity, which must be there."""
        where = f"{table}(PartitionKey='{entity['PartitionKey']}',RowKey='{entity['RowKey']}')"
        await self._ask("table", "PUT", where, data=json.dumps(entity), headers={"If-Match": "*"})

    async def query(self, table: str, partition: str) -> bytes:
        """Query Entities, for a partition."""
        return await self._ask("table", "GET", f"{table}()", f"$filter=PartitionKey%20eq%20'{partition}'")

    async def put_message(self, queue: str, text: str) -> None:
        """Put Message."""
        encoded = base64.b64encode(text.encode()).decode()
        document = f"<QueueMessage><MessageText>{encoded}</MessageText></QueueMessage>"
        await self._ask("queue", "POST", f"{queue}/messages", data=document)

    async def get_messages(self, queue: str) -> list[tuple[str, str]]:
        """Get Messages: the address of each with its receipt."""
        text = (await self._ask("queue", "GET", f"{queue}/messages", "numofmessages=32&visibilitytimeout=300")).decode()
        ids, receipts = re.findall("<MessageId>(.+?)<", text), re.findall("<PopReceipt>(.+?)<", text)
        return [(f"{queue}/messages/{each}", receipt) for each, receipt in zip(ids, receipts, strict=True)]

    async def delete_message(self, address: str, receipt: str) -> None:
        """Delete Message."""
        await self._ask("queue", "DELETE", address, f"popreceipt={receipt.replace('+', '%2B')}")

    async def _ask(
        self,
        service: str,
        method: str,
        path: str,
        query: str = "",
        *,
        data: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        missing: bool = False,
    ) -> bytes:
        address = URL(
            f"{self._urls[service]}/{path}?{'&'.join(filter(None, [query, self._signed[service]]))}", encoded=True
        )
        fixed = _JSON if service == "table" else _VERSION
        self.requests += 1
        async with self._session.request(method, address, data=data, headers={**fixed, **(headers or {})}) as answer:
            content = await answer.read()
            if answer.status == 404 and missing:
                return b""
            if answer.status >= 300:
                raise OSError(f"{method} {path}: {answer.status} {content.decode(errors='replace')[:500]}")
            return content


def _metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    return {f"x-ms-meta-{name}": value for name, value in metadata.items()}


def _signatures(key: str) -> dict[str, str]:
    """Shared access signatures for all that is done here, by service."""
    expiry = datetime.now(UTC) + _AGES
    all_types = {"service": True, "container": True, "object": True}
    everything = dict.fromkeys(_EVERYTHING, True)
    return {
        "blob": blob.generate_account_sas(
            EMULATOR_ACCOUNT,
            key,
            blob.ResourceTypes(**all_types),
            blob.AccountSasPermissions(**everything, tag=True),
            expiry,
        ),
        "queue": queue.generate_account_sas(
            EMULATOR_ACCOUNT, key, queue.ResourceTypes(**all_types), queue.AccountSasPermissions(**everything), expiry
        ),
        "table": tables.generate_account_sas(
            AzureNamedKeyCredential(EMULATOR_ACCOUNT, key),
            tables.ResourceTypes(**all_types),
            tables.AccountSasPermissions(**everything),
            expiry,
        ),
    }
