"""Certificates that an account has already: blobs, rows and reports as they are once every instance has proved them.

They are copies of one upload that was really judged, claimed, installed and reported, under other names and for other
hosts of its wildcard certificate; they share its sealed bundle.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ServiceRequestError
from azure.data.tables.aio import TableServiceClient

from shared.binding import BindingKey, DesiredBinding
from shared.bounded import gather_bounded
from shared.codec import to_entity
from shared.ports import UploadContainer
from shared.state.keys import binding_key, installation_key, upload_key
from shared.state.records import BINDINGS_TABLE, INSTALLATIONS_TABLE, UPLOADS_TABLE, InstallationRecord, UploadRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from azure.data.tables.aio import TableClient


_IN_A_TRANSACTION = 100
_AT_ONCE = 4
"""More of them at a time take Azurite no less time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The upload that others are copies of.

    Attributes:
        upload: Its row.
        row: The desired row of its one host.
        report: What an instance reported of that.
    """

    upload: UploadRecord
    row: DesiredBinding
    report: InstallationRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Writes copies into an account, many rows a request.

    Attributes:
        connection_string: The account's.
        uploads: Its container of uploads.
        domain: Where the hosts of the copies are.
    """

    connection_string: str = field(repr=False)
    uploads: UploadContainer
    domain: str

    async def grow(self, sample: Sample, numbers: Iterable[int], instances: Iterable[str]) -> None:
        """Add the copies with these numbers, each proved by these instances."""
        copies = [self._copy(sample, number) for number in numbers]
        etags = await gather_bounded(self.uploads.write(copy.upload.name, b"PFX", {}) for copy in copies)
        uploads = [replace(copy.upload, etag=etag) for copy, etag in zip(copies, etags, strict=True)]
        async with TableServiceClient.from_connection_string(self.connection_string) as service:
            table = service.get_table_client(UPLOADS_TABLE)
            await write(table, [entity(upload_key(upload.name), upload) for upload in uploads])
            table = service.get_table_client(BINDINGS_TABLE)
            await write(table, [entity(binding_key(copy.row.key), copy.row) for copy in copies])
            table = service.get_table_client(INSTALLATIONS_TABLE)
            reports = (_reports(copy, instances) for copy in copies)
            await gather_bounded((_transaction(table, each) for each in reports), limit=_AT_ONCE)

    def _copy(self, sample: Sample, number: int) -> Sample:
        name, host = f"copy-{number}.pfx", f"copy-{number}.{self.domain}"
        key = BindingKey(role=sample.row.role, host=host, port=sample.row.port)
        [claim] = sample.row.claims
        return Sample(
            upload=replace(sample.upload, name=name, hosts=(host,), claims=(key,)),
            row=replace(sample.row, host=host, source=name, claims=(replace(claim, source=name),)),
            report=replace(sample.report, host=host, source=name),
        )


async def write(table: TableClient, entities: list[dict[str, Any]]) -> None:
    """Write rows of one partition, many a request."""
    portions = [entities[at : at + _IN_A_TRANSACTION] for at in range(0, len(entities), _IN_A_TRANSACTION)]
    await gather_bounded((_transaction(table, portion) for portion in portions), limit=_AT_ONCE)


def _reports(copy: Sample, instances: Iterable[str]) -> list[dict[str, Any]]:
    reports = [replace(copy.report, instance=name) for name in instances]
    return [entity(installation_key((each.host, each.port, each.instance)), each) for each in reports]


async def _transaction(table: TableClient, entities: list[dict[str, Any]]) -> None:
    for tries_left in (2, 1, 0):
        try:
            await table.submit_transaction([("upsert", entity) for entity in entities])
        except ServiceRequestError:  # no answer: Azurite ends connections when it has much to do
            if not tries_left:
                raise
        else:
            return


def entity(key: tuple[str, str], row: object) -> dict[str, Any]:
    """A row as the table has it."""
    return {"PartitionKey": key[0], "RowKey": key[1], **to_entity(row)}
