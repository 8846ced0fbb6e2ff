"""Answers of the storage account that are lost after the work was done, so that the SDK asks again and meets itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ServiceResponseError
from azure.core.pipeline.transport import AioHttpTransport

from shared.azure.account import Account
from shared.azure.tables import WRITE_ID
from shared.errors import ConflictError, UnavailableError
from tests.contracts.edges import own
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.some import some


class Losses:
    """Answers to be lost, and what was asked.

    Attributes:
        next: So many of the next answers are lost.
        after: What happens between the first request that is answered with nothing and the next one.
        methods: Of the requests that were sent.
    """

    def __init__(self) -> None:
        self.next = 0
        self.after: Callable[[], Awaitable[object]] | None = None
        self.methods: list[str] = []


@pytest.fixture
async def account(azurite: Emulator, tmp_path: Path) -> AsyncIterator[Account]:
    async with opened_account(azurite.connection_string, tmp_path / "key") as opened:
        yield opened


@pytest.fixture
def losses(account: Account, monkeypatch: pytest.MonkeyPatch) -> Losses:
    del account  # it is set up without losses
    found, send = Losses(), AioHttpTransport.send

    async def losing(self: AioHttpTransport, request: Any, **options: Any) -> Any:
        found.methods.append(request.method)
        answer = await send(self, request, **options)
        if not found.next:
            return answer
        found.next -= 1
        if found.after is not None:
            meddle, found.after, left, found.next = found.after, None, found.next, 0
            await meddle()
            found.next = left
        raise ServiceResponseError("the connection was closed")

    monkeypatch.setattr(AioHttpTransport, "send", losing)
    return found


class TestARow:
    async def test_that_was_added_is_not_taken_for_anothers(self, account: Account, losses: Losses) -> None:
        table, partition = account.state.instances._table, own()
        losses.next = 1
        etag = await table.insert(partition, "row", {"n": 1})
        assert losses.methods == ["POST", "POST", "GET"]
        found = some(await table.get(partition, "row"))
        assert (found.columns, found.etag) == ({"n": 1}, etag)

    async def test_that_was_written_is_not_taken_for_anothers(self, account: Account, losses: Losses) -> None:
        table, partition = account.state.instances._table, own()
        first = await table.insert(partition, "row", {"n": 1})
        losses.methods.clear()
        losses.next = 1
        second = await table.replace(partition, "row", {"n": 2}, etag=first)
        assert losses.methods == ["PUT", "PUT", "GET"]
        third = await table.replace(partition, "row", {"n": 3}, etag=second)
        assert some(await table.get(partition, "row")).etag == third

    async def test_that_another_wrote_the_same_into_meanwhile_is_anothers(
        self, account: Account, losses: Losses
    ) -> None:
        table, partition = account.state.instances._table, own()
        etag = await table.insert(partition, "row", {"n": 1})

        async def write_over() -> None:
            written = some(await table.get(partition, "row"))
            await table.replace(partition, "row", written.columns, etag=written.etag)

        losses.next, losses.after = 1, write_over
        with pytest.raises(ConflictError):
            await table.replace(partition, "row", {"n": 2}, etag=etag)

    async def test_that_was_changed_before_costs_no_further_request(self, account: Account, losses: Losses) -> None:
        table, partition = account.state.instances._table, own()
        first = await table.insert(partition, "row", {"n": 1})
        await table.replace(partition, "row", {"n": 2}, etag=first)
        losses.methods.clear()
        with pytest.raises(ConflictError):
            await table.replace(partition, "row", {"n": 3}, etag=first)
        with pytest.raises(ConflictError):
            await table.insert(partition, "row", {"n": 3})
        assert losses.methods == ["PUT", "POST"]

    async def test_that_was_deleted_is_gone(self, account: Account, losses: Losses) -> None:
        table, partition = account.state.instances._table, own()
        etag = await table.insert(partition, "row", {"n": 1})
        losses.next = 1
        await table.delete(partition, "row", etag=etag)
        assert await table.get(partition, "row") is None

    async def test_of_which_every_answer_is_lost_is_neither_written_nor_not(
        self, account: Account, losses: Losses
    ) -> None:
        losses.next = 100
        with pytest.raises(UnavailableError, match="no answer from the service"):
            await account.state.instances._table.insert(own(), "row", {"n": 1})

    async def test_names_its_write_to_no_reader(self, account: Account) -> None:
        table, partition = account.state.instances._table, own()
        await table.insert(partition, "row", {"n": 1})
        assert some(await table.get(partition, "row")).columns == {"n": 1}
        assert [each.columns async for each in table.query(partition)] == [{"n": 1}]
        stored = await account._tables.get_table_client("instances").get_entity(partition, "row")
        assert len(stored[WRITE_ID]) == 16


class TestABlob:
    async def test_that_was_deleted_was_there(self, account: Account, losses: Losses) -> None:
        name = own("a")
        await account.uploads.write(name, b"", {})
        losses.next = 1
        assert await account.uploads.delete(name)
        assert not await account.uploads.delete(name)

    async def test_that_was_written_has_the_version_of_the_last_try(self, account: Account, losses: Losses) -> None:
        name = own("a")
        losses.next = 1
        etag = await account.uploads.write(name, b"x", {"HostHeader": "h"})
        assert some(await account.uploads.version(name)).etag == etag

    async def test_whose_metadata_was_written_is_to_be_looked_at_again(self, account: Account, losses: Losses) -> None:
        name = own("a")
        etag = await account.uploads.write(name, b"x", {"HostHeader": "h"})
        losses.next = 1
        with pytest.raises(ConflictError):
            await account.uploads.set_metadata(name, {"HostHeader": "new"}, etag=etag)
        assert some(await account.uploads.version(name)).metadata == {"HostHeader": "new"}


class TestAQueue:
    async def test_that_was_made_is_there(self, account: Account, losses: Losses) -> None:
        losses.next = 1
        queue = own("q").lower().replace("_", "-")
        await account.queues.create(queue)
        assert await account.queues.length(queue) == 0

    @pytest.mark.parametrize("there", [0, 1, 31, 32])
    async def test_is_asked_once_for_what_there_is(self, account: Account, losses: Losses, there: int) -> None:
        queue = own("q").lower().replace("_", "-")
        await account.queues.create(queue)
        for number in range(there):
            await account.queues.send(queue, str(number))
        losses.methods.clear()
        taken = await account.queues.receive(queue, limit=32, visibility_s=30)
        assert sorted(int(message.body or "") for message in taken) == list(range(there))
        assert losses.methods == ["GET"]

    async def test_whose_messages_were_lost_on_the_way_does_not_look_empty(
        self, account: Account, losses: Losses
    ) -> None:
        queue = own("q").lower().replace("_", "-")
        await account.queues.create(queue)
        await account.queues.send(queue, "hint")
        losses.next = 1
        with pytest.raises(UnavailableError):
            await account.queues.receive(queue, limit=32, visibility_s=30)

    async def test_may_have_a_message_twice(self, account: Account, losses: Losses) -> None:
        queue = own("q").lower().replace("_", "-")
        await account.queues.create(queue)
        losses.next = 1
        await account.queues.send(queue, "hint")
        assert [m.body for m in await account.queues.receive(queue, limit=32, visibility_s=30)] == ["hint", "hint"]
