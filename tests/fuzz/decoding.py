"""The target that decodes rows, messages, keys and answers: only their own errors come out, what is read is written."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from random import Random
from typing import Any

import atheris

from shared import messages
from shared.binding import BindingKey, BindingState, Claim, DesiredBinding
from shared.codec import Entity, from_entity, to_document, to_entity
from shared.errors import BrokenMessageError, BrokenRowError
from shared.messages import (
    MESSAGE_VERSION,
    BindingReport,
    BindingsChanged,
    EventType,
    InstallOutcome,
    InstallReport,
    OutgoingEvent,
    RecheckUpload,
)
from shared.state.history import HistoryEntry, HistoryKind
from shared.state.keys import decode_key, encode_key
from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord, UploadStatus
from shared.state.tables import State
from shared.validation.judged import Judged
from shared.validation.tasks import LENGTH_OCTETS, Answer, decode_answer, encode
from shared.verdict import VerdictCode, Violation

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_KEY = BindingKey(role="*", host="www.example.com", port=443)
_CLAIM = Claim(
    source="a.pfx",
    revision=1,
    source_etag="1",
    bundle_id="b",
    fingerprint_sha256="f",
    thumbprint_sha1="t",
    not_before=_AT,
    not_after=_AT,
    uploaded_at=_AT,
)
_REPORT = BindingReport(
    role="*",
    host="www.example.com",
    port=443,
    generation=1,
    source="a.pfx",
    outcome=InstallOutcome.LIVE,
    finished_at=_AT,
    stages_ms={"probe": 1.5},
)
_VIOLATION = Violation(code=VerdictCode.EXPIRED, detail="too late")
_ENTRY = HistoryEntry(
    id="1", at=_AT, kind=HistoryKind.LIVE, name="a.pfx", hosts=("a.test",), not_after=_AT, seconds=2.0
)
_ROWS: tuple[Any, ...] = (
    _ENTRY,
    UploadRecord(
        name="a.pfx",
        revision=1,
        status=UploadStatus.LIVE,
        violations=(_VIOLATION,),
        hosts=("www.example.com",),
        dns_names=("www.example.com",),
        claims=(_KEY,),
        expected=("one",),
        uploaded_at=_AT,
        warned_days=7,
        due=(OutgoingEvent(event_id="1", kind=EventType.LIVE, subject="a.pfx", at=_AT, document="{}"),),
        past=(_ENTRY,),
    ),
    DesiredBinding(
        role="*",
        host="www.example.com",
        port=443,
        state=BindingState.PRESENT,
        generation=1,
        changed_at=_AT,
        claims=(_CLAIM,),
    ),
    InstanceRecord(
        id="one",
        role="web",
        host="one",
        target_kind="nginx",
        target_version="1",
        agent_version="1",
        session="s",
        started_at=_AT,
        last_seen=_AT,
    ),
    InstallationRecord(
        host="www.example.com",
        port=443,
        instance="one",
        role="*",
        generation=1,
        source="a.pfx",
        outcome=InstallOutcome.LIVE,
        finished_at=_AT,
        reported_at=_AT,
        stages_ms={"probe": 1.5},
    ),
)
_MESSAGES: tuple[Any, ...] = (
    BindingsChanged(bindings=(_KEY,)),
    RecheckUpload(name="a.pfx"),
    InstallReport(instance="one", reports=(_REPORT,)),
    RecheckUpload(name="a.pfx", events=True),
)
_ANSWER = Answer(
    judged=Judged(violations=(_VIOLATION,), hosts=("www.example.com",), port=443, role="*", site=None, bundle=None)
)
_TEXTS = (
    *("", "*", "www.example.com", "\ud800", "\0", "é", "=2F", "a/b", "NaN", "9" * 5000, "x" * 9000),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00Z", "20260101", "live", "present"),
)
_NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, -(2**31), 2**62, 2**64, 10**400, 0.5, 1e308, -0.0, float("inf"), float("nan"))
_DEEPEST = 3


class Invention:
    """Values made of the fuzzer's octets."""

    def __init__(self, data: bytes) -> None:
        self._octets = atheris.FuzzedDataProvider(data)

    def one_of(self, *things: Any) -> Any:
        return things[self._octets.ConsumeIntInRange(0, len(things) - 1)]

    def text(self) -> str:
        if self.one_of(True, False):
            return str(self.one_of(*_TEXTS))
        made: str = self._octets.ConsumeUnicode(self._octets.ConsumeIntInRange(0, 40))
        return made

    def octets(self) -> bytes:
        made: bytes = self._octets.ConsumeBytes(self._octets.ConsumeIntInRange(0, 60))
        return made

    def rest(self) -> bytes:
        made: bytes = self._octets.ConsumeBytes(atheris.ALL_REMAINING)
        return made

    def plain(self, depth: int = 0) -> Any:
        """Something that JSON can hold."""
        match self._octets.ConsumeIntInRange(0, 7 if depth < _DEEPEST else 5):
            case 0:
                return self._octets.ConsumeInt(8)
            case 1:
                return self.one_of(*_NUMBERS)
            case 2:
                return self.one_of(None, True, False, self._octets.ConsumeFloat())
            case 6:
                return [self.plain(depth + 1) for _ in range(self._octets.ConsumeIntInRange(0, 3))]
            case 7:
                return {self.text(): self.plain(depth + 1) for _ in range(self._octets.ConsumeIntInRange(0, 3))}
            case _:
                return self.text()

    def edited(self, document: Any) -> Any:
        """A copy of a document with something else in one place."""
        if not isinstance(document, dict | list) or not document or self.one_of(False, False, False, True):
            return self.plain()
        if isinstance(document, list):
            place = self._octets.ConsumeIntInRange(0, len(document) - 1)
            return [*document[:place], self.edited(document[place]), *document[place + 1 :]]
        name = self.one_of(*document, self.text())
        if self.one_of(False, False, False, True):
            return {key: value for key, value in document.items() if key != name}
        return document | {name: self.edited(document.get(name))}

    def edits(self, document: Any) -> Any:
        for _ in range(self._octets.ConsumeIntInRange(0, 4)):
            document = self.edited(document)
        return document

    def entity(self, value: Any) -> dict[str, object]:
        """The columns of a row that differ from a sound one's."""
        made: dict[str, object] = dict(to_entity(value))
        names = [field.name for field in fields(value)]
        for _ in range(self._octets.ConsumeIntInRange(0, 4)):
            name = self.one_of(*names, self.text())
            made.pop(name, None)
            self._put(made, name, to_document(value).get(name))
        return made

    def _put(self, entity: dict[str, object], name: str, sound: Any) -> None:
        packed = zlib.compress(_json(self.edits(sound)))
        match self._octets.ConsumeIntInRange(0, 8):
            case 0:
                entity[f"{name}__z0"] = packed
            case 1:
                middle = self._octets.ConsumeIntInRange(0, len(packed))
                entity |= {
                    f"{name}__z{self.text()}": b"",
                    f"{name}__z0": packed[:middle],
                    f"{name}__z1": packed[middle:],
                }
            case 2:
                entity[f"{name}__z{self.text()}"] = self.one_of(self.octets(), zlib.compress(bytes(5_000_000)), packed)
            case 3:
                entity[name] = self.octets()
            case 4 | 5:
                entity[name] = _json(self.edits(sound)).decode("utf-8", "surrogatepass")
            case 6:
                entity[name] = _AT
            case _:
                entity[name] = self.plain()


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


_STATE = State(uploads=None, bindings=None, instances=None, installations=None, history=None)  # type: ignore[arg-type]  # none is read
_TABLES: dict[type, Any] = {
    UploadRecord: _STATE.uploads,
    DesiredBinding: _STATE.bindings,
    InstanceRecord: _STATE.instances,
    InstallationRecord: _STATE.installations,
    HistoryEntry: _STATE.history,
}


def _row(made: Invention) -> None:
    sample = made.one_of(*_ROWS)
    kind = type(sample)
    try:
        value = from_entity(kind, made.entity(sample))
    except BrokenRowError as error:
        str(error)
        return
    written: Entity = to_entity(value)
    assert from_entity(kind, written) == value
    table = _TABLES[kind]
    assert all(isinstance(part, str) for part in table._key(table._named(value)))


def _message(made: Invention) -> None:
    sample = made.one_of(*_MESSAGES)
    document = {"version": MESSAGE_VERSION, **to_document(sample)}
    body: Any = made.one_of(_json(made.edits(document)), _json(made.edits(document)).decode(), made.rest(), made.text())
    try:
        message = messages.decode(type(sample), body)
    except BrokenMessageError:
        return
    assert messages.decode(type(sample), messages.encode(message)) == message
    if isinstance(message, BindingsChanged):
        assert sum(len(part.bindings) for part in messages.split_changes(message)) == len(message.bindings)
    if isinstance(message, InstallReport):
        assert sum(len(part.reports) for part in messages.split_report(message)) == len(message.reports)


def _answer(made: Invention) -> None:
    body = made.one_of(_json(made.edits(to_document(_ANSWER))), made.rest())
    try:
        answer = decode_answer(body)
    except BrokenMessageError:
        return
    assert decode_answer(encode(answer)[LENGTH_OCTETS:]) == answer


def _key(made: Invention) -> None:
    key = made.text()
    try:
        name = decode_key(key)
    except ValueError:
        return
    assert encode_key(name) == key


_KINDS: tuple[Callable[[Invention], None], ...] = (_row, _row, _row, _message, _message, _answer, _key)


def seeds() -> Iterator[bytes]:
    random = Random(9)  # noqa: S311 - no secret
    for size in (1, 8, 64, 256):
        for _ in range(10):
            yield random.randbytes(size)


def mutate(_data: bytes, _random: Random) -> bytes | None:
    return None


def run(data: bytes) -> None:
    made = Invention(data)
    made.one_of(*_KINDS)(made)
