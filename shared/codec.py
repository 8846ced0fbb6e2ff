"""Values to plain documents and back: rows, messages and JSON output."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum, StrEnum
from functools import cache
from typing import Any, NoReturn, Self, TypeVar, get_origin, get_type_hints

from cattrs import Converter

from shared.errors import BrokenMessageError, BrokenRowError, CertcastError

T = TypeVar("T")

Scalar = str | int | float | bool | bytes
Entity = dict[str, Scalar]

INLINE_CHARS = 8_000
"""Longest JSON text kept readable in one column; longer ones are compressed."""
COLUMN_BYTES = 60_000
"""Below the 64 KiB a table column may hold (learn.microsoft.com, "Understanding the Table service data model")."""
MAX_UNPACKED_BYTES = 4 * 1024 * 1024
"""What the compressed columns of one row may unpack to: a row holds 1 MiB at most, which could unpack to a gigabyte."""
_PIECE_DIGITS = 3
"""Of the number of a compressed column; Python refuses to read a number of thousands."""

_INT32 = range(-(2**31), 2**31)
"""Whole numbers that certcast writes to a table (Edm.Int32)."""

_A_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}\Z")


class Word(StrEnum):
    """Words that later versions add to: one of theirs is kept as it was read, and written back so.

    Rows and messages of two versions meet while an installation is upgraded. Where what is done depends on a word, one
    that is not known must be safe to pass over or to take for a failure; a word that decides what is bound
    (`BindingState`) is none of these, and its row counts as unreadable.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str) or not _A_WORD.match(value):
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word

    @property
    def is_known(self) -> bool:
        """Whether this version has the word."""
        return any(self is member for member in type(self))


def instant_text(value: datetime) -> str:
    """Write an instant as ISO 8601 in UTC with microseconds, so that text order is time order."""
    # Not strftime: years before 1000, which a certificate may name, would come out short.
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _decode_instant(text: object, _type: object) -> datetime:
    if not isinstance(text, str):
        raise TypeError("an instant must be ISO 8601 text")
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError("an instant must carry its offset from UTC")
    return value.astimezone(UTC)


def _converter() -> Converter:
    converter = Converter(unstruct_collection_overrides={tuple: list})
    converter.register_unstructure_hook(datetime, instant_text)
    converter.register_structure_hook(datetime, _decode_instant)
    # cattrs turns anything into text by calling str(); a number where a name belongs is a broken document to us.
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _exactly)
    converter.register_structure_hook(float, _number)
    return converter


def _exactly(value: object, expected: type) -> object:
    if issubclass(expected, Enum):  # a hook for str is also asked about the enumerations that derive from it
        return expected(value)
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise TypeError(f"expected {expected.__name__}, found {type(value).__name__}")
    if isinstance(value, str) and not value.isascii():
        value.encode()  # half of a surrogate pair, which JSON can spell, would fail wherever it is written next
    if expected is int and value not in _INT32:
        raise ValueError("a whole number is beyond 32 bits")
    return value


def _number(value: object, _type: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, found {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("a number is not finite")
    return number


_CONVERTER = _converter()


def to_plain(value: object) -> Any:  # noqa: ANN401 - JSON of any form
    """Turn any value of ours into JSON types."""
    return _CONVERTER.unstructure(value)


def from_plain(value: object, kind: Any) -> Any:  # noqa: ANN401 - a type, which mypy has no type for, and its value
    """Read back what `to_plain` wrote in another process of ours."""
    return _CONVERTER.structure(value, kind)


def to_document(value: object) -> dict[str, Any]:
    """Turn a value into a document of JSON types; columns that are None are left out."""
    document: dict[str, Any] = _CONVERTER.unstructure(value)
    return {name: item.value if isinstance(item, Enum) else item for name, item in document.items() if item is not None}


def parse_json(text: str | bytes) -> object:
    """Parse JSON from outside.

    Raises:
        ValueError: It is none, is nested too deeply, or has a number that is none (Python's own reading accepts NaN).
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def from_document(kind: type[T], document: object, *, broken: type[CertcastError] = BrokenMessageError) -> T:
    """Read back what `to_document` wrote; unknown columns are ignored, so that newer writers can add some.

    Args:
        kind: What it is to become.
        document: Parsed JSON, untrusted.
        broken: The error to raise.

    Raises:
        CertcastError: Of the class `broken`: a column is missing or of another type.
    """
    if not isinstance(document, Mapping):
        raise broken(f"a {kind.__name__} must be a JSON object")
    try:
        return _CONVERTER.structure(document, kind)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's document makes the library raise
        # The cause's text quotes the document; its class says enough.
        raise broken(f"not a {kind.__name__} this version understands ({type(error).__name__})") from None


def to_entity(value: object) -> Entity:
    """Turn a value into table columns: scalars as they are, collections as JSON, compressed when they are long.

    Long text is compressed too: nothing bounds a certificate's subject but the size of the file.
    """
    entity: Entity = {}
    for name, item in to_document(value).items():
        if isinstance(item, int | float) or (isinstance(item, str) and len(item) <= INLINE_CHARS):
            entity[name] = item
            continue
        text = json.dumps(item, separators=(",", ":"), ensure_ascii=False)
        if len(text) <= INLINE_CHARS:
            entity[name] = text
            continue
        packed = zlib.compress(text.encode())
        for number, start in enumerate(range(0, len(packed), COLUMN_BYTES)):
            entity[f"{name}__z{number}"] = packed[start : start + COLUMN_BYTES]
    return entity


def from_entity(kind: type[T], entity: Mapping[str, object]) -> T:
    """Read back what `to_entity` wrote.

    Raises:
        BrokenRowError: The row was not written by certcast or by a version this one does not understand.
    """
    collections = _collection_columns(kind)  # type: ignore[arg-type]  # typeshed: type[T] is not seen as hashable
    document: dict[str, object] = {}
    packed: dict[str, dict[int, bytes]] = {}
    for column, item in entity.items():
        name, mark, number = column.partition("__z")
        if mark and isinstance(item, bytes) and number.isdecimal() and len(number) <= _PIECE_DIGITS:
            packed.setdefault(name, {})[int(number)] = item
        elif isinstance(item, str) and column in collections:
            document[column] = _parsed(item, column, kind)
        else:
            document[column] = item
    room = MAX_UNPACKED_BYTES
    for name in sorted({field.name for field in fields(kind)} & packed.keys()):  # type: ignore[arg-type]  # a dataclass
        text = _unpacked([packed[name][n] for n in sorted(packed[name])], room, name, kind)
        room -= len(text)
        document[name] = _parsed(text, name, kind)
    return from_document(kind, document, broken=BrokenRowError)


def _unpacked(pieces: list[bytes], room: int, column: str, kind: type) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(b"".join(pieces), room + 1)
    except zlib.error:
        raise BrokenRowError(f"column {column} of a {kind.__name__} row is damaged") from None
    if len(text) > room:
        raise BrokenRowError(f"the columns of a {kind.__name__} row unpack to more than {MAX_UNPACKED_BYTES} bytes")
    if not unpacker.eof:
        raise BrokenRowError(f"column {column} of a {kind.__name__} row is damaged")
    return text


def _parsed(text: str | bytes, column: str, kind: type) -> object:
    try:
        return parse_json(text)
    except ValueError:
        raise BrokenRowError(f"column {column} of a {kind.__name__} row is damaged") from None


@cache
def _collection_columns(kind: type[Any]) -> frozenset[str]:
    """Name the columns that hold JSON; a text column may well begin with a bracket."""
    return frozenset(name for name, hint in get_type_hints(kind).items() if get_origin(hint) in (tuple, Mapping, dict))
