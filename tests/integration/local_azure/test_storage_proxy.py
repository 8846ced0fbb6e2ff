"""The proxy before the emulator answers as Azure does: what the SDKs make of an answer, and what was done meanwhile."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError, ServiceResponseError
from azure.data.tables.aio import TableClient, TableServiceClient
from azure.storage.blob.aio import BlobClient, BlobServiceClient
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from local_azure.proxy.answers import LOST, Refusal, Slow
from local_azure.proxy.counting import user_agent
from local_azure.proxy.faults import Faults, Rule
from local_azure.proxy.operations import Service
from local_azure.proxy.refusals import ARCHIVED, PERMISSION_MISMATCH, REFUSALS, SERVER_BUSY, TAGS_NOT_PERMITTED
from local_azure.proxy.standing import MAX_ENTITY_BYTES, MAX_METADATA_BYTES, MAX_PROPERTIES, BeingDeleted, Limits
from shared.azure.errors import error_code
from tests.contracts.edges import own
from tests.rigs.azure_account import behind
from tests.rigs.emulator import Emulator


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """One blob, one queue and one table through the proxy; they ask once."""

    blob: BlobClient
    queue: QueueClient
    table: TableClient


@dataclass(slots=True, kw_only=True)
class Behind:
    """The rules, and the same things with and without them; `seconds` is the rules' clock."""

    faults: Faults
    connection_string: str
    ruled: Clients
    plain: Clients
    seconds: list[float]


@pytest.fixture
async def azure(azurite: Emulator) -> AsyncIterator[Behind]:
    seconds = [0.0]
    faults = Faults((BeingDeleted(), Limits()), clock=lambda: seconds[0])
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(behind(azurite, faults))
        names = (own("c"), own("q"), own("t").replace("-", ""))
        ruled = await clients(stack, connection, names)
        plain = await clients(stack, azurite.connection_string, names)
        await plain.blob._get_container_client().create_container()
        await plain.blob.upload_blob(b"content")
        await plain.queue.create_queue()
        await plain.table.create_table()
        yield Behind(faults=faults, connection_string=connection, ruled=ruled, plain=plain, seconds=seconds)


async def clients(stack: AsyncExitStack, connection: str, names: tuple[str, str, str]) -> Clients:
    once: dict[str, Any] = {"retry_total": 0}
    blobs = await stack.enter_async_context(BlobServiceClient.from_connection_string(connection, **once))
    queues = await stack.enter_async_context(QueueServiceClient.from_connection_string(connection, **once))
    tables = await stack.enter_async_context(TableServiceClient.from_connection_string(connection, **once))
    return Clients(
        blob=blobs.get_blob_client(names[0], "a.pfx"),
        queue=queues.get_queue_client(names[1]),
        table=tables.get_table_client(names[2]),
    )


ASK: dict[str, Callable[[Clients], Awaitable[Any]]] = {
    "Get Blob": lambda on: on.blob.download_blob(),
    "Get Blob Properties": lambda on: on.blob.get_blob_properties(),
    "Set Blob Metadata": lambda on: on.blob.set_blob_metadata({"a": "b"}),
    "Set Blob Tags": lambda on: on.blob.set_blob_tags({"a": "b"}),
    "Get Blob Tags": lambda on: on.blob.get_blob_tags(),
    "Put Blob": lambda on: on.blob.upload_blob(b"more", overwrite=True),
    "Delete Blob": lambda on: on.blob.delete_blob(),
    "Create Container": lambda on: on.blob._get_container_client().create_container(),
    "Create Queue": lambda on: on.queue.create_queue(metadata={"a": "b"}),
    "Put Message": lambda on: on.queue.send_message("text"),
    "Insert Or Replace Entity": lambda on: on.table.upsert_entity({"PartitionKey": "p", "RowKey": "r"}, mode="replace"),
    "Create Table": lambda on: on.table.create_table(),
}
FIRST: dict[Service, str] = {"blob": "Set Blob Metadata", "queue": "Put Message", "table": "Insert Or Replace Entity"}


def asked_for(refusal: Refusal, service: Service) -> str:
    """An operation of a service that a refusal fits."""
    if refusal.operations and FIRST[service] not in refusal.operations:
        return next(operation for operation in ASK if operation in refusal.operations)
    return FIRST[service]


EACH = [(refusal, service) for refusal in REFUSALS for service in refusal.services]


@pytest.mark.parametrize(("refusal", "service"), EACH, ids=lambda each: getattr(each, "code", each))
async def test_a_refusal_reaches_the_sdk_as_azure_gives_it_and_nothing_is_done(
    azure: Behind, refusal: Refusal, service: Service
) -> None:
    operation = asked_for(refusal, service)
    before = await azure.plain.blob.get_blob_properties()
    rule = Rule(answer=refusal, operations=frozenset({operation}))
    with azure.faults.during(rule) as fault, pytest.raises(HttpResponseError) as caught:
        await ASK[operation](azure.ruled)
    answer: Any = caught.value.response
    assert caught.value.status_code == refusal.status
    assert error_code(caught.value) == refusal.code
    assert caught.value.reason == refusal.message
    assert refusal.message in caught.value.message
    assert {name: answer.headers[name] for name, _ in refusal.headers} == dict(refusal.headers)
    assert answer.headers["Server"].startswith(f"Windows-Azure-{service.capitalize()}/")
    assert fault.applied == azure.faults.applied[refusal.name] == 1
    after = await azure.plain.blob.get_blob_properties()
    assert (after.etag, await azure.plain.blob.get_blob_tags()) == (before.etag, {})
    assert (await azure.plain.queue.get_queue_properties()).approximate_message_count == 0
    assert [row async for row in azure.plain.table.list_entities()] == []


async def test_a_refused_head_has_its_code_in_a_header_and_no_body(azure: Behind) -> None:
    with azure.faults.during(Rule(answer=PERMISSION_MISMATCH)), pytest.raises(HttpResponseError) as caught:
        await azure.ruled.blob.get_blob_properties()
    assert (caught.value.status_code, error_code(caught.value)) == (403, PERMISSION_MISMATCH.code)


async def test_a_refusals_body_is_xml_with_the_details_and_json_for_tables(azure: Behind) -> None:
    with azure.faults.during(Rule(answer=SERVER_BUSY)):
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{azure.ruled.queue.url}?comp=metadata") as answer:
                text = await answer.text(encoding="utf-8-sig")
                assert text.startswith('<?xml version="1.0" encoding="utf-8"?><Error><Code>ServerBusy</Code><Message>')
                assert answer.headers["Retry-After"] == "1"
            async with session.get(f"{azure.ruled.table.url}/Tables") as answer:
                said = (await answer.json())["odata.error"]
                assert (said["code"], said["message"]["lang"]) == ("ServerBusy", "en-US")


@pytest.mark.parametrize("operation", ["Set Blob Metadata", "Put Blob", "Put Message", "Insert Or Replace Entity"])
async def test_the_work_of_a_lost_answer_was_done(azure: Behind, operation: str) -> None:
    before = await azure.plain.blob.get_blob_properties()
    # More than one: aiohttp asks once more by itself where the method is PUT.
    with azure.faults.during(Rule(answer=LOST)), pytest.raises(AzureError) as caught:
        await ASK[operation](azure.ruled)
    assert not isinstance(caught.value, HttpResponseError), "there was an answer"
    changed = (await azure.plain.blob.get_blob_properties()).etag != before.etag
    messages = (await azure.plain.queue.get_queue_properties()).approximate_message_count
    rows = len([row async for row in azure.plain.table.list_entities()])
    assert (changed, messages, rows) == (
        operation in {"Set Blob Metadata", "Put Blob"},
        int(operation == "Put Message"),
        int(operation == "Insert Or Replace Entity"),
    )


async def test_a_slow_answer_comes_after_the_work_was_done(azure: Behind) -> None:
    with azure.faults.during(Rule(answer=Slow(delay_s=0.5))):
        began = time.monotonic()
        await azure.ruled.queue.send_message("text")
        assert time.monotonic() - began >= 0.5
        with pytest.raises(ServiceResponseError):
            await azure.ruled.queue.send_message("text", read_timeout=0.1)
    assert (await azure.plain.queue.get_queue_properties()).approximate_message_count == 2


async def test_a_rule_is_for_its_operation_resource_path_and_caller_and_ends_after_its_times(azure: Behind) -> None:
    container = azure.ruled.blob.container_name
    refused = Rule(
        answer=TAGS_NOT_PERMITTED,
        operations=frozenset({"Set Blob Tags"}),
        resource=f"container {container}",
        path="*.pfx",
        callers=("agent-*", "client"),
        times=2,
    )
    azure.faults.add(refused)
    await azure.ruled.blob.get_blob_tags()
    async with BlobServiceClient.from_connection_string(azure.connection_string) as service:
        await service.get_blob_client(container, "a.p12").upload_blob(b"")
        await service.get_blob_client(container, "a.p12").set_blob_tags({"a": "b"})
    as_function = BlobServiceClient.from_connection_string(azure.connection_string, user_agent=user_agent("function"))
    async with as_function:
        await as_function.get_blob_client(container, "a.pfx").set_blob_tags({"a": "b"})
    for _ in range(2):
        with pytest.raises(HttpResponseError, match=TAGS_NOT_PERMITTED.message):
            await azure.ruled.blob.set_blob_tags({"a": "c"})
    await azure.ruled.blob.set_blob_tags({"a": "d"})
    assert azure.faults.applied == {TAGS_NOT_PERMITTED.code: 2}


async def test_a_rule_for_a_time_is_over_then(azure: Behind) -> None:
    azure.faults.add(Rule(answer=ARCHIVED, for_s=30))
    with pytest.raises(HttpResponseError, match=ARCHIVED.message):
        await azure.ruled.blob.download_blob()
    azure.seconds[0] += 30
    await azure.ruled.blob.download_blob()


DELETE: dict[str, Callable[[Clients], Awaitable[Any]]] = {
    "QueueBeingDeleted": lambda on: on.queue.delete_queue(),
    "TableBeingDeleted": lambda on: on.table.delete_table(),
    "ContainerBeingDeleted": lambda on: on.blob._get_container_client().delete_container(),
}
CREATE = {
    "QueueBeingDeleted": "Create Queue",
    "TableBeingDeleted": "Create Table",
    "ContainerBeingDeleted": "Create Container",
}


@pytest.mark.parametrize("code", DELETE)
async def test_what_was_deleted_cannot_be_made_again_for_forty_seconds(azure: Behind, code: str) -> None:
    await DELETE[code](azure.ruled)
    for passed in (0.0, 39.0):
        azure.seconds[0] = passed
        with pytest.raises(HttpResponseError) as caught:
            await ASK[CREATE[code]](azure.ruled)
        assert (caught.value.status_code, error_code(caught.value)) == (409, code)
    azure.seconds[0] = 40.0
    await ASK[CREATE[code]](azure.ruled)


@pytest.mark.parametrize(
    ("operation", "service"), [("Put Message", "queue"), ("Insert Or Replace Entity", "table"), ("Get Blob", "blob")]
)
async def test_what_is_being_deleted_can_be_asked_for_nothing(azure: Behind, operation: str, service: str) -> None:
    for delete in DELETE.values():
        await delete(azure.ruled)
    with pytest.raises(HttpResponseError) as caught:
        await ASK[operation](azure.ruled)
    expected = {"queue": "QueueBeingDeleted", "table": "TableBeingDeleted", "blob": "ContainerNotFound"}
    assert error_code(caught.value) == expected[service]


@pytest.mark.parametrize("code", DELETE)
async def test_a_deletion_that_failed_puts_nothing_off(azure: Behind, code: str) -> None:
    await DELETE[code](azure.plain)
    with suppress(ResourceNotFoundError):  # what the SDK hides where it is a table
        await DELETE[code](azure.ruled)
    await ASK[CREATE[code]](azure.ruled)


async def test_a_deletion_whose_answer_was_lost_is_one_all_the_same(azure: Behind) -> None:
    azure.faults.add(Rule(answer=LOST, operations=frozenset({"Delete Queue"}), times=1))
    with pytest.raises(HttpResponseError, match="being deleted"):  # what aiohttp's own repetition is answered
        await azure.ruled.queue.delete_queue()
    with pytest.raises(HttpResponseError, match="being deleted"):
        await azure.ruled.queue.create_queue()


async def test_metadata_beyond_eight_kibibytes_is_refused(azure: Behind) -> None:
    await azure.ruled.blob.set_blob_metadata({"k": "v" * (MAX_METADATA_BYTES - 1)})
    for ask in (azure.ruled.blob.set_blob_metadata, lambda m: azure.ruled.blob.upload_blob(b"", metadata=m)):
        with pytest.raises(HttpResponseError) as caught:
            await ask({"k": "v" * MAX_METADATA_BYTES})
        assert (caught.value.status_code, error_code(caught.value)) == (400, "MetadataTooLarge")


async def test_rows_that_azure_finds_too_large_are_refused(azure: Behind) -> None:
    keys = {"PartitionKey": "p", "RowKey": "r"}
    texts = {f"t{number}": "x" * 32_000 for number in range(16)}
    await azure.ruled.table.upsert_entity({**keys, **texts})
    assert 2 * sum(map(len, texts.values())) < MAX_ENTITY_BYTES
    await azure.ruled.table.upsert_entity({**keys, **{f"n{number}": number for number in range(MAX_PROPERTIES)}})
    for columns, code in (
        ({**texts, "more": "x" * 32_000}, "EntityTooLarge"),
        ({f"n{number}": number for number in range(MAX_PROPERTIES + 1)}, "TooManyProperties"),
    ):
        with pytest.raises(HttpResponseError) as caught:
            await azure.ruled.table.upsert_entity({**keys, **columns})
        assert (caught.value.status_code, error_code(caught.value)) == (400, code)
