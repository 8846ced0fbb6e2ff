"""Keys of the five tables: where each kind of row is placed, and how any name becomes a key."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.upload import scheme_of

if TYPE_CHECKING:
    from shared.binding import BindingKey

MAX_KEY_CHARS = 512
"""Of a table key: 1 KiB of UTF-16 (learn.microsoft.com, "Understanding the Table service data model")."""

_MAX_ID_CHARS = 400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US = 10**16 - 1
"""Microseconds from then to a day in 2286, which have 16 digits."""

_ESCAPED = re.compile("=([0-9A-F]{2})")


def upload_key(name: str) -> tuple[str, str]:
    """Place an upload's row: one partition per kind of source; a name too long for a key is placed by its hash."""
    return (_short_enough(encode_key(scheme_of(name))), _short_enough(encode_key(name)))


def _short_enough(key: str, most: int = MAX_KEY_CHARS) -> str:
    # Encoded, a blob's 1,024 characters can be nine times as many; the row itself holds the name.
    return key if len(key) <= most else f"=={hashlib.sha256(key.encode()).hexdigest()}"


def binding_key(key: BindingKey) -> tuple[str, str]:
    """Place a desired row: partition = role, row = `host:port`."""
    return (encode_key(key.role), encode_key(key.host_port))


def instance_key(instance: str) -> tuple[str, str]:
    """Place an instance's row."""
    return ("instance", encode_key(instance))


def installation_partition(host: str, port: int) -> str:
    """Name the partition that holds every instance's report on one host and port."""
    return encode_key(f"{host}:{port}")


def installation_key(key: tuple[str, int, str]) -> tuple[str, str]:
    """Place a report: partition = `host:port`, row = instance."""
    host, port, instance = key
    return (installation_partition(host, port), encode_key(instance))


def history_key(key: tuple[datetime, str]) -> tuple[str, str]:
    """Place an entry of the history by its moment and its id: partition = its day in UTC, row = newest first."""
    at, name = key
    return (
        at.astimezone(UTC).date().isoformat(),
        f"{history_row(at)}-{_short_enough(encode_key(name), _MAX_ID_CHARS)}",
    )


def history_row(at: datetime) -> str:
    """What the rows of entries of this moment begin with; those of later ones come before it."""
    return f"{max(0, _LAST_US - (at - _EPOCH) // timedelta(microseconds=1)):016d}"


def encode_key(name: str) -> str:
    r"""Write any text as a table key, reversibly: UTF-8 bytes other than letters, digits and `.-_*:` become `=XX`.

    Keys may not hold `/ \ # ?` or control characters (learn.microsoft.com, "Understanding the Table service data
    model").
    """
    return "".join(
        chr(byte) if (chr(byte).isalnum() and byte < 0x80) or chr(byte) in ".-_*:" else f"={byte:02X}"  # noqa: PLR2004 - ASCII
        for byte in name.encode()
    )


def decode_key(key: str) -> str:
    """Read back what `encode_key` wrote.

    Raises:
        ValueError: It is no such key.
    """
    name = _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), key).encode("latin-1").decode()
    if encode_key(name) != key:
        raise ValueError("it is no key that certcast writes")
    return name
