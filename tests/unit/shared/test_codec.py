"""Values to documents and table columns, and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.binding import BindingKey, DesiredBinding
from shared.codec import INLINE_CHARS, from_document, from_entity, instant_text, to_document, to_entity
from shared.errors import BrokenMessageError, BrokenRowError
from shared.messages import InstallReport
from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord, UploadStatus
from tests.fakes.storage import require_row

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INSTANTS = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    max_value=datetime(9998, 12, 31),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
st.register_type_strategy(datetime, INSTANTS)
st.register_type_strategy(str, TEXT)
st.register_type_strategy(int, st.integers(-(2**31), 2**31 - 1))
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))

ROWS = st.one_of(*(st.from_type(kind) for kind in (UploadRecord, DesiredBinding, InstanceRecord, InstallationRecord)))


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pet:
    name: str
    age: int = 0
    weight: float = 0.0
    asleep: bool = False
    colour: Colour = Colour.RED
    born: datetime | None = None
    toys: tuple[str, ...] = ()
    habits: Mapping[str, float] = field(default_factory=dict)


@given(ROWS)
@settings(max_examples=200, deadline=None)
def test_every_kind_of_row_is_read_back_from_its_columns(row: Any) -> None:
    columns = to_entity(row)
    require_row("partition", "row", columns)
    assert from_entity(type(row), columns) == row


@given(st.from_type(InstallReport))
@settings(max_examples=50, deadline=None)
def test_a_document_is_read_back(report: InstallReport) -> None:
    assert from_document(InstallReport, to_document(report)) == report


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_columns_however_long_fit_what_the_table_service_takes(piece: str, times: int) -> None:
    long = (piece or "x") * times * 2000
    record = UploadRecord(
        name="a.pfx",
        revision=1,
        status=UploadStatus.ACCEPTED,
        subject=long[:500_000],
        dns_names=(long[:300_000],) * 2,
    )
    columns = to_entity(record)
    for name, column in columns.items():
        assert not isinstance(column, str) or len(column) <= 32_000, name
        assert not isinstance(column, bytes) or len(column) <= 64_000, name
    read = from_entity(UploadRecord, columns)
    assert (read.subject, read.dns_names) == (record.subject, record.dns_names)


def test_a_long_column_is_taken_apart_and_put_together_in_order() -> None:
    toys = tuple(f"{number * 7919 % 1_000_003}-{number}" for number in range(60_000))
    columns = to_entity(Pet(name="Rex", toys=toys))
    pieces = sorted(name for name in columns if name.startswith("toys"))
    assert len(pieces) > 1
    assert "toys" not in columns
    backwards = dict(reversed(columns.items()))
    assert from_entity(Pet, backwards).toys == toys


def test_a_short_column_stays_readable() -> None:
    assert to_entity(Pet(name="Rex", toys=("ball", "größe"))) | {"name": "Rex"} == {
        "name": "Rex",
        "age": 0,
        "weight": 0.0,
        "asleep": False,
        "colour": "red",
        "toys": '["ball","größe"]',
        "habits": "{}",
    }


@pytest.mark.parametrize("name", ["[1]", "{}", "null", "[", '"', "true", "x" * (INLINE_CHARS + 1), "[" * 9000])
def test_text_that_looks_like_something_else_stays_text(name: str) -> None:
    assert from_entity(Pet, to_entity(Pet(name=name))).name == name


def test_a_column_that_is_none_is_left_out_and_read_as_none() -> None:
    assert "born" not in to_entity(Pet(name="Rex"))
    assert from_entity(Pet, {"name": "Rex"}) == Pet(name="Rex")


def test_columns_of_a_newer_version_are_passed_over() -> None:
    assert from_entity(Pet, {"name": "Rex", "diet": "meat", "more__z0": b"packed otherwise", "less": 3}).name == "Rex"


def test_a_piece_with_an_endless_number_is_one_of_a_column_that_is_not_known() -> None:
    assert from_entity(Pet, {"name": "Rex", f"toys__z{'9' * 5000}": b""}) == Pet(name="Rex")


@given(INSTANTS, INSTANTS)
def test_instants_as_text_sort_as_they_follow_in_time(one: datetime, other: datetime) -> None:
    assert (instant_text(one) < instant_text(other)) == (one < other)
    assert datetime.fromisoformat(instant_text(one)) == one


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"name": 5},
        {"name": None},
        {"name": "Rex", "age": "5"},
        {"name": "Rex", "age": True},
        {"name": "Rex", "age": 1.5},
        {"name": "Rex", "weight": "1"},
        {"name": "Rex", "weight": True},
        {"name": "Rex", "asleep": 1},
        {"name": "Rex", "colour": "blue"},
        {"name": "Rex", "born": "2026-03-01T12:00:00"},
        {"name": "Rex", "born": "yesterday"},
        {"name": "Rex", "born": 5},
        {"name": "Rex", "toys": [5]},
        {"name": "Rex", "toys": 5},
        {"name": "Rex", "habits": ["a"]},
        {"name": "Rex", "habits": {"a": "b"}},
        [],
        "Rex",
        None,
    ],
)
def test_a_document_of_another_form_is_refused(document: Any) -> None:
    with pytest.raises(BrokenMessageError, match="Pet"):
        from_document(Pet, document)


@pytest.mark.parametrize(
    "columns",
    [
        {"name": "Rex", "toys": "[1"},
        {"name": "Rex", "toys": "5"},
        {"name": "Rex", "toys__z0": b"not compressed"},
        {"name": b"Rex"},
        {"toys": "[]"},
    ],
)
def test_a_damaged_row_is_refused(columns: dict[str, object]) -> None:
    with pytest.raises(BrokenRowError, match="Pet"):
        from_entity(Pet, columns)


def test_a_refusal_does_not_quote_what_it_refuses() -> None:
    with pytest.raises(BrokenMessageError) as caught:
        from_document(Pet, {"name": "Rex", "born": "hunter2", "toys": ["hunter2", 5]})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_whole_number_will_do_for_a_fraction() -> None:
    assert from_document(Pet, {"name": "Rex", "weight": 3}) == Pet(name="Rex", weight=3.0)


def test_every_column_of_a_row_has_a_name_that_cannot_be_taken_for_a_piece_of_another() -> None:
    for kind in (UploadRecord, DesiredBinding, InstanceRecord, InstallationRecord):
        assert not [each.name for each in fields(kind) if "__z" in each.name]


def test_a_binding_key_reads_as_itself() -> None:
    key = BindingKey(role="*", host="a.example.com", port=443)
    assert from_document(BindingKey, to_document(key)) == key
    assert replace(key, port=444) > key
