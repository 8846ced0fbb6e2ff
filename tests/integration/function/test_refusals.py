"""What a person reads in the status where the storage account refuses as Azure's does, and what becomes of it after."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from local_azure.proxy.answers import LOST, Answer, Refusal
from local_azure.proxy.faults import Faults, Rule
from local_azure.proxy.refusals import (
    ACCOUNT_DISABLED,
    ARCHIVED,
    IMMUTABLE,
    LEASED,
    NETWORK_RULES,
    NO_CONTAINER,
    NO_SHARED_KEYS,
    OWN_KEY,
    PERMISSION_MISMATCH,
    QUEUE_BEING_DELETED,
    SERVER_BUSY,
    TAGS_CHANGED,
    TAGS_HIERARCHICAL,
    TAGS_NO_SUCH_PARAMETER,
    TAGS_NOT_ENABLED,
    TAGS_NOT_PERMITTED,
    TAGS_OLD_ACCOUNT,
)
from local_azure.proxy.standing import BeingDeleted, Limits
from operator_cli.status_tables import notes_on, reason_of
from shared.azure.account import Account
from shared.azure.blobs import UPLOADS_CONTAINER
from shared.azure.bundles import BUNDLES_CONTAINER
from shared.function.blob_event import Notice
from shared.function.cloud import Cloud
from shared.function.intake import handle_notice, recheck
from shared.function.sweep import sweep
from shared.messages import RECHECK_QUEUE, RecheckUpload, decode, queue_of
from shared.state.document import upload_document
from shared.upload import carries_password
from tests.contracts.edges import own
from tests.rigs.azure_account import behind
from tests.rigs.certificates import authority
from tests.rigs.emulator import Emulator, cloud_on, emulator, opened_account
from tests.rigs.rows import registered
from tests.rigs.some import some
from tests.rigs.witness import PASSWORD

BUSY = replace(SERVER_BUSY, headers=(("Retry-After", "0"),))  # so that no test waits
INSTANCES = ("web-0", "web-1")
UPLOADS, BUNDLES = f"container {UPLOADS_CONTAINER}", f"container {BUNDLES_CONTAINER}"


@pytest.fixture(scope="module")
def own_azurite() -> Iterator[Emulator]:
    """Of its own: a sweep acts on everything that is in an account."""
    with emulator() as running:
        yield running


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who uploads, and asks what became of it.

    Attributes:
        faults: What the Function's account refuses.
        function: The account as the Function has it.
        account: The account as the person has it, who is refused nothing.
        cloud: One process of the Function.
        name: Of the upload.
    """

    faults: Faults
    function: Account
    account: Account
    cloud: Cloud
    name: str

    async def uploads(self) -> str:
        """Upload, have the event handled, and read the status."""
        content = authority().issue(f"{self.name}.test").pfx(PASSWORD)
        etag = await self.account.uploads.write(self.name, content, {"CertificatePassword": PASSWORD})
        await handle_notice(self.cloud, Notice(name=self.name, etag=etag, at=self.cloud.now()))
        return await self.reads()

    async def reads(self) -> str:
        """What `certcast status NAME` says."""
        document = {**upload_document(some(await self.account.state.uploads.get(self.name))), "installations": []}
        said = f"{document['status']} {document['live']}/{document['expected']}"
        return " ".join(filter(None, [said, reason_of(document), *notes_on(document)]))

    async def waits(self) -> str:
        """Have the looks done that were asked for, and a sweep by another process, and read the status again."""
        for message in await self.account.queues.receive(RECHECK_QUEUE, limit=32, visibility_s=60):
            await recheck(self.cloud, decode(RecheckUpload, message.body or ""))
            await self.account.queues.done(RECHECK_QUEUE, message)
        await sweep(cloud_on(self.function))
        return await self.reads()

    async def password_is_there(self) -> bool:
        return carries_password(some(await self.account.uploads.version(self.name)).metadata)

    async def tag(self) -> str | None:
        return (await self.account.uploads.tags(self.name) or {}).get("certcast_status")


@pytest.fixture
async def person(own_azurite: Emulator, tmp_path: Path) -> AsyncIterator[Person]:
    faults = Faults((BeingDeleted(), Limits()))
    key = tmp_path / "key"
    async with (
        behind(own_azurite, faults) as connection,
        opened_account(own_azurite.connection_string, key) as account,
        opened_account(connection, key) as function,
    ):
        for instance in INSTANCES:
            await account.queues.create(queue_of(instance))
            row = registered(instance, at=account.clock.now())
            await account.state.instances.update(instance, lambda _, row=row: row)  # type: ignore[misc]
        cloud = cloud_on(function)
        yield Person(faults=faults, function=function, account=account, cloud=cloud, name=f"{own('p')}.pfx")


DONE = "accepted 0/2"
ROLES = "a role assignment takes up to half an hour to come into force; if it stays so, see the role assignments"
LEFT = "accepted 0/2 Its password is still in the metadata: writing the metadata of blob {name}"


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (PERMISSION_MISMATCH, f": refused (AuthorizationPermissionMismatch); {ROLES}"),
        (NETWORK_RULES, ": refused (AuthorizationFailure); the account's network rules do not let this address in"),
        (LEASED, ": the blob is under a lease (LeaseIdMissing); end the lease"),
        (IMMUTABLE, ": an immutability policy or a legal hold keeps the blob as it is (BlobImmutableDueToPolicy)"),
        (ARCHIVED, ": the blob is in the archive tier (BlobArchived)"),
        (BUSY, ": the service answered 503"),
    ],
    ids=lambda each: getattr(each, "code", ""),
)
async def test_a_password_that_may_not_be_taken_out_is_said_to_be_there_and_is_taken_out_later(
    person: Person, refusal: Refusal, why: str
) -> None:
    with person.faults.during(Rule(answer=refusal, operations=frozenset({"Set Blob Metadata"}))):
        said = await person.uploads()
    assert said.startswith(LEFT.format(name=person.name) + why), said
    assert await person.password_is_there()
    assert await person.tag() == "accepted"
    assert await person.waits() == DONE
    assert not await person.password_is_there()


@pytest.mark.parametrize(
    ("refusal", "operation", "why"),
    [
        (TAGS_NOT_PERMITTED, "Get Blob Tags", "refused (AuthorizationPermissionMismatch); "),
        (TAGS_NOT_PERMITTED, "Set Blob Tags", "refused (AuthorizationPermissionMismatch); "),
        (LEASED, "Set Blob Tags", "the blob is under a lease (LeaseIdMissing); end the lease"),
    ],
    ids=lambda each: getattr(each, "code", ""),
)
async def test_tags_that_may_not_be_written_are_said_to_be_missing_and_are_written_later(
    person: Person, refusal: Refusal, operation: str, why: str
) -> None:
    verb = "reading" if operation == "Get Blob Tags" else "writing"
    with person.faults.during(Rule(answer=refusal, operations=frozenset({operation}))):
        said = await person.uploads()
    assert said.startswith(
        f"accepted 0/2 Its tags do not show all of this status: {verb} the tags of blob {person.name}: {why}"
    ), said
    assert not await person.password_is_there()
    assert await person.waits() == DONE
    assert await person.tag() == "accepted"


async def test_tags_that_were_changed_meanwhile_are_read_and_written_again(person: Person) -> None:
    with person.faults.during(Rule(answer=TAGS_CHANGED, times=2)) as fault:
        assert await person.uploads() == DONE
    assert fault.applied == 2
    assert await person.tag() == "accepted"


@pytest.mark.parametrize(
    "refusal",
    [TAGS_NO_SUCH_PARAMETER, TAGS_HIERARCHICAL, TAGS_OLD_ACCOUNT, TAGS_NOT_ENABLED],
    ids=lambda each: each.code,
)
async def test_an_account_without_tags_does_without_and_says_so_once(
    person: Person, refusal: Refusal, caplog: pytest.LogCaptureFixture
) -> None:
    with person.faults.during(Rule(answer=refusal)) as fault:
        assert await person.uploads() == DONE
        assert not await person.password_is_there()
        assert await person.uploads() == DONE
    assert fault.applied == 1
    [line] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("tags: ")]
    assert f"reading the tags of blob {person.name}: this storage account has no " in line
    assert f"({refusal.code}); what becomes of uploads is told by `certcast status` and by" in line


async def test_a_blob_in_the_archive_is_turned_down_with_what_to_do(person: Person) -> None:
    with person.faults.during(Rule(answer=ARCHIVED)):
        said = await person.uploads()
    assert said == (
        f"rejected 0/0 unreadable_bundle: The blob cannot be read: reading blob {person.name}: the blob is in the "
        "archive tier (BlobArchived); upload it again into tier Hot or Cool."
    )


async def test_a_blob_under_its_uploaders_own_key_is_turned_down_with_what_to_do(
    person: Person, caplog: pytest.LogCaptureFixture
) -> None:
    with person.faults.during(Rule(answer=OWN_KEY)):
        said = await person.uploads()
        assert said == (
            f"rejected 0/0 unreadable_bundle: The blob cannot be read: reading blob {person.name}: the blob is "
            "encrypted with a key that its uploader has and certcast has not (BlobUsesCustomerSpecifiedEncryption); "
            "upload it without one."
        )
        assert await person.waits() == said
    assert "looked at again" not in caplog.text
    assert "put off" not in caplog.text


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (
            Rule(answer=PERMISSION_MISMATCH, operations=frozenset({"Get Blob"}), resource=UPLOADS),
            f"reading blob {{name}}: refused (AuthorizationPermissionMismatch); {ROLES}",
        ),
        (
            Rule(answer=NO_SHARED_KEYS, operations=frozenset({"Put Blob"}), resource=BUNDLES),
            "refused (KeyBasedAuthenticationNotPermitted); the account takes no access keys",
        ),
        (
            Rule(answer=ACCOUNT_DISABLED, operations=frozenset({"Put Blob"}), resource=BUNDLES),
            "refused (AccountIsDisabled); mostly it is because the subscription is disabled too",
        ),
        (
            Rule(answer=NO_CONTAINER, operations=frozenset({"Get Blob"}), resource=UPLOADS),
            "reading blob {name}: the container itself is not there (ContainerNotFound)",
        ),
        (
            Rule(answer=BUSY, operations=frozenset({"Put Blob"}), resource=BUNDLES),
            "sealing bundle",
        ),
    ],
    ids=lambda each: each.answer.code if isinstance(each, Rule) and isinstance(each.answer, Refusal) else "",
)
async def test_an_upload_that_cannot_be_handled_now_says_why_and_is_handled_later(
    person: Person, rule: Rule, why: str
) -> None:
    with person.faults.during(rule):
        said = await person.uploads()
    assert said.startswith("received 0/0 "), said
    assert why.format(name=person.name) in said
    assert await person.waits() == DONE
    assert not await person.password_is_there()


async def test_a_container_that_is_away_removes_nothing(person: Person) -> None:
    assert await person.uploads() == DONE
    with person.faults.during(Rule(answer=NO_CONTAINER)):
        await handle_notice(person.cloud, Notice(name=person.name, at=person.cloud.now(), deletion=True))
        await sweep(person.cloud)
        assert (await person.reads()).startswith(DONE)
    assert await person.waits() == DONE


@pytest.mark.parametrize(
    ("refusal", "warns"),
    [(QUEUE_BEING_DELETED, False), (PERMISSION_MISMATCH, True), (BUSY, True)],
    ids=lambda each: getattr(each, "code", ""),
)
async def test_an_instance_whose_queue_takes_nothing_keeps_nothing_from_the_others(
    person: Person, refusal: Refusal, *, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:  # an instance that was taken for scaled in registers again, which is nothing to warn of
    refusing, other = map(queue_of, INSTANCES)
    before = await person.account.queues.length(other)
    with person.faults.during(Rule(answer=refusal, resource=f"queue {refusing}")):
        assert await person.uploads() == DONE
    assert not await person.password_is_there()
    assert await person.tag() == "accepted"
    assert await person.account.queues.length(other) == before + 1
    warned = f"instance {INSTANCES[0]}: could not be told now, it finds out within minutes" in caplog.text
    assert warned is warns


ONCE = {
    "Get Entity": "table uploads",
    "Insert Entity": "table uploads",
    "Update Entity": "table uploads",
    "Put Blob": BUNDLES,
    "Get Blob": UPLOADS,
    "Set Blob Metadata": UPLOADS,
    "Get Blob Tags": UPLOADS,
    "Set Blob Tags": UPLOADS,
    "Put Message": "queue cert-agent-*",
}


@pytest.mark.parametrize("operation", ONCE)
@pytest.mark.parametrize("answer", [LOST, BUSY], ids=lambda answer: answer.name)
async def test_what_happens_once_is_not_seen_at_all(person: Person, operation: str, answer: Answer) -> None:
    rule = Rule(answer=answer, operations=frozenset({operation}), resource=ONCE[operation], times=1)
    with person.faults.during(rule) as fault:
        said = await person.uploads()
    assert fault.applied == 1
    assert said == DONE or await person.waits() == DONE
    assert not await person.password_is_there()
    assert await person.tag() == "accepted"
