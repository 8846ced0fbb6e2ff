"""What to do about each verdict, warning and status: `docs/verdicts.md` as data, as pages of docs are not deployed.

A test compares both; `python -m tests.cures` makes the data.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATH = Path("shared/function/dashboard/cures.json")
"""Within the repository."""

_CODE = re.compile("`([^`]+)`")


def cure_of(code: str) -> Mapping[str, Any]:
    """What a code means, and what to do: lists of blocks, each `text` or `code`; both empty for an unknown one."""
    found: Mapping[str, Any] = _cures()["codes"].get(code, {"means": [], "do": []})
    return found


def advice_on(status: str) -> Mapping[str, str]:
    """What a status means, and what to do: a text each; both empty where there is nothing to do."""
    found: Mapping[str, str] = _cures()["statuses"].get(status, {"means": "", "do": ""})
    return found


def pieces(text: str) -> Sequence[tuple[bool, str]]:
    """A text in pieces; of each, whether it stood between backticks, and so is code."""
    return [(bool(number % 2), piece) for number, piece in enumerate(_CODE.split(text)) if piece]


@cache
def _cures() -> Mapping[str, Any]:
    read: Mapping[str, Any] = json.loads(Path(__file__).with_name(PATH.name).read_text("utf-8"))
    return read
