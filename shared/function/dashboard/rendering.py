"""Templates of the pages: in HTML, whatever comes from outside is escaped, printable, and isolated in its direction."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from shared.function.dashboard import cures, views
from shared.phrasing import printable

_TEMPLATES = Path(__file__).parent / "templates"
_BREAKS = re.compile(r"(?<=/)(?=.)|(?<=[.])(?!\w{1,4}$)(?=.)", re.DOTALL)
_BAR = 40
"""Width of the bar that shows on how many instances something is live."""


class _Exact(str):
    """Text that has to reach the browser letter by letter, such as what was typed into a field."""

    __slots__ = ()


def render(template: str, **values: object) -> str:
    """Fill a template in.

    Args:
        template: Its name, without the suffix.
        values: What it shows.
    """
    return _environment().get_template(f"{template}.html").render(page=template, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "exact": _Exact,
        "words": views.words,
        "tone": views.tone_of,
        "took": views.took,
        "pieces": cures.pieces,
        "clock": _clock,
        "moment": _moment,
        "breakable": _breakable,
    }
    environment.globals |= {
        "bar": _bar,
        "by_code": views.by_code,
        "cure_of": cures.cure_of,
        "state_of": views.state_of,
    }
    return environment


def _printable(value: object) -> object:
    """Whatever a template puts out: text without control and direction characters, unless it has to be exact."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup | _Exact) else value


def _breakable(name: str) -> Markup:
    """A name that a line may end in: after its slashes, and its dots but for the one of a file's suffix."""
    return Markup("<wbr>").join(printable(part) for part in _BREAKS.split(name))


def _bar(live: int, expected: int) -> float:
    return round(_BAR * min(1.0, live / expected), 1) if expected > 0 else 0


def _clock(instant: str | None) -> str:
    """The time of an instant of a document, to the second."""
    return "" if instant is None else instant[11:19]


def _moment(instant: str | None) -> str:
    """Day and time of an instant of a document, to the second."""
    return "" if instant is None else f"{instant[:10]} {instant[11:19]}"
