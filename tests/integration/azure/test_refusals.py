"""What certcast's edges say where the storage account answers as Azure's does and the emulator does not."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace as with_other
from pathlib import Path

import pytest

from local_azure.proxy.answers import LOST, Refusal
from local_azure.proxy.faults import Faults, Rule
from local_azure.proxy.refusals import (
    ACCOUNT_DISABLED,
    ARCHIVED,
    CONTAINER_BEING_DELETED,
    ENTITY_TOO_LARGE,
    IMMUTABLE,
    LEASED,
    METADATA_TOO_LARGE,
    NETWORK_RULES,
    NO_CONTAINER,
    NO_SHARED_KEYS,
    OWN_KEY,
    PERMISSION_MISMATCH,
    QUEUE_BEING_DELETED,
    REFUSALS,
    SERVER_BUSY,
    TABLE_BEING_DELETED,
    TAGS_CHANGED,
    TAGS_HIERARCHICAL,
    TAGS_NO_SUCH_PARAMETER,
    TAGS_NOT_ENABLED,
    TAGS_NOT_PERMITTED,
    TAGS_OLD_ACCOUNT,
    TIMED_OUT,
    TOO_MANY_PROPERTIES,
)
from local_azure.proxy.standing import BeingDeleted, Limits
from shared.azure.account import Account
from shared.errors import (
    AccessDeniedError,
    CertcastError,
    ConflictError,
    HeldError,
    MissingError,
    NotSetUpError,
    QueueBeingDeletedError,
    RefusedForNowError,
    UnavailableError,
    UnsupportedError,
)
from tests.contracts.edges import own
from tests.rigs.azure_account import behind
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.some import some

BUSY = with_other(SERVER_BUSY, headers=(("Retry-After", "0"),))  # so that no test waits
Call = Callable[[Account], Awaitable[object]]
Said = tuple[Refusal, Call, type[CertcastError], str]

NAME = "a.pfx"


@pytest.fixture
def faults() -> Faults:
    return Faults((BeingDeleted(), Limits()))


@pytest.fixture
async def account(azurite: Emulator, faults: Faults, tmp_path: Path) -> AsyncIterator[Account]:
    async with behind(azurite, faults) as connection, opened_account(connection, tmp_path / "key") as opened:
        await opened.uploads.write(NAME, b"content", {})
        yield opened


async def scrub(account: Account) -> str:
    found = some(await account.uploads.version(NAME))
    return await account.uploads.set_metadata(NAME, {"certcast_bundle": "b"}, etag=found.etag)


async def add(account: Account) -> str:
    return await account.state.uploads._table.insert("blob", own("u"), {"revision": 1})


async def replace(account: Account) -> str:
    row, rows = own("u"), account.state.uploads._table
    return await rows.replace("blob", row, {"revision": 2}, etag=await rows.insert("blob", row, {"revision": 1}))


async def listed(account: Account) -> list[str]:
    return [found.name async for found in account.uploads.each()]


read: Call = lambda account: account.uploads.read(NAME, max_bytes=10)  # noqa: E731
tag: Call = lambda account: account.uploads.set_tags(NAME, {"certcast_status": "live"})  # noqa: E731
send: Call = lambda account: account.queues.send("install-results", "text")  # noqa: E731
create: Call = lambda account: account.queues.create("cert-agent-x")  # noqa: E731
remove: Call = lambda account: account.uploads.delete(NAME)  # noqa: E731
set_up: Call = lambda account: account.create_all()  # noqa: E731

ROLES = "a role assignment takes up to half an hour to come into force"
SAID: list[Said] = [
    (PERMISSION_MISMATCH, read, RefusedForNowError, f"reading blob a.pfx: refused .*{ROLES}"),
    (PERMISSION_MISMATCH, add, RefusedForNowError, f"adding row blob/.* of table uploads: refused .*{ROLES}"),
    (PERMISSION_MISMATCH, send, RefusedForNowError, f"sending to queue install-results: refused .*{ROLES}"),
    (NETWORK_RULES, scrub, RefusedForNowError, "network rules do not let this address in"),
    (NO_SHARED_KEYS, read, AccessDeniedError, "takes no access keys: set CERTCAST_STORAGE__accountName"),
    (ACCOUNT_DISABLED, add, AccessDeniedError, "the subscription is disabled"),
    (BUSY, remove, UnavailableError, "deleting blob a.pfx: the service answered 503"),
    (TIMED_OUT, tag, UnavailableError, "writing the tags of blob a.pfx: the service answered 500"),
    (TAGS_NOT_PERMITTED, tag, RefusedForNowError, "writing the tags of blob a.pfx: .*Storage Blob Data Owner"),
    (TAGS_NO_SUCH_PARAMETER, tag, UnsupportedError, "writing the tags of blob a.pfx: this storage account has no"),
    (TAGS_HIERARCHICAL, tag, UnsupportedError, "this storage account has no such feature"),
    (TAGS_OLD_ACCOUNT, tag, UnsupportedError, "this storage account has no such feature"),
    (TAGS_NOT_ENABLED, tag, UnsupportedError, "this storage account has no such feature"),
    (TAGS_CHANGED, tag, ConflictError, "writing the tags of blob a.pfx: changed meanwhile"),
    (LEASED, scrub, HeldError, "writing the metadata of blob a.pfx: .*end the lease"),
    (LEASED, remove, HeldError, "deleting blob a.pfx: .*end the lease"),
    (LEASED, tag, HeldError, "writing the tags of blob a.pfx: .*end the lease"),
    (IMMUTABLE, scrub, HeldError, "writing the metadata of blob a.pfx: an immutability policy"),
    (ARCHIVED, read, HeldError, "reading blob a.pfx: the blob is in the archive tier"),
    (ARCHIVED, scrub, HeldError, "writing the metadata of blob a.pfx: the blob is in the archive tier"),
    (OWN_KEY, read, HeldError, "reading blob a.pfx: the blob is encrypted with a key that its uploader has"),
    (NO_CONTAINER, read, NotSetUpError, "reading blob a.pfx: the container itself is not there"),
    (NO_CONTAINER, listed, NotSetUpError, "listing container certificates: the container itself is not there"),
    (QUEUE_BEING_DELETED, create, QueueBeingDeletedError, "creating queue cert-agent-x: .*deleted a moment ago"),
    (QUEUE_BEING_DELETED, send, MissingError, "sending to queue install-results: .*deleted a moment ago"),
    (TABLE_BEING_DELETED, set_up, UnavailableError, "creating table .*deleted a moment ago"),
    (CONTAINER_BEING_DELETED, set_up, UnavailableError, "creating container .*deleted a moment ago"),
    (METADATA_TOO_LARGE, scrub, CertcastError, "writing the metadata of blob a.pfx: metadata may have 8 KB"),
    (ENTITY_TOO_LARGE, add, CertcastError, "of table uploads: the service answered 400 .EntityTooLarge"),
    (TOO_MANY_PROPERTIES, add, CertcastError, "of table uploads: the service answered 400 .TooManyProperties"),
]


def test_what_is_said_of_each_refusal_is_tested() -> None:
    assert {refusal.source for refusal, *_ in SAID} == {refusal.source for refusal in REFUSALS}


@pytest.mark.parametrize("said", SAID, ids=[f"{row[0].code}-{number}" for number, row in enumerate(SAID)])
async def test_a_refusal_is_the_error_that_tells_what_to_do(account: Account, faults: Faults, said: Said) -> None:
    refusal, call, error, sentence = said
    with faults.during(Rule(answer=refusal)) as fault, pytest.raises(CertcastError, match=sentence) as caught:
        await call(account)
    assert type(caught.value) is error
    assert fault.applied > 0


@pytest.mark.parametrize("call", [read, tag, scrub, send, create, add, remove])
@pytest.mark.parametrize("answer", [BUSY, LOST], ids=lambda answer: answer.name)
async def test_a_request_that_meets_trouble_once_is_made_again(
    account: Account, faults: Faults, call: Call, answer: Refusal
) -> None:
    with faults.during(Rule(answer=answer, times=1)) as fault:
        await call(account)
    assert fault.applied == 1


async def test_a_busy_account_is_asked_again_after_the_time_that_it_names(account: Account, faults: Faults) -> None:
    for call in (read, send, add):
        faults.add(Rule(answer=SERVER_BUSY, times=1))
        began = time.monotonic()
        await call(account)
        assert 0.9 < time.monotonic() - began < 1.9


@pytest.mark.parametrize(("call", "operation"), [(add, "Insert Entity"), (replace, "Update Entity")])
async def test_a_row_whose_writing_was_not_answered_is_ones_own(
    account: Account, faults: Faults, call: Call, operation: str
) -> None:
    """It is answered 409 or 412 when it is repeated, though nobody else was there."""
    with faults.during(Rule(answer=LOST, times=1, operations=frozenset({operation}))) as fault:
        await call(account)
    assert fault.applied == 1


async def test_a_blob_whose_deletion_was_not_answered_was_deleted(account: Account, faults: Faults) -> None:
    with faults.during(Rule(answer=LOST, times=1, operations=frozenset({"Delete Blob"}))) as fault:
        assert await account.uploads.delete(NAME)
    assert fault.applied == 1
    assert not await account.uploads.delete(NAME)


async def test_a_queue_that_was_deleted_is_not_taken_for_made(account: Account) -> None:
    queue = own("q")
    await account.queues.create(queue)
    await account.queues.create(queue)
    await account.queues.delete(queue)
    with pytest.raises(QueueBeingDeletedError, match="40 s or more"):
        await account.queues.create(queue)


async def test_a_receive_is_asked_for_again_where_the_account_is_busy_and_nowhere_else(
    account: Account, faults: Faults
) -> None:
    """An instance reads every row after a receive that failed, which is the last thing that a busy account needs."""
    queue = own("q")
    await account.queues.create(queue)
    await account.queues.send(queue, "hint")
    receives = frozenset({"Get Messages"})
    with faults.during(Rule(answer=BUSY, times=2, operations=receives)) as fault:
        assert [message.body for message in await account.queues.receive(queue, limit=32, visibility_s=300)] == ["hint"]
    assert fault.applied == 2
    with (
        faults.during(Rule(answer=TIMED_OUT, times=2, operations=receives)) as fault,
        pytest.raises(UnavailableError, match=f"reading queue {queue}: the service answered 500"),
    ):
        await account.queues.receive(queue, limit=32, visibility_s=300)
    assert fault.applied == 1


async def test_a_receive_whose_answer_is_lost_says_so(account: Account, faults: Faults) -> None:
    """Its messages are hidden: that there were none is not known."""
    queue = own("q")
    await account.queues.create(queue)
    await account.queues.send(queue, "hint")
    with (
        faults.during(Rule(answer=LOST, times=1, operations=frozenset({"Get Messages"}))),
        pytest.raises(UnavailableError, match=f"reading queue {queue}: no answer from the service"),
    ):
        await account.queues.receive(queue, limit=32, visibility_s=300)
