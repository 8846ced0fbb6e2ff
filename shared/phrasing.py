"""How names and counts from outside are shown inside our sentences, and the logger that shows them so."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

SHOWN_CHARS = 120
"""Longer text from outside is cut: a certificate's subject may be a megabyte."""
LOGGED_CHARS = 1_000
"""Of one argument of a log line, which is often a whole sentence."""
LISTED_NAMES = 3

_CHAINED_ERRORS = 10


def shown(text: str, most: int = SHOWN_CHARS) -> str:
    """Text from outside, safe inside one line of a log or a page: without control or direction characters, and cut.

    Args:
        text: Anything.
        most: Characters to keep.
    """
    return f"{printable(text[:most])}..." if len(text) > most else printable(text)


def printable(text: str) -> str:
    """The same uncut: what `str.isprintable` does not take for printable is replaced, letter by letter.

    That is Unicode's categories "Other" and "Separator" but for the space: controls, line ends, directions, surrogates.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def logger(name: str) -> logging.Logger:
    """A module's `log`: whatever stands in for a placeholder goes through `shown`, so that no name forges a line."""
    found = logging.getLogger(name)
    found.addFilter(_show)
    return found


def _show(record: logging.LogRecord) -> bool:
    """Clean a record before any handler sees it. Its text is ours: a test refuses one that is put together."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            arg if isinstance(arg, int | float) else shown(str(arg), LOGGED_CHARS) for arg in record.args
        )
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = _traceback(record.exc_info[1])  # what formatters take in place of one of their own
    return True


def _traceback(error: BaseException) -> str:
    """An error, and those it came of, with their frames; the text of each, which may quote anything, in one line."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(parts) < _CHAINED_ERRORS:
        frames = "".join(traceback.format_tb(cause.__traceback__))
        parts.append(
            f"Traceback (most recent call last):\n{frames}{type(cause).__name__}: {shown(str(cause), LOGGED_CHARS)}"
        )
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\nwhich came of\n".join(parts)


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """The first few names, already fit to be shown, and how many more there are: "a, b, c and 4 more"."""
    first = separator.join(names[:LISTED_NAMES])
    more = len(names) - LISTED_NAMES
    return f"{first} and {more} more" if more > 0 else first


def day(instant: datetime) -> str:
    """An instant as ISO 8601 in UTC to the second, as certificates have it."""
    # Not strftime: years before 1000, which a certificate may name, would come out short.
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
