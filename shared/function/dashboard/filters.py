"""The choices of the filters, with what was asked for among them, however it was worded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.function.dashboard.views import words
from shared.state.history import HistoryKind
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

Choices = list[tuple[str, str]]
"""Values, each with its words."""

_ENDING = [("", "any time"), ("0d", "ended"), *((f"{days}d", f"within {days} days") for days in (7, 14, 30, 60, 90))]
_SINCE = [("1h", "an hour"), ("1d", "a day"), ("7d", "7 days"), ("30d", "30 days"), ("90d", "90 days")]


def statuses(asked: str) -> Choices:
    """Statuses, or the several ones that were asked for."""
    return _with(asked, [("", "any"), *((status.value, words(status.value)) for status in UploadStatus)])


def ending(asked: str) -> Choices:
    """Within how long a certificate ends."""
    return _with(asked, _ENDING)


def since(asked: str) -> Choices:
    """How far back the history is asked for."""
    return _with(asked, _SINCE)


def kinds(asked: str) -> Choices:
    """What became of an upload."""
    return _with(asked, [("", "anything"), *((kind.value, words(kind.value)) for kind in HistoryKind)])


def _with(asked: str, known: Sequence[tuple[str, str]]) -> Choices:
    return [*known, *([] if any(value == asked for value, _ in known) else [(asked, words(asked))])]
