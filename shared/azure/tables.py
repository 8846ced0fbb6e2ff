"""The account's tables through azure-data-tables."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.azure.errors import UNCHANGED, azure_errors
from shared.azure.patience import ONCE, bounded_wait, sending, sent
from shared.errors import ConflictError, MissingError
from shared.ports import StoredEntity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from datetime import datetime

    from azure.core.pipeline import PipelineRequest, PipelineResponse
    from azure.data.tables.aio import TableClient

    from shared.azure.clock import ServiceClock
    from shared.codec import Entity

_KEYS = ("PartitionKey", "RowKey")
_ASKED_AT = "certcast_asked_at"

WRITE_ID = "write_id"
"""A column of every row that is written under a condition: names that one write."""
_NOT_COLUMNS = {*_KEYS, WRITE_ID}
_REPEATED = frozenset({"HEAD", "GET", "PUT", "DELETE", "POST"})
"""Methods whose lost answers the SDK asks for again; of itself it leaves out POST, which adds a row."""


def table_hooks(clock: ServiceClock) -> dict[str, Any]:
    """Options of a client by which a clock learns from every answer, tries are counted and waits are bounded."""

    def asked(request: PipelineRequest[Any]) -> None:
        sent(request)
        request.context[_ASKED_AT] = clock.passing()

    def answered(response: PipelineResponse[Any, Any]) -> None:
        bounded_wait(response)
        clock.answered(response.http_response.headers.get("Date", ""), asked_at=response.context[_ASKED_AT])

    return {"raw_request_hook": asked, "raw_response_hook": answered}


class AzureTable:
    """One table of the storage account, as `shared.ports.Table`.

    The SDK sends a request again when its answer is lost or is a failure of the service. A write that was done the
    first time then meets itself and is answered with a conflict; the id of the write, which stands in the row, tells
    that it is one's own.
    """

    def __init__(self, client: TableClient) -> None:
        self._client = client

    async def get(self, partition: str, row: str) -> StoredEntity | None:
        with suppress(MissingError), azure_errors(self._doing("reading", partition, row)):
            return _stored(await self._client.get_entity(partition, row))
        return None

    async def insert(self, partition: str, row: str, columns: Entity) -> str:
        write_id = _new_write_id()
        entity = {"PartitionKey": partition, "RowKey": row, **columns, WRITE_ID: write_id}

        async def add() -> Mapping[str, Any]:
            with azure_errors(self._doing("adding", partition, row)):
                return await self._client.create_entity(entity, retry_on_methods=_REPEATED)

        return await self._written(add, partition, row, write_id)

    async def replace(self, partition: str, row: str, columns: Entity, *, etag: str) -> str:
        write_id = _new_write_id()
        entity = {"PartitionKey": partition, "RowKey": row, **columns, WRITE_ID: write_id}

        async def write() -> Mapping[str, Any]:
            with azure_errors(self._doing("writing", partition, row)):
                return await self._client.update_entity(
                    entity, mode="replace", etag=etag, match_condition=UNCHANGED, **ONCE
                )

        try:
            return await self._written(write, partition, row, write_id)
        except MissingError as error:
            raise ConflictError(str(error)) from None

    async def put(self, partition: str, row: str, columns: Entity) -> None:
        with azure_errors(self._doing("writing", partition, row)):
            await self._client.upsert_entity({"PartitionKey": partition, "RowKey": row, **columns}, mode="replace")

    async def delete(self, partition: str, row: str, *, etag: str) -> None:
        with suppress(MissingError), azure_errors(self._doing("deleting", partition, row)):
            await self._client.delete_entity(partition, row, etag=etag, match_condition=UNCHANGED)

    async def query(
        self,
        partition: str | None = None,
        *,
        row: str | None = None,
        after: tuple[str, str] | None = None,
        since: datetime | None = None,
        having: tuple[str, str] | None = None,
        page: int | None = None,
    ) -> AsyncIterator[StoredEntity]:
        with azure_errors(f"reading table {self._client.table_name}"):
            for conditions in _requests(partition, row, after, since, having):
                condition = " and ".join(
                    f"{key} {comparison} @p{n}" for n, (key, comparison, _) in enumerate(conditions)
                )
                values = {f"p{n}": value for n, (_, _, value) in enumerate(conditions)}
                pages = (
                    self._client.query_entities(condition, parameters=values, results_per_page=page)
                    if condition
                    else self._client.list_entities(results_per_page=page)
                )
                async for entity in pages:
                    yield _stored(entity)

    async def _written(
        self, write: Callable[[], Awaitable[Mapping[str, Any]]], partition: str, row: str, write_id: str
    ) -> str:
        """Write, and return the ETag that this left; a conflict with oneself is none."""
        with sending() as request:
            try:
                return str((await write())["etag"])
            except ConflictError:
                if not request.again:
                    raise
                with suppress(MissingError), azure_errors(self._doing("reading", partition, row)):
                    found = await self._client.get_entity(partition, row)
                    if found.get(WRITE_ID) == write_id:
                        return str(found.metadata["etag"])
                raise

    def _doing(self, verb: str, partition: str, row: str) -> str:
        return f"{verb} row {partition}/{row} of table {self._client.table_name}"


def _new_write_id() -> str:
    return secrets.token_hex(8)


def _requests(
    partition: str | None,
    row: str | None,
    after: tuple[str, str] | None,
    since: datetime | None,
    having: tuple[str, str] | None,
) -> list[list[tuple[str, str, str | datetime]]]:
    """The conditions of the requests that together read what is asked for, in order.

    None is an `or`: with one the service reads the whole table (learn.microsoft.com, "Design for querying").
    """
    wanted: list[tuple[str, str, str | datetime]] = [
        (name, "eq", key) for name, key in zip(_KEYS, (partition, row), strict=True) if key is not None
    ]
    if since is not None:
        wanted.append(("Timestamp", "ge", since))
    if having is not None:
        wanted.append((having[0], "eq", having[1]))
    if after is None:
        return [wanted]
    rest = [*wanted, ("PartitionKey", "eq", after[0]), ("RowKey", "gt", after[1])]
    return [rest] if partition is not None else [rest, [*wanted, ("PartitionKey", "gt", after[0])]]


def _stored(entity: Mapping[str, Any]) -> StoredEntity:
    return StoredEntity(
        partition=entity["PartitionKey"],
        row=entity["RowKey"],
        columns={name: value for name, value in entity.items() if name not in _NOT_COLUMNS},
        etag=str(entity.metadata["etag"]),  # type: ignore[attr-defined]
        written_at=entity.metadata["timestamp"],  # type: ignore[attr-defined]
    )
