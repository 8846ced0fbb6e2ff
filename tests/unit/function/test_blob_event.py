"""What is read from an Event Grid event about a blob."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.function.blob_event import Notice, read_event
from shared.upload import is_certificate_name
from tests.fakes.storage import START
from tests.rigs.some import some

CREATED = "Microsoft.Storage.BlobCreated"
DELETED = "Microsoft.Storage.BlobDeleted"
BLOBS = "/blobServices/default/containers/certificates/blobs/"
SUBJECT = f"{BLOBS}shop/a b%23.pfx"


def read(
    kind: str = CREATED, subject: str = SUBJECT, data: dict[str, object] | None = None, at: datetime | None = START
) -> Notice | None:
    return read_event(kind, subject, data or {}, at, container="certificates")


def test_a_creation_is_read_with_the_version_it_is_about() -> None:
    notice = read(data={"eTag": '"0x8DC"', "url": "https://elsewhere/"})
    assert notice == Notice(name="shop/a b%23.pfx", etag="0x8DC", at=START)


@pytest.mark.parametrize("etag", ['"0x8DC"', "0x8DC"])
def test_an_etag_is_the_same_quoted_or_not(etag: str) -> None:
    assert some(read(data={"eTag": etag})).etag == "0x8DC"


@pytest.mark.parametrize("data", [{}, {"eTag": None}, {"eTag": ""}])
def test_a_deletion_has_no_version(data: dict[str, object]) -> None:
    assert read(DELETED, data=data, at=None) == Notice(name="shop/a b%23.pfx", deletion=True)


@pytest.mark.parametrize(
    "kind", ["Microsoft.Storage.BlobTierChanged", "Microsoft.Storage.BlobRenamed", "", "BlobCreated"]
)
def test_other_events_are_passed_over(kind: str) -> None:
    assert read(kind) is None


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "/blobServices/default/containers/certificates",
        BLOBS,
        "/blobServices/default/containers/bundles/blobs/a.pfx",
        "/blobServices/default/containers/certificates2/blobs/a.pfx",
        "/fileServices/default/containers/certificates/blobs/a.pfx",
        "containers/certificates/blobs/a.pfx",
        "x/blobServices/default/containers/certificates/blobs/a.pfx",
    ],
)
def test_a_subject_of_another_form_or_container_is_passed_over(subject: str) -> None:
    assert read(subject=subject) is None


@pytest.mark.parametrize("name", ["readme.txt", "shop.pfx.bak", ".pfx", "shop/.pfx", "keyvault://v/a.pfx"])
def test_what_is_not_named_like_an_upload_is_passed_over(name: str) -> None:
    assert read(subject=f"{BLOBS}{name}") is None


@given(st.text(min_size=1, max_size=200))
def test_a_name_is_taken_as_it_stands(stem: str) -> None:
    name = f"{stem}.pfx"
    notice = read(subject=f"{BLOBS}{name}")
    assert (notice.name if notice else None) == (name if is_certificate_name(name) else None)


def test_a_name_may_hold_what_separates_containers_from_blobs() -> None:
    assert some(read(subject=f"{BLOBS}a/blobs/b.pfx")).name == "a/blobs/b.pfx"
