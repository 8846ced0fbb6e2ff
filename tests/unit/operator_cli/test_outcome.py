import hashlib
from datetime import timedelta

import pytest

from operator_cli.outcome import AnyOutcomes, Outcomes, Sent, TableOutcomes, TagOutcomes, outcome_of_tags
from operator_cli.storage import Storage
from shared.errors import AccessDeniedError, CertcastError
from shared.function.blob_event import Notice
from shared.function.intake import look_at
from shared.state.records import UploadRecord, UploadStatus
from shared.state.tags import status_tags
from shared.verdict import VerdictCode, Violation
from tests.fakes.edges import FakeStorage
from tests.rigs.certificates import authority
from tests.rigs.some import some

NAME = "shop.pfx"
CA = authority()


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture(params=["tables", "tags"])
def outcomes(storage: FakeStorage, request: pytest.FixtureRequest) -> Outcomes:
    cloud = storage.cloud()
    return (
        TableOutcomes(cloud.state, cloud.uploads, cloud.now)
        if request.param == "tables"
        else TagOutcomes(cloud.uploads)
    )


async def upload(storage: FakeStorage, *hosts: str, password: str = "secret") -> Sent:
    content = CA.issue(*hosts, not_before=storage.clock() - timedelta(days=1)).pfx("secret")
    etag = await storage.cloud().uploads.write(NAME, content, {"CertificatePassword": password})
    return Sent(name=NAME, etag=etag, content_sha256=hashlib.sha256(content).hexdigest())


async def look(storage: FakeStorage, sent: Sent) -> None:
    await look_at(storage.cloud(), Notice(name=NAME, etag=sent.etag))


async def test_nothing_is_known_before_the_function_looked(storage: FakeStorage, outcomes: Outcomes) -> None:
    assert await outcomes.outcome(await upload(storage, "www.example.com")) is None


async def test_an_accepted_version_is_told_though_scrubbing_changed_its_etag(
    storage: FakeStorage, outcomes: Outcomes
) -> None:
    sent = await upload(storage, "www.example.com")
    await look(storage, sent)
    assert some(await storage.cloud().uploads.version(NAME)).etag != sent.etag
    assert some(await outcomes.outcome(sent)).status is UploadStatus.ACCEPTED


async def test_what_became_of_the_version_before_is_not_taken_for_this_one(
    storage: FakeStorage, outcomes: Outcomes
) -> None:
    before = await upload(storage, "www.example.com")
    await look(storage, before)
    sent = await upload(storage, "www.example.com")
    # The worst case: a late report on the old version writes its tags on the new one.
    await storage.cloud().uploads.set_tags(NAME, status_tags(some(await storage.cloud().state.uploads.get(NAME))))
    assert await outcomes.outcome(sent) is None
    await look(storage, sent)
    assert await outcomes.outcome(sent) is not None


async def test_a_rejection_comes_with_its_codes(storage: FakeStorage, outcomes: Outcomes) -> None:
    sent = await upload(storage, "www.example.com", password="wrong")
    await look(storage, sent)
    outcome = some(await outcomes.outcome(sent))
    assert outcome.status is UploadStatus.REJECTED
    assert [violation["code"] for violation in outcome.document["violations"]] == ["unreadable_bundle"]
    assert "password is wrong" in outcome.document["violations"][0]["detail"]


async def test_a_version_that_was_replaced_is_not_waited_for(storage: FakeStorage, outcomes: Outcomes) -> None:
    sent = await upload(storage, "www.example.com")
    later = await upload(storage, "www.example.com")
    with pytest.raises(CertcastError, match="uploaded or edited again"):
        await outcomes.outcome(sent)
    await look(storage, later)
    with pytest.raises(CertcastError, match="uploaded or edited again"):
        await outcomes.outcome(sent)


async def test_scrubbing_the_password_is_not_taken_for_a_replacement(storage: FakeStorage, outcomes: Outcomes) -> None:
    sent = await upload(storage, "www.example.com")

    async def look_on(step: str) -> None:
        if step == "blob set_tags":
            seen.append(await outcomes.outcome(sent))

    seen: list[object] = []
    await look_at(storage.cloud(look_on), Notice(name=NAME, etag=sent.etag))
    assert seen


async def test_a_version_that_was_deleted_is_not_waited_for(storage: FakeStorage, outcomes: Outcomes) -> None:
    sent = await upload(storage, "www.example.com")
    await storage.cloud().uploads.delete(NAME)
    with pytest.raises(CertcastError, match="deleted"):
        await outcomes.outcome(sent)


async def test_tags_serve_where_the_tables_may_not_be_read(storage: FakeStorage) -> None:
    async def refuse_tables(step: str) -> None:
        if step.startswith("uploads "):
            raise AccessDeniedError("reading a row: refused")

    sent = await upload(storage, "www.example.com")
    await look(storage, sent)
    outcomes = AnyOutcomes(
        Storage(uploads=storage.cloud().uploads, state=storage.state(refuse_tables), now=storage.clock)
    )
    assert some(await outcomes.outcome(sent)).document["hosts"] is None


async def test_an_account_without_tags_is_named_as_the_reason(storage: FakeStorage) -> None:
    storage.has_tags = False
    sent = await upload(storage, "www.example.com")
    with pytest.raises(CertcastError, match="has no blob tags"):
        await TagOutcomes(storage.cloud().uploads).outcome(sent)


def test_several_codes_in_a_tag_become_several_violations() -> None:
    violations = (
        Violation(code=VerdictCode.EXPIRED, detail="It ended on 2020-01-01: order a new one."),
        Violation(code=VerdictCode.HOST_NOT_COVERED, detail="It does not cover a.example: correct HostHeader."),
    )
    record = UploadRecord(name=NAME, revision=1, status=UploadStatus.REJECTED, violations=violations)
    document = outcome_of_tags(NAME, status_tags(record)).document
    assert [violation["code"] for violation in document["violations"]] == ["expired", "host_not_covered"]
    assert document["violations"][1]["detail"] == violations[1].detail


@pytest.mark.parametrize("changed", [{"certcast_status": "fine"}, {"certcast_live": "all"}, {"certcast_live": "1"}])
def test_tags_that_were_changed_are_said_to_be_so(changed: dict[str, str]) -> None:
    tags = {"certcast_status": "live", "certcast_live": "1/1", **changed}
    with pytest.raises(CertcastError, match="they were changed meanwhile"):
        outcome_of_tags(NAME, tags)
