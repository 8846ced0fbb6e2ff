"""What is read from an Event Grid event about a blob."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.function.blob_event import BlobEvent, BlobEventType, read_event
from tests.fakes.storage import START

CREATED = "Microsoft.Storage.BlobCreated"
DELETED = "Microsoft.Storage.BlobDeleted"
SUBJECT = "/blobServices/default/containers/certificates/blobs/shop/a b%23.pfx"


def test_a_creation_is_read_with_the_version_it_is_about() -> None:
    event = read_event(CREATED, SUBJECT, {"eTag": '"0x8DC"', "url": "https://elsewhere/"}, START)
    assert event == BlobEvent(
        kind=BlobEventType.CREATED, container="certificates", name="shop/a b%23.pfx", etag="0x8DC", at=START
    )


@pytest.mark.parametrize("etag", ['"0x8DC"', "0x8DC"])
def test_an_etag_is_the_same_quoted_or_not(etag: str) -> None:
    event = read_event(CREATED, SUBJECT, {"eTag": etag}, START)
    assert event is not None
    assert event.etag == "0x8DC"


@pytest.mark.parametrize("data", [{}, {"eTag": None}, {"eTag": ""}])
def test_a_deletion_has_no_version(data: dict[str, object]) -> None:
    event = read_event(DELETED, SUBJECT, data, None)
    assert event is not None
    assert (event.kind, event.etag, event.at) == (BlobEventType.DELETED, "", None)


@pytest.mark.parametrize(
    "kind", ["Microsoft.Storage.BlobTierChanged", "Microsoft.Storage.BlobRenamed", "", "BlobCreated"]
)
def test_other_events_are_passed_over(kind: str) -> None:
    assert read_event(kind, SUBJECT, {}, START) is None


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "/blobServices/default/containers/certificates",
        "/blobServices/default/containers/certificates/blobs/",
        "/fileServices/default/containers/certificates/blobs/a.pfx",
        "containers/certificates/blobs/a.pfx",
        "x/blobServices/default/containers/certificates/blobs/a.pfx",
    ],
)
def test_a_subject_of_another_form_is_passed_over(subject: str) -> None:
    assert read_event(CREATED, subject, {}, START) is None


@given(st.text(min_size=1))
def test_a_name_is_taken_as_it_stands(name: str) -> None:
    event = read_event(CREATED, f"/blobServices/default/containers/certificates/blobs/{name}", {}, START)
    assert event is not None
    assert (event.container, event.name) == ("certificates", name)


def test_a_name_may_hold_what_separates_containers_from_blobs() -> None:
    event = read_event(CREATED, "/blobServices/default/containers/certificates/blobs/a/blobs/b.pfx", {}, START)
    assert event is not None
    assert (event.container, event.name) == ("certificates", "a/blobs/b.pfx")
