"""The dashboard's pages and assets: HTML by Jinja2, in which all that comes from outside is escaped and printable."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from shared.function.dashboard.views import hosts_of, reason_of, row_of, state_of
from shared.phrasing import day, printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.function.dashboard.links import Links
    from shared.function.dashboard.told import CertificateView, HistoryView
    from shared.function.dashboard.views import View

_HERE = Path(__file__).parent
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_AS_OF = re.compile(r'<time id="as-of"[^>]*>[^<]*</time>')


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A style sheet, script or picture.

    Attributes:
        content_type: For its header.
        content: Its octets.
        etag: Changes when it does; in quotation marks, as the header has it.
    """

    content_type: str
    content: bytes
    etag: str


class _Exact(str):
    """Text that has to reach the browser letter by letter, such as what was typed into a field."""

    __slots__ = ()


def fleet(view: View, asked: object, links: Links) -> str:
    """The page of all uploads and instances.

    Args:
        view: The installation.
        asked: What is asked for.
        links: The reader's addresses.
    """
    rows = [row_of(upload, view.as_of) for upload in view.uploads]
    return _page("fleet", links, view.as_of, view=view, rows=rows, asked=asked)


def certificate(view: CertificateView, links: Links) -> str:
    """The page of one upload."""
    return _page("certificate", links, view.as_of, view=view, upload=view.upload, row=row_of(view.upload, view.as_of))


def history(view: HistoryView, links: Links) -> str:
    """The page of what became of uploads."""
    return _page("history", links, view.as_of, view=view)


def problem(status: int, sentence: str, links: Links) -> str:
    """The page that says why there is no other.

    Args:
        status: The answer's HTTP status.
        sentence: What is wrong, and what to do.
        links: The reader's addresses.
    """
    return _page("problem", links, None, status=status, sentence=sentence)


def tag_of(page: str) -> str:
    """A page's ETag: the same as long as it says the same, at whatever moment it was made."""
    return _etag(_AS_OF.sub("", page).encode("utf-8", "surrogatepass"))


@cache
def asset(name: str) -> Asset | None:
    """A file of the pages, by its name; None where there is none of that name."""
    path = _assets().get(name)
    if path is None:
        return None
    content = path.read_bytes()
    return Asset(content_type=_TYPES[path.suffix[1:]], content=content, etag=_etag(content))


@cache
def _assets() -> Mapping[str, Path]:
    return {path.name: path for path in (_HERE / "assets").iterdir()}


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _page(template: str, links: Links, as_of: datetime | None, **values: object) -> str:
    return _environment().get_template(f"{template}.html").render(links=links, as_of=as_of, page=template, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {"exact": _Exact, "instant": day}
    environment.globals |= {"hosts_of": hosts_of, "reason_of": reason_of, "state_of": state_of}
    return environment


def _printable(value: object) -> object:
    """Whatever a template puts out: text without control and direction characters, unless it has to be exact."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup | _Exact) else value
