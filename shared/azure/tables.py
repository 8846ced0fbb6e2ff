"""The account's tables through azure-data-tables."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.azure.errors import UNCHANGED, azure_errors
from shared.errors import ConflictError, MissingError
from shared.ports import StoredEntity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from azure.core.pipeline import PipelineRequest, PipelineResponse
    from azure.data.tables.aio import TableClient

    from shared.azure.clock import ServiceClock
    from shared.codec import Entity

_KEYS = ("PartitionKey", "RowKey")
_ASKED_AT = "certcast_asked_at"


def telling_time(clock: ServiceClock) -> dict[str, Any]:
    """Options of a client by which a clock learns from every answer."""

    def asked(request: PipelineRequest[Any]) -> None:
        request.context[_ASKED_AT] = clock.passing()

    def answered(response: PipelineResponse[Any, Any]) -> None:
        clock.answered(response.http_response.headers.get("Date", ""), asked_at=response.context[_ASKED_AT])

    return {"raw_request_hook": asked, "raw_response_hook": answered}


class AzureTable:
    """One table of the storage account, as `shared.ports.Table`."""

    def __init__(self, client: TableClient) -> None:
        self._client = client

    async def get(self, partition: str, row: str) -> StoredEntity | None:
        with suppress(MissingError), azure_errors(self._doing("reading", partition, row)):
            return _stored(await self._client.get_entity(partition, row))
        return None

    async def insert(self, partition: str, row: str, columns: Entity) -> str:
        with azure_errors(self._doing("adding", partition, row)):
            answer = await self._client.create_entity({"PartitionKey": partition, "RowKey": row, **columns})
        return str(answer["etag"])

    async def replace(self, partition: str, row: str, columns: Entity, *, etag: str) -> str:
        try:
            with azure_errors(self._doing("writing", partition, row)):
                answer = await self._client.update_entity(
                    {"PartitionKey": partition, "RowKey": row, **columns},
                    mode="replace",
                    etag=etag,
                    match_condition=UNCHANGED,
                )
        except MissingError as error:
            raise ConflictError(str(error)) from None
        return str(answer["etag"])

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
        page: int | None = None,
    ) -> AsyncIterator[StoredEntity]:
        with azure_errors(f"reading table {self._client.table_name}"):
            for conditions in _requests(partition, row, after, since):
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

    def _doing(self, verb: str, partition: str, row: str) -> str:
        return f"{verb} row {partition}/{row} of table {self._client.table_name}"


def _requests(
    partition: str | None, row: str | None, after: tuple[str, str] | None, since: datetime | None
) -> list[list[tuple[str, str, str | datetime]]]:
    """The conditions of the requests that together read what is asked for, in order.

    None is an `or`: with one the service reads the whole table (learn.microsoft.com, "Design for querying").
    """
    wanted: list[tuple[str, str, str | datetime]] = [
        (name, "eq", key) for name, key in zip(_KEYS, (partition, row), strict=True) if key is not None
    ]
    if since is not None:
        wanted.append(("Timestamp", "ge", since))
    if after is None:
        return [wanted]
    rest = [*wanted, ("PartitionKey", "eq", after[0]), ("RowKey", "gt", after[1])]
    return [rest] if partition is not None else [rest, [*wanted, ("PartitionKey", "gt", after[0])]]


def _stored(entity: Mapping[str, Any]) -> StoredEntity:
    return StoredEntity(
        partition=entity["PartitionKey"],
        row=entity["RowKey"],
        columns={name: value for name, value in entity.items() if name not in _KEYS},
        etag=str(entity.metadata["etag"]),  # type: ignore[attr-defined]
        written_at=entity.metadata["timestamp"],  # type: ignore[attr-defined]
    )
