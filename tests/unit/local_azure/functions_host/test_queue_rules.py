import json
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.functions.meta import Datum
from azure.storage.queue import QueueMessage

from local_azure.functions_host.index import converter
from local_azure.functions_host.queues import Backoff, body_datum, trigger_metadata

INSERTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def message(content: str = "") -> QueueMessage:
    made = QueueMessage(content=content)
    made.id, made.pop_receipt, made.dequeue_count = "theirs", "receipt", 3
    made.inserted_on = INSERTED
    made.expires_on = made.next_visible_on = None
    return made


def decoded(body: bytes) -> Any:
    return converter("queueTrigger").decode(body_datum(body), trigger_metadata=trigger_metadata(message(), body))


def test_a_function_sees_what_the_queue_tells_of_its_message() -> None:
    seen = decoded(b"text")
    assert seen.get_body() == b"text"
    assert (seen.id, seen.pop_receipt, seen.dequeue_count) == ("theirs", "receipt", 3)
    assert seen.insertion_time == INSERTED


def test_a_body_that_is_no_text_arrives_as_bytes() -> None:
    assert decoded(b"\xff\x00").get_body() == b"\xff\x00"


@pytest.mark.parametrize("key", ["id", "Id", "ID"])
def test_a_top_level_key_of_the_body_hides_what_the_queue_tells(key: str) -> None:
    assert decoded(json.dumps({key: "mine", "nested": {"popReceipt": "x"}}).encode()).id == "mine"


def test_a_hidden_count_that_is_no_number_cannot_be_decoded() -> None:
    with pytest.raises(ValueError, match="DequeueCount"):
        decoded(b'{"dequeueCount": "many"}')


@pytest.mark.parametrize("body", [b"[1]", b"1", b'"text"', b"{", b""])
def test_a_body_that_is_no_json_object_hides_nothing(body: bytes) -> None:
    assert decoded(body).id == "theirs"
    assert trigger_metadata(message(), body)["DequeueCount"] == Datum(3, "int")


def test_an_empty_queue_is_looked_at_ever_less_often_up_to_the_longest_wait() -> None:
    backoff = Backoff(5.0)
    waits = [backoff.next_s() for _ in range(40)]
    for number, wait_s in enumerate(waits[:5]):
        assert 0.1 + 0.8 * 0.1 * 2**number <= wait_s <= 0.1 + 1.2 * 0.1 * 2**number
    assert waits[-1] == 5.0
    backoff.found_something()
    assert backoff.next_s() < 0.25


def test_the_longest_wait_holds_from_the_first_look() -> None:
    assert Backoff(0.1).next_s() == 0.1
