"""The dashboard's pages and the files that belong to them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from shared.function.dashboard import filters, views
from shared.function.dashboard.cures import advice_on
from shared.function.dashboard.headline import headline, totals
from shared.function.dashboard.rendering import render
from shared.state.overview import chosen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.function.board import View
    from shared.function.dashboard.links import Links
    from shared.function.dashboard.told import CertificateView, HistoryView
    from shared.state.overview import Asked

UPLOADS_SHOWN = 100
"""On one page, unless asked otherwise."""
MOST_UPLOADS_SHOWN = 500
INSTANCES_SHOWN = 100
"""Unless all are asked for."""
REPORTS_SHOWN = 300
"""On the page of an upload, those that need somebody first."""

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


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


def fleet(view: View, asked: Asked, links: Links) -> str:
    """The page of all uploads and instances.

    Args:
        view: The installation.
        asked: Which uploads, and how.
        links: The reader's addresses, with this page's query.
    """
    asked = replace(asked, limit=min(asked.limit or UPLOADS_SHOWN, MOST_UPLOADS_SHOWN))
    found = chosen(view.uploads, asked, now=view.as_of, instances=view.instances)
    instances = views.by_need(view.instances)
    return render(
        "fleet",
        links=links,
        as_of=view.as_of,
        view=view,
        headline=headline(view.summary, complete=view.complete),
        totals=totals(view.summary),
        asked=asked,
        status=(status := ",".join(sorted(asked.statuses))),
        statuses=filters.statuses(status),
        expiring=(expiring := links.query.get("expiring", "")),
        ending=filters.ending(expiring),
        rows=[views.row_of(upload, view.as_of) for upload in found.shown],
        total=found.total,
        instances=instances if links.query.get("instances") == "all" else instances[:INSTANCES_SHOWN],
    )


def certificate(view: CertificateView, links: Links) -> str:
    """The page of one upload."""
    upload = view.upload
    return render(
        "certificate",
        links=links,
        as_of=view.as_of,
        view=view,
        upload=upload,
        row=views.row_of(upload, view.as_of),
        hosts=views.hosts_of(upload),
        advice=advice_on(upload["status"]),
        can_redeploy=links.can_act and views.can_redeploy(upload),
        known={instance["id"]: instance for instance in view.instances},
        reports=views.worst_first(view.installations)[:REPORTS_SHOWN],
    )


def history(view: HistoryView, links: Links) -> str:
    """The page of what became of uploads."""
    since, kinds = filters.since(view.since), filters.kinds(view.kind)
    return render("history", links=links, as_of=view.as_of, view=view, since=since, kinds=kinds)


def problem(status: int, sentence: str, links: Links) -> str:
    """The page that says why there is no other.

    Args:
        status: The answer's HTTP status.
        sentence: What is wrong, and what to do.
        links: The reader's addresses.
    """
    return render("problem", links=links, as_of=None, status=status, sentence=sentence)


def asset(name: str) -> Asset | None:
    """A file of the pages, by its name; None where there is none of that name."""
    return _assets().get(name)


@cache
def _assets() -> Mapping[str, Asset]:
    found = {}
    for path in (Path(__file__).parent / "assets").iterdir():
        content = path.read_bytes()
        found[path.name] = Asset(content_type=_TYPES[path.suffix], content=content, etag=_etag(content))
    return found


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
