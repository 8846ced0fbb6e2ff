"""What is read from an event in either of Event Grid's schemas, and what is not taken for one."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BrokenMessageError
from shared.function.grid_event import GridEvent, decode_event

AT = datetime(2026, 3, 4, 5, 6, 7, 458925, tzinfo=UTC)
KIND = "Microsoft.Storage.BlobCreated"
EVENT_GRID = {"eventType": KIND, "subject": "s", "data": {"eTag": "0x8DC"}, "eventTime": "2026-03-04T05:06:07.4589254Z"}
CLOUD = {
    "specversion": "1.0",
    "type": KIND,
    "subject": "s",
    "data": {"eTag": "0x8DC"},
    "time": "2026-03-04T05:06:07.4589254Z",
}


NO_TIMES: tuple[object, ...] = ("", "yesterday", "2026-13-01T00:00:00Z", None, 5, [], {})
OTHER_VERSIONS: tuple[object, ...] = ("2.0", "0.3", 1.0, None, {}, "\n" * 9_999)


def read(event: Any, **changed: Any) -> GridEvent:
    return decode_event(json.dumps({**event, **changed}))


def without(event: dict[str, Any], name: str) -> str:
    return json.dumps({key: value for key, value in event.items() if key != name})


@pytest.mark.parametrize("event", [EVENT_GRID, CLOUD])
def test_either_schema_says_the_same(event: dict[str, Any]) -> None:
    assert read(event) == GridEvent(kind=KIND, subject="s", data={"eTag": "0x8DC"}, at=AT)


@pytest.mark.parametrize("event", [EVENT_GRID, CLOUD])
def test_attributes_that_are_not_used_change_nothing(event: dict[str, Any]) -> None:
    more = {"self": 1, "cls": 2, "traceparent": "00-x", "dataschema": "#", "data_base64": "!", "id": None, "source": []}
    assert read(event, **more) == read(event)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-03-04T05:06:07Z", AT.replace(microsecond=0)),
        ("2026-03-04T05:06:07.4Z", AT.replace(microsecond=400_000)),
        ("2026-03-04T05:06:07", AT.replace(microsecond=0)),
        ("2026-03-04T07:06:07+02:00", datetime(2026, 3, 4, 7, 6, 7, tzinfo=timezone(timedelta(hours=2)))),
        *((text, None) for text in NO_TIMES),
    ],
)
@pytest.mark.parametrize(("event", "name"), [(EVENT_GRID, "eventTime"), (CLOUD, "time")])
def test_a_time_is_read_in_any_zone_and_one_that_makes_no_sense_is_unknown(
    event: dict[str, Any], name: str, text: object, at: datetime | None
) -> None:
    assert read(event, **{name: text}).at == at
    assert decode_event(without(event, name)).at is None


@pytest.mark.parametrize("data", [None, [], "text", 5, "[1]", "{"])
@pytest.mark.parametrize("event", [EVENT_GRID, CLOUD])
def test_data_that_is_no_object_says_nothing(event: dict[str, Any], data: object) -> None:
    assert read(event, data=data).data == {}
    assert decode_event(without(event, "data")).data == {}


def test_data_may_be_json_as_text_or_in_base64() -> None:
    data = json.dumps({"eTag": "0x8DC"})
    assert read(CLOUD, data=data) == read(CLOUD)
    encoded = base64.b64encode(data.encode()).decode()
    assert decode_event(without({**CLOUD, "data_base64": encoded}, "data")) == read(CLOUD)


@pytest.mark.parametrize("encoded", ["", "!!", "AAAA", base64.b64encode(b"\xff{").decode(), None, 5, "ü"])
def test_base64_of_something_else_says_nothing(encoded: object) -> None:
    assert decode_event(without({**CLOUD, "data_base64": encoded}, "data")).data == {}


@pytest.mark.parametrize("event", [EVENT_GRID, CLOUD])
def test_without_a_subject_it_is_about_nothing(event: dict[str, Any]) -> None:
    assert decode_event(without(event, "subject")).subject == ""
    assert read(event, subject=None).subject == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5_000, "not JSON"),
        ("null", "not a JSON object"),
        ('"specversion"', "not a JSON object"),
        ('["specversion"]', "not a JSON object"),
        ("{}", "has no eventType"),
        (json.dumps({**EVENT_GRID, "eventType": 5}), "has no eventType"),
        (json.dumps({**EVENT_GRID, "subject": ["s"]}), "subject is not a text"),
        (json.dumps({**EVENT_GRID, "specversion": "1.0"}), "has no type"),
        (without(CLOUD, "type"), "has no type"),
        (without(CLOUD, "specversion"), "has no eventType"),
        (json.dumps({**CLOUD, "type": None}), "has no type"),
        (json.dumps({**CLOUD, "subject": 7}), "subject is not a text"),
        *((json.dumps({**CLOUD, "specversion": version}), "is of version") for version in OTHER_VERSIONS),
    ],
)
def test_what_makes_no_event_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(BrokenMessageError, match=reason) as refused:
        decode_event(text)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
NAMES = ("specversion", "type", "eventType", "subject", "time", "eventTime", "data", "data_base64")


@given(st.dictionaries(st.sampled_from(NAMES), JSON | st.just("1.0")) | JSON)
def test_whatever_is_sent_is_read_or_refused(document: object) -> None:
    try:
        event = decode_event(json.dumps(document))
    except BrokenMessageError:
        return
    assert isinstance(event.data, dict)
    assert event.at is None or event.at.utcoffset() is not None
