"""The queue messages: their form, their versions, and that none is too large for a queue."""

import json
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.binding import BindingKey
from shared.errors import BrokenMessageError
from shared.messages import (
    MESSAGE_VERSION,
    BindingReport,
    BindingsChanged,
    InstallOutcome,
    InstallReport,
    RecheckUpload,
    decode,
    encode,
    new_traceparent,
    split_changes,
    split_report,
)
from tests.fakes.storage import START
from tests.unit.shared.test_codec import INSTANTS, TEXT

FITS_A_QUEUE = 48 * 1024
"""Bytes of text that are 64 KiB as base64."""

# Properties of a queue message, over which the host lays a body's names (azure-functions-python-worker #1373).
RESERVED_NAMES = frozenset(
    {"id", "dequeuecount", "expirationtime", "insertiontime", "nextvisibletime", "popreceipt", "queuetrigger"}
)

KINDS = (BindingsChanged, RecheckUpload, InstallReport)

st.register_type_strategy(datetime, INSTANTS)
st.register_type_strategy(str, TEXT)


def long_hosts(count: int) -> list[str]:
    """Host names of 253 characters."""
    label = "x" * 61
    return [f"{number:05}{'y' * 56}.{label}.{label}.{'z' * 57}.example"[:253] for number in range(count)]


def report(host: str, *, reason: str = "") -> BindingReport:
    return BindingReport(
        role="*",
        host=host,
        port=65_535,
        generation=2**31 - 1,
        source=f"{'a' * 1000}.pfx",
        outcome=InstallOutcome.PROBE_MISMATCH,
        reason=reason,
        fingerprint_sha256="f" * 64,
        finished_at=START,
        stages_ms={"fetch": 12345.6, "apply": 12345.6, "probe": 12345.6},
    )


@given(st.one_of(*(st.from_type(kind) for kind in KINDS)))
@settings(deadline=None)
def test_every_message_is_read_back(message: BindingsChanged | RecheckUpload | InstallReport) -> None:
    kind: Any = type(message)
    text = encode(message)
    assert decode(kind, text) == message
    assert decode(kind, text.encode()) == message


@pytest.mark.parametrize("kind", KINDS)
def test_no_name_at_the_top_is_one_that_the_host_gives_a_meaning(kind: type) -> None:
    assert not {each.name.lower() for each in fields(kind)} & RESERVED_NAMES
    assert "version" not in {each.name for each in fields(kind)}


@pytest.mark.parametrize("kind", KINDS)
def test_no_message_has_a_place_for_a_secret(kind: type) -> None:
    def names(of: type) -> set[str]:
        found = {each.name for each in fields(of)}
        for hint in get_type_hints(of).values():
            for inner in (hint, *getattr(hint, "__args__", ())):
                if isinstance(inner, type) and is_dataclass(inner):
                    found |= names(inner)
        return found

    assert not {name for name in names(kind) if any(word in name for word in ("password", "key", "pem", "url"))}


def test_a_message_says_its_version_and_is_small() -> None:
    text = encode(BindingsChanged(bindings=(BindingKey(role="*", host="a.example.com", port=443),)))
    assert json.loads(text) == {
        "version": MESSAGE_VERSION,
        "bindings": [{"role": "*", "host": "a.example.com", "port": 443}],
        "traceparent": "",
    }
    assert " " not in text


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "[]",
        "null",
        "5",
        "{}",
        '{"version": 2, "name": "a.pfx"}',
        '{"version": "1", "name": "a.pfx"}',
        '{"version": 1}',
        '{"version": 1, "name": 5}',
        '{"version": 1, "name": "a.pfx", "attempt": "1"}',
        b"\xff\xfe",
        b"\xff{",
        "[" * 100_000,
    ],
)
def test_a_body_of_another_form_is_refused(body: str | bytes) -> None:
    with pytest.raises(BrokenMessageError, match="RecheckUpload"):
        decode(RecheckUpload, body)


def test_a_refusal_does_not_quote_the_body() -> None:
    for body in ('{"version": 1, "name": ["hunter2"]}', "hunter2"):
        with pytest.raises(BrokenMessageError) as caught:
            decode(RecheckUpload, body)
        assert "hunter2" not in str(caught.value)


def test_where_it_is_no_entry_that_is_unreadable_none_is_said_to_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    body = json.dumps({"version": 1, "bindings": [{"role": "*", "host": "a.test", "port": 443}], "traceparent": 5})
    with pytest.raises(BrokenMessageError):
        decode(BindingsChanged, body)
    assert "left out" not in caplog.text


def test_what_a_newer_version_adds_is_passed_over() -> None:
    assert decode(RecheckUpload, '{"version": 1, "name": "a.pfx", "colour": "red"}') == RecheckUpload(name="a.pfx")


class TestSplitting:
    def test_the_largest_upload_makes_messages_that_fit_a_queue_and_name_every_row_once(self) -> None:
        keys = tuple(BindingKey(role="r" * 64, host=host, port=65_535) for host in long_hosts(250))
        parts = list(split_changes(BindingsChanged(bindings=keys, traceparent=new_traceparent())))
        assert len(parts) > 1
        assert max(len(encode(part).encode()) for part in parts) < FITS_A_QUEUE
        assert tuple(key for part in parts for key in part.bindings) == keys
        assert {part.traceparent for part in parts} == {parts[0].traceparent}

    def test_an_ordinary_upload_makes_one_message(self) -> None:
        keys = tuple(BindingKey(role="*", host=f"shop{number}.example.com", port=443) for number in range(250))
        assert len(list(split_changes(BindingsChanged(bindings=keys)))) == 1

    def test_a_report_on_everything_fits_and_tells_each_binding_once(self) -> None:
        reports = tuple(report(host, reason="r" * 1000) for host in long_hosts(1000))
        parts = list(split_report(InstallReport(instance="i" * 200, reports=reports, traceparent=new_traceparent())))
        assert max(len(encode(part).encode()) for part in parts) < FITS_A_QUEUE
        assert tuple(each for part in parts for each in part.reports) == reports
        assert {(part.instance, part.traceparent) for part in parts} == {(parts[0].instance, parts[0].traceparent)}

    @given(st.lists(st.text("aé☃", min_size=1, max_size=253), max_size=400))
    @settings(deadline=None, max_examples=25)
    def test_in_any_case_nothing_is_lost_and_nothing_too_large(self, hosts: list[str]) -> None:
        keys = tuple(BindingKey(role="*", host=host, port=443) for host in hosts)
        parts = list(split_changes(BindingsChanged(bindings=keys)))
        assert tuple(key for part in parts for key in part.bindings) == keys
        assert all(len(encode(part).encode()) < FITS_A_QUEUE for part in parts)


def test_each_trace_is_new_and_of_the_form_that_w3c_gives_it() -> None:
    traces = {new_traceparent() for _ in range(100)}
    assert len(traces) == 100
    for trace in traces:
        version, trace_id, parent, flags = trace.split("-")
        assert (version, len(trace_id), len(parent), flags) == ("00", 32, 16, "01")
        assert int(trace_id, 16)
        assert int(parent, 16)
