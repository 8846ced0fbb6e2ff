"""How names and counts from outside are shown inside our sentences."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

SHOWN_CHARS = 120
"""Longer text from outside is cut: a certificate's subject may be a megabyte."""
LISTED_NAMES = 3


def shown(text: str, chars: int = SHOWN_CHARS) -> str:
    """Text from outside, safe inside one line of a log or a page: cut, and without control or formatting characters."""
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:chars])
    return f"{clean}..." if len(text) > chars else clean


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """The first few names, already fit to be shown, and how many more there are: "a, b, c and 4 more"."""
    first = separator.join(names[:LISTED_NAMES])
    more = len(names) - LISTED_NAMES
    return f"{first} and {more} more" if more > 0 else first


def day(instant: datetime) -> str:
    """An instant as ISO 8601 in UTC to the second, as certificates have it."""
    # Not strftime: years before 1000, which a certificate may name, would come out short.
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
