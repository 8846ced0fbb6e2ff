"""Reading rows, messages and keys that somebody else wrote: a value comes of them, or the one error that says so.

`python -m tests.fuzz.decoding FOLDER [libFuzzer's options]`. An input's first byte says what it is read as.
"""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import atheris

with atheris.instrument_imports(include=["shared.codec", "shared.messages", "shared.state", "shared.binding"]):
    from shared.binding import BindingKey, BindingState, DesiredBinding
    from shared.codec import Scalar, from_entity, to_entity
    from shared.errors import BrokenMessageError, BrokenRowError
    from shared.messages import BindingsChanged, EventDue, InstallReport, RecheckUpload, decode, encode
    from shared.state.keys import decode_key, encode_key
    from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord, UploadStatus

from shared.messages import InstallOutcome
from tests.fuzz.running import fuzz
from tests.rigs.rows import claim, registered, report_on

ROWS = (UploadRecord, DesiredBinding, InstanceRecord, InstallationRecord)
_OCTET = 255
MESSAGES = (BindingsChanged, RecheckUpload, InstallReport, EventDue)


def row(kind: type[Any]) -> Callable[[bytes], None]:
    """Columns as JSON, in which bytes stand as a list of numbers."""

    def read(data: bytes) -> None:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = {"name": data.decode("latin-1"), "hosts__z0": data}
        if not isinstance(document, dict):
            return
        columns: dict[str, object] = {name: _column(value) for name, value in document.items()}
        try:
            value = from_entity(kind, columns)
        except BrokenRowError:
            return
        assert from_entity(kind, to_entity(value)) == value

    return read


def _column(value: object) -> object:
    if isinstance(value, list) and all(isinstance(each, int) and 0 <= each <= _OCTET for each in value):
        return bytes(value)
    return value


def message(kind: type[Any]) -> Callable[[bytes], None]:
    """A message's body."""

    def read(data: bytes) -> None:
        try:
            value = decode(kind, data)
        except BrokenMessageError:
            return
        assert decode(kind, encode(value)) == value

    return read


def key(data: bytes) -> None:
    """A table key."""
    text = data.decode("latin-1")
    try:
        name = decode_key(text)
    except ValueError:
        return
    assert encode_key(name) == text


READERS = (*map(row, ROWS), *map(message, MESSAGES), key)


def target(data: bytes) -> None:
    """Read one input."""
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def corpus() -> list[bytes]:
    """One of each."""
    now = datetime.now(UTC)
    binding = BindingKey(role="*", host="a.example.com", port=443)
    desired = DesiredBinding(
        role="*",
        host="a.example.com",
        port=443,
        state=BindingState.PRESENT,
        generation=1,
        changed_at=now,
        claims=(claim(),),
    )
    report = report_on(desired, at=now)
    upload = UploadRecord(name="a.pfx", revision=1, status=UploadStatus.LIVE, hosts=("a.example.com",) * 900)
    entry = InstallationRecord(
        host="a.example.com",
        port=443,
        instance="i",
        role="*",
        generation=1,
        source="a.pfx",
        outcome=InstallOutcome.LIVE,
        finished_at=now,
        reported_at=now,
        stages_ms={"apply": 1.5},
    )
    rows = [upload, desired, registered("i", at=now), entry]
    messages: list[Any] = [
        BindingsChanged(bindings=(binding,)),
        RecheckUpload(name="a.pfx"),
        InstallReport(instance="i", reports=(report,)),
        EventDue(name="a.pfx"),
    ]
    seeds = [json.dumps(to_entity(each), default=_numbers).encode() for each in rows]
    seeds += [encode(each).encode() for each in messages]
    return [bytes([number]) + data for number, data in enumerate([*seeds, encode_key("größe/*.pfx").encode()])]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change one value of a JSON object, so that it stays one; now and then any byte."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    try:
        document = json.loads(data[1:])
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not document or chance.random() < _ANY_BYTE:
        return bytes(atheris.Mutate(data, max_size))
    name = chance.choice(sorted(document))
    value = document[name]
    if isinstance(value, str) and chance.random() < 1 / 2:
        value = bytes(atheris.Mutate(value.encode("latin-1", "replace") or b"x", len(value) + 32)).decode("latin-1")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        inner = chance.choice(sorted(value[0]))
        value = [value[0] | {inner: chance.choice(_ODD)}, *value[1:]]
    else:
        value = chance.choice(_ODD)
    return (data[:1] + json.dumps(document | {name: value}).encode())[:max_size]


_ANY_BYTE = 0.2
_DEEP = json.loads("[" * 100 + "]" * 100)
_ODD: tuple[Any, ...] = (
    *(None, True, -1, 2**31, 2**62, 1.5, 1e999),
    *("", "\ud800", "9999-12-31T23:59:59-23:59", "[" * 5000),
    *([], {}, [1, 2], _DEEP),
)


def _numbers(value: Scalar) -> list[int]:
    assert isinstance(value, bytes)
    return list(value)


if __name__ == "__main__":
    fuzz(target, corpus, custom_mutator=mutate)
