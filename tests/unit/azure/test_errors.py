"""What the services' refusals become, asked through the SDKs' own pipelines."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.identity import CredentialUnavailableError
from azure.storage.blob.aio import BlobClient

from shared.azure.account import Account
from shared.azure.errors import azure_errors
from shared.azure.patience import LONGEST_WAIT_S, StoragePatience
from shared.config import StorageAccess
from shared.errors import (
    AccessDeniedError,
    CertcastError,
    ConflictError,
    HeldError,
    MissingError,
    QueueBeingDeletedError,
    RefusedForNowError,
    UnavailableError,
    UnsupportedError,
)
from tests.rigs.storage_stub import Answer, StorageStub, stubbed_account


@pytest.fixture
async def stubbed() -> AsyncIterator[tuple[Account, StorageStub]]:
    async with stubbed_account() as both:
        yield both


CALLS: dict[str, Callable[[Account], Awaitable[object]]] = {
    "blob": lambda account: account.uploads.version("a.pfx"),
    "tags": lambda account: account.uploads.set_tags("a.pfx", {"a": "b"}),
    "queue": lambda account: account.queues.receive("queue", limit=1, visibility_s=1),
    "table": lambda account: account.state.instances.get("web_0"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", ["AuthorizationPermissionMismatch", "AuthorizationFailure"])
async def test_a_refusal_that_a_role_assignment_ends_is_retriable(
    stubbed: tuple[Account, StorageStub], call: str, code: str
) -> None:
    account, stub = stubbed
    stub.will_answer(Answer(status=403, code=code))
    with pytest.raises(RefusedForNowError, match=rf"refused \({code}\).*come into force.*docs/deploy\.md") as caught:
        await CALLS[call](account)
    assert caught.value.retriable
    assert len(stub.asked) == 1


async def test_an_account_without_access_keys_says_how_to_come_with_an_identity(
    stubbed: tuple[Account, StorageStub],
) -> None:
    account, stub = stubbed
    stub.will_answer(Answer(status=403, code="KeyBasedAuthenticationNotPermitted"))
    with pytest.raises(AccessDeniedError, match="CERTCAST_STORAGE__accountName") as caught:
        await account.uploads.version("a.pfx")
    assert not caught.value.retriable


@pytest.mark.parametrize(
    "error",
    [
        CredentialUnavailableError(message="ManagedIdentityCredential authentication unavailable, no response"),
        ClientAuthenticationError(message="DefaultAzureCredential failed to retrieve a token"),
    ],
)
def test_an_identity_that_got_no_token_is_asked_again(error: ClientAuthenticationError) -> None:
    with (
        pytest.raises(RefusedForNowError, match=r"reading row 1: this process got no token for its identity"),
        azure_errors("reading row 1"),
    ):
        raise error


class TestTags:
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, "InvalidQueryParameterValue"),
            (400, "FeatureNotYetSupportedForHierarchicalNamespaceAccounts"),
            (409, "FeatureNotYetSupportedForHierarchicalNamespaceAccounts"),
            (400, "BlobTagsNotSupportedForAccountType"),
            (409, "FeatureNotEnabled"),
        ],
    )
    async def test_of_an_account_that_has_none_are_not_written_and_not_read(
        self, stubbed: tuple[Account, StorageStub], status: int, code: str
    ) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=status, code=code))
        with pytest.raises(UnsupportedError, match=code) as caught:
            await account.uploads.set_tags("a.pfx", {"a": "b"})
        assert not caught.value.retriable
        with pytest.raises(UnsupportedError, match=code):
            await account.uploads.tags("a.pfx")

    async def test_are_written_where_they_are_as_they_were_read(self, stubbed: tuple[Account, StorageStub]) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=204))
        await account.uploads.set_tags("a.pfx", {"certcast_status": "live"}, found={})
        assert "x-ms-if-tags" not in stub.heads[-1]
        await account.uploads.set_tags("a.pfx", {"certcast_status": "live"}, found={"cost center": "4711", "team": ""})
        assert stub.heads[-1]["x-ms-if-tags"] == "\"cost center\"='4711' AND \"team\"=''"
        stub.will_answer(Answer(status=412, code="ConditionNotMet"))
        with pytest.raises(ConflictError, match=r"writing the tags of blob a\.pfx: changed meanwhile"):
            await account.uploads.set_tags("a.pfx", {}, found={"team": "blue"})

    async def test_that_may_not_be_written_name_the_role(self, stubbed: tuple[Account, StorageStub]) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=403, code="AuthorizationPermissionMismatch"))
        with pytest.raises(RefusedForNowError, match=r"tags of blob a\.pfx: refused.*Storage Blob Data Owner"):
            await account.uploads.set_tags("a.pfx", {"a": "b"})
        with pytest.raises(RefusedForNowError):
            await account.uploads.tags("a.pfx")

    async def test_of_a_blob_that_is_gone_are_not_written(self, stubbed: tuple[Account, StorageStub]) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=404, code="BlobNotFound"))
        assert not await account.uploads.set_tags("a.pfx", {"a": "b"})

    async def test_of_a_blob_under_a_lease_are_held(self, stubbed: tuple[Account, StorageStub]) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=412, code="LeaseIdMissing"))
        with pytest.raises(HeldError, match="LeaseIdMissing"):
            await account.uploads.set_tags("a.pfx", {"a": "b"})


class TestMaking:
    @pytest.mark.parametrize(
        "answer", [Answer(status=201), Answer(status=204), Answer(status=409, code="QueueAlreadyExists")]
    )
    async def test_a_queue_is_done_when_it_is_there(self, stubbed: tuple[Account, StorageStub], answer: Answer) -> None:
        account, stub = stubbed
        stub.will_answer(answer)
        await account.queues.create("queue")
        assert len(stub.asked) == 1

    async def test_a_queue_that_is_being_deleted_is_put_off(self, stubbed: tuple[Account, StorageStub]) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=409, code="QueueBeingDeleted"))
        with pytest.raises(QueueBeingDeletedError, match=r"creating queue queue: .*after 40 s or more") as caught:
            await account.queues.create("queue")
        assert caught.value.retriable

    @pytest.mark.parametrize("code", ["QueueAlreadyExistsWithDifferentMetadata", "QueueDisabled", ""])
    async def test_a_queue_that_was_not_made_for_another_reason_is_an_error(
        self, stubbed: tuple[Account, StorageStub], code: str
    ) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=409, code=code))
        with pytest.raises(CertcastError):
            await account.queues.create("queue")

    @pytest.mark.parametrize("code", ["ContainerBeingDeleted", "TableBeingDeleted", "QueueBeingDeleted"])
    async def test_an_account_while_something_of_it_is_being_deleted_is_put_off(
        self, stubbed: tuple[Account, StorageStub], code: str
    ) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=409, code=code))
        with pytest.raises(UnavailableError, match=r"creating .*: one of that name was deleted a moment ago") as caught:
            await account.create_all()
        assert caught.value.retriable


class TestWaiting:
    """As long as a service asks for, within bounds, and no longer."""

    @pytest.fixture
    def waits(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        waits: list[float] = []

        async def sleep(_: object, seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr(AsyncHttpTransport, "sleep", sleep)
        return waits

    @pytest.mark.parametrize("call", ["blob", "table"])
    @pytest.mark.parametrize(("asked", "waited"), [("3", 3), ("3600", LONGEST_WAIT_S)])
    async def test_is_what_the_service_asks_for(
        self, stubbed: tuple[Account, StorageStub], waits: list[float], call: str, asked: str, waited: float
    ) -> None:
        account, stub = stubbed
        busy = Answer(status=503, code="ServerBusy", headers={"Retry-After": asked})
        stub.will_answer(busy, Answer(status=404, code="BlobNotFound"))
        assert await CALLS[call](account) is None
        assert waits == [waited]

    async def test_ends_when_the_service_stays_busy(
        self, stubbed: tuple[Account, StorageStub], waits: list[float]
    ) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=503, code="ServerBusy", headers={"Retry-After": "3600"}))
        for call in ("blob", "table"):
            waits.clear()
            with pytest.raises(UnavailableError, match="the service answered 503"):
                await CALLS[call](account)
            assert sum(waits) <= 4 * LONGEST_WAIT_S

    async def test_is_the_own_where_the_service_asks_for_no_number(
        self, stubbed: tuple[Account, StorageStub], waits: list[float]
    ) -> None:
        account, stub = stubbed
        busy = Answer(status=503, headers={"Retry-After": "Sun, 01 Mar 2026 12:00:00 GMT"})
        stub.will_answer(busy, Answer(status=404, code="BlobNotFound"))
        assert await CALLS["blob"](account) is None
        assert len(waits) == 1

    async def test_is_none_without_a_token(self, waits: list[float]) -> None:
        asked: list[str] = []

        class Identity:
            async def get_token(self, *scopes: str, **_: object) -> AccessToken:
                asked.extend(scopes)
                raise CredentialUnavailableError(message="no managed identity endpoint found")

            async def close(self) -> None:
                pass

            async def __aenter__(self) -> Self:
                return self

            async def __aexit__(self, *_: object) -> None:
                pass

        client = BlobClient(
            "https://account.blob.core.windows.net", "c", "b", credential=Identity(), retry_policy=StoragePatience()
        )
        async with client:
            with pytest.raises(RefusedForNowError, match="got no token"), azure_errors("reading blob b"):
                await client.get_blob_properties()
        assert waits == []
        assert len(asked) == 1


async def test_a_name_that_no_one_knows_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    text = "AccountName=wrongaccount;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net;"
    async with Account(StorageAccess(connection_string=f"DefaultEndpointsProtocol=https;{text}"), retries=0) as account:
        with pytest.raises(UnavailableError, match="its host name is not known: check the name of the account"):
            await account.uploads.version("a.pfx")


@pytest.mark.parametrize("code", ["", "SomethingElse"])
@pytest.mark.parametrize("call", CALLS)
async def test_what_something_else_says_is_not_there_is_not_taken_for_gone(
    stubbed: tuple[Account, StorageStub], call: str, code: str
) -> None:
    account, stub = stubbed
    stub.will_answer(Answer(status=404, code=code))
    with pytest.raises(UnavailableError, match="is not the service that was meant"):
        await CALLS[call](account)


class TestABlobThat:
    @pytest.mark.parametrize(
        ("status", "code", "said"),
        [
            (409, "BlobImmutableDueToPolicy", "immutability policy"),
            (409, "BlobArchived", "archive tier"),
            (409, "BlobBeingRehydrated", "takes hours"),
            (409, "BlobUsesCustomerSpecifiedEncryption", "a key that its uploader has"),
            (412, "LeaseIdMissing", "the blob is under a lease"),
        ],
    )
    async def test_cannot_be_changed_says_why(
        self, stubbed: tuple[Account, StorageStub], status: int, code: str, said: str
    ) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=status, code=code))
        with pytest.raises(HeldError, match=said):
            await account.uploads.set_metadata("a.pfx", {}, etag="0x1")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (409, "EntityAlreadyExists", "changed meanwhile (EntityAlreadyExists)"),
        (412, "UpdateConditionNotSatisfied", "changed meanwhile (UpdateConditionNotSatisfied)"),
        (409, "PendingCopyOperation", "not possible as things are now (PendingCopyOperation)"),
    ],
)
async def test_a_conflict_is_said_to_be_a_change_only_where_it_is(
    stubbed: tuple[Account, StorageStub], status: int, code: str, said: str
) -> None:
    account, stub = stubbed
    stub.will_answer(Answer(status=status, code=code))
    with pytest.raises(ConflictError, match=re.escape(said)):
        await account.uploads.set_metadata("a.pfx", {}, etag="0x1")


async def test_a_row_that_is_gone_when_a_conflict_is_looked_into_is_a_conflict(
    stubbed: tuple[Account, StorageStub],
) -> None:
    """It was added, the answer was lost, and another deleted it before it was tried again and read."""
    account, stub = stubbed
    stub.will_answer(
        Answer(status=500), Answer(status=409, code="EntityAlreadyExists"), Answer(status=404, code="ResourceNotFound")
    )
    with pytest.raises(ConflictError, match="EntityAlreadyExists"):
        await account.state.uploads._table.insert("p", "r", {"n": 1})


async def test_a_queue_that_is_being_deleted_is_none(stubbed: tuple[Account, StorageStub]) -> None:
    account, stub = stubbed
    stub.will_answer(Answer(status=409, code="QueueBeingDeleted"))
    for call in (account.queues.send("queue", "hint"), account.queues.receive("queue", limit=1, visibility_s=1)):
        with pytest.raises(MissingError):
            await call
    await account.queues.delete("queue")
