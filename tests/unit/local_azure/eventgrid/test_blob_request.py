from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_azure.eventgrid.blob_request import (
    BlobChange,
    Operation,
    batch_changes,
    batch_successes,
    blob_change,
    is_batch,
)

ACCOUNT = "/devstoreaccount1"
LOCAL = "127.0.0.1:10000"


def change(method: str, target: str, headers: dict[str, str] | None = None, host: str = LOCAL) -> BlobChange | None:
    return blob_change(method, target, host, headers or {})


@pytest.mark.parametrize(
    ("method", "query", "headers", "operation"),
    [
        ("PUT", "", {"x-ms-blob-type": "BlockBlob"}, Operation.PUT_BLOB),
        ("PUT", "?timeout=30", {"x-ms-blob-type": "AppendBlob"}, Operation.PUT_BLOB),
        ("PUT", "?sv=2024&sp=rw&sig=a%2Bb", {"x-ms-blob-type": "BlockBlob"}, Operation.PUT_BLOB),
        ("PUT", "", {"x-ms-blob-type": "BlockBlob", "x-ms-copy-source": "http://x/y"}, Operation.PUT_BLOB),
        ("PUT", "?comp=blocklist", {}, Operation.PUT_BLOCK_LIST),
        ("PUT", "?COMP=blocklist", {}, Operation.PUT_BLOCK_LIST),
        ("PUT", "", {"x-ms-copy-source": "http://x/y"}, Operation.COPY_BLOB),
        ("DELETE", "", {}, Operation.DELETE_BLOB),
        ("DELETE", "", {"x-ms-delete-snapshots": "include"}, Operation.DELETE_BLOB),
    ],
)
def test_what_creates_replaces_or_deletes_a_blob_is_recognised(
    method: str, query: str, headers: dict[str, str], operation: Operation
) -> None:
    assert change(method, f"{ACCOUNT}/certificates/a.pfx{query}", headers) == BlobChange(
        operation=operation, container="certificates", blob="a.pfx"
    )


@pytest.mark.parametrize(
    ("method", "query", "headers"),
    [
        ("GET", "", {}),
        ("HEAD", "", {}),
        ("PUT", "", {}),
        ("PUT", "?comp=block&blockid=QQ%3D%3D", {"x-ms-blob-type": "BlockBlob"}),
        ("PUT", "?comp=appendblock", {}),
        ("PUT", "?comp=page", {}),
        ("PUT", "?comp=metadata", {}),
        ("PUT", "?comp=tags", {}),
        ("PUT", "?comp=lease", {}),
        ("PUT", "?comp=snapshot", {}),
        ("PUT", "?comp=properties", {}),
        ("PUT", "?comp=tier", {}),
        ("PUT", "?comp=copy&copyid=1", {"x-ms-copy-action": "abort"}),
        ("PUT", "?comp=block&blockid=QQ%3D%3D", {"x-ms-copy-source": "http://x/y"}),
        ("DELETE", "?snapshot=2024-01-01T00%3A00%3A00.0000000Z", {}),
        ("DELETE", "?versionid=1", {}),
        ("DELETE", "", {"x-ms-delete-snapshots": "Only"}),
        ("POST", "?comp=query", {}),
    ],
)
def test_everything_else_about_a_blob_makes_no_event(method: str, query: str, headers: dict[str, str]) -> None:
    assert change(method, f"{ACCOUNT}/certificates/a.pfx{query}", headers) is None


@pytest.mark.parametrize(
    "target",
    [
        "/",
        ACCOUNT,
        f"{ACCOUNT}/",
        f"{ACCOUNT}/certificates",
        f"{ACCOUNT}/certificates/",
        f"{ACCOUNT}/c?restype=container",
    ],
)
def test_deleting_a_container_or_nothing_makes_no_event(target: str) -> None:
    assert change("DELETE", target) is None


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("localhost:10000", f"{ACCOUNT}/c/b/1"),
        ("[::1]:10000", f"{ACCOUNT}/c/b/1"),
        ("127.0.0.1", f"{ACCOUNT}/c/b/1"),
        ("azurite:10000", f"{ACCOUNT}/c/b/1"),
        ("devstoreaccount1.blob.localhost:10000", "/c/b/1"),
        ("devstoreaccount1.blob.core.windows.net", "/c/b/1"),
    ],
)
def test_the_account_is_in_the_path_or_in_the_host_name(host: str, target: str) -> None:
    assert change("DELETE", target, host=host) == BlobChange(operation=Operation.DELETE_BLOB, container="c", blob="b/1")


@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\"), min_size=1, max_size=60))
def test_any_blob_name_comes_back_decoded_however_it_was_quoted(name: str) -> None:
    for safe in ("", "/~"):
        found = change("DELETE", f"{ACCOUNT}/certificates/{quote(name, safe=safe)}")
        assert found is not None
        assert found.blob == name
        assert found.subject == f"/blobServices/default/containers/certificates/blobs/{name}"


def test_a_backslash_in_a_name_is_a_slash_to_the_storage_service() -> None:
    found = change("DELETE", f"{ACCOUNT}/c/a%5Cb.pfx")
    assert found is not None
    assert found.blob == "a/b.pfx"


REQUEST = b"""--batch_1
Content-Type: application/http
Content-Transfer-Encoding: binary
Content-ID: 0

DELETE /devstoreaccount1/certificates/a%20b/%C3%BC%25.pfx? HTTP/1.1
x-ms-date: Sun, 22 Nov 2026 19:23:59 GMT
Authorization: SharedKey devstoreaccount1:c2ln
Content-Length: 0

--batch_1
Content-Type: application/http
Content-Transfer-Encoding: binary
Content-ID: 1

DELETE /devstoreaccount1/certificates/c HTTP/1.1
x-ms-delete-snapshots: only

--batch_1
Content-Type: application/http
Content-Transfer-Encoding: binary
Content-ID: 2

PUT /devstoreaccount1/certificates/d?comp=tier HTTP/1.1
x-ms-access-tier: Cool

--batch_1--
""".replace(b"\n", b"\r\n")

ANSWER = b"""--batchresponse_2
Content-Type: application/http
Content-ID: 0

HTTP/1.1 202 Accepted
x-ms-request-id: 778fdc83-801e-0000-62ff-0334671e284f
x-ms-version: 2018-11-09

--batchresponse_2
Content-Type: application/http
Content-ID: 1

HTTP/1.1 404 The specified blob does not exist.
x-ms-request-id: 778fdc83-801e-0000-62ff-0334671e2852
Content-Length: 6
Content-Type: application/xml

<Error
--batchresponse_2--
""".replace(b"\n", b"\r\n")


def test_a_batch_tells_which_blobs_it_deletes() -> None:
    assert batch_changes("multipart/mixed; boundary=batch_1", REQUEST, LOCAL) == {
        "0": BlobChange(operation=Operation.DELETE_BLOB, container="certificates", blob="a b/ü%.pfx")
    }


def test_a_batch_answer_tells_which_parts_succeeded() -> None:
    assert batch_successes("multipart/mixed; boundary=batchresponse_2", ANSWER) == {
        "0": "778fdc83-801e-0000-62ff-0334671e284f"
    }


@given(body=st.binary(max_size=300), content_type=st.text(max_size=40))
def test_a_damaged_batch_is_a_batch_of_nothing(body: bytes, content_type: str) -> None:
    assert batch_changes("multipart/mixed; boundary=b", body, LOCAL) == {}
    assert batch_successes(content_type, body) == {}


def test_a_batch_is_known_by_its_query() -> None:
    assert is_batch("POST", f"{ACCOUNT}/?comp=batch")
    assert is_batch("POST", f"{ACCOUNT}/certificates?restype=container&comp=batch&timeout=5")
    assert not is_batch("GET", f"{ACCOUNT}/?comp=batch")
    assert not is_batch("POST", f"{ACCOUNT}/?comp=query")
