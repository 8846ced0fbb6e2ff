"""What the services' refusals become, asked through the SDKs' own pipelines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError

from shared.azure.account import Account
from shared.azure.errors import azure_errors
from shared.errors import (
    AccessDeniedError,
    CertcastError,
    HeldError,
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
    with pytest.raises(RefusedForNowError, match=rf"refused \({code}\).*tried again.*docs/deploy\.md") as caught:
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
        assert await account.uploads.tags("a.pfx") is None

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

    @pytest.mark.parametrize(
        ("code", "said"),
        [("ContainerBeingDeleted", "container"), ("TableBeingDeleted", "table"), ("QueueBeingDeleted", "queue")],
    )
    async def test_an_account_while_something_of_it_is_being_deleted_is_put_off(
        self, stubbed: tuple[Account, StorageStub], code: str, said: str
    ) -> None:
        account, stub = stubbed
        stub.will_answer(Answer(status=409, code=code))
        with pytest.raises(UnavailableError, match=rf"creating .*{said}.*was deleted a moment ago") as caught:
            await account.create_all()
        assert caught.value.retriable
