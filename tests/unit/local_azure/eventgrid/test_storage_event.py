from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from local_azure.eventgrid.blob_request import BlobChange, Operation
from local_azure.eventgrid.storage_event import BlobFacts, Event, Sequencer, storage_event

NOW = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)


def event(operation: Operation, facts: BlobFacts, blob: str = "a.pfx", client_request_id: str | None = "mine") -> Event:
    return storage_event(
        BlobChange(operation=operation, container="certificates", blob=blob),
        facts,
        account_url="http://127.0.0.1:10000/devstoreaccount1",
        request_id="theirs",
        client_request_id=client_request_id,
        sequencer="0" * 32,
        now=NOW,
    )


def test_a_created_blob_is_made_with_all_that_azure_tells() -> None:
    facts = BlobFacts(etag="0x8D", content_type="application/x-pkcs12", content_length=3, blob_type="BlockBlob")
    made = event(Operation.PUT_BLOB, facts)
    assert set(made) == {
        *("topic", "subject", "eventType", "id", "data", "dataVersion", "metadataVersion", "eventTime"),
    }
    assert made["eventType"] == "Microsoft.Storage.BlobCreated"
    assert made["subject"] == "/blobServices/default/containers/certificates/blobs/a.pfx"
    assert made["topic"].endswith("/Microsoft.Storage/storageAccounts/devstoreaccount1")
    assert made["eventTime"] == "2026-03-04T05:06:07.0000890Z"
    data = made["data"]
    assert data.pop("storageDiagnostics").keys() == {"batchId"}
    assert data == {
        "api": "PutBlob",
        "clientRequestId": "mine",
        "requestId": "theirs",
        "eTag": "0x8D",
        "contentType": "application/x-pkcs12",
        "contentLength": 3,
        "blobType": "BlockBlob",
        "url": "http://127.0.0.1:10000/devstoreaccount1/certificates/a.pfx",
        "sequencer": "0" * 32,
    }


def test_a_deleted_blob_has_neither_etag_nor_length() -> None:
    made = event(Operation.DELETE_BLOB, BlobFacts(), client_request_id=None)
    assert made["eventType"] == "Microsoft.Storage.BlobDeleted"
    assert made["data"]["api"] == "DeleteBlob"
    assert made["data"].keys().isdisjoint({"eTag", "contentLength", "clientRequestId"})


def test_the_subject_holds_the_name_as_it_is_and_the_url_holds_it_quoted() -> None:
    made = event(Operation.COPY_BLOB, BlobFacts(), blob="shop/ü 100%#1.pfx")
    assert made["subject"].endswith("/blobs/shop/ü 100%#1.pfx")
    assert made["data"]["url"].endswith("/certificates/shop/%C3%BC%20100%25%231.pfx")


@given(clock=st.lists(st.integers(min_value=0, max_value=2**63), min_size=2, max_size=50))
def test_sequencers_grow_even_when_the_clock_stands_still_or_goes_back(clock: list[int]) -> None:
    ticks = iter(clock)
    sequencer = Sequencer(lambda: next(ticks))
    handed_out = [sequencer.next() for _ in clock]
    assert handed_out == sorted(set(handed_out))
    assert {len(one) for one in handed_out} == {32}


def test_a_later_run_hands_out_greater_sequencers_than_an_earlier_one() -> None:
    earlier = [Sequencer().next() for _ in range(100)]
    assert Sequencer().next() > max(earlier)
