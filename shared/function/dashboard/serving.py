"""Answers requests to the dashboard: which page, whether it changed since it was shown, and what a form asks for."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from shared.codec import instant_text
from shared.errors import CertcastError
from shared.function.dashboard import pages
from shared.function.dashboard.access import SECURITY_HEADERS, is_same_origin
from shared.function.dashboard.exchange import Response
from shared.function.dashboard.links import Links
from shared.function.dashboard.reading import certificate_view, history_view
from shared.function.status_api import redeploy_certificate
from shared.phrasing import logger, shown
from shared.state.overview import Asked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.function.cloud import Cloud
    from shared.function.dashboard.access import Access, Refusal
    from shared.function.dashboard.exchange import Request
    from shared.function.dashboard.told import CertificateView

log = logger(__name__)

PAGE_S = 20.0
"""A page that takes longer is given up: somebody waits for it."""
ACTION_S = 90.0
"""What a form asks for; Azure's load balancer ends a request after 230 s."""
NOTICED_FOR = timedelta(minutes=10)
"""A page says so long what a form did that led to it."""
FRESH_S = 15
"""Pages say "12 s ago": one that is otherwise unchanged counts as the same for so long."""

REDEPLOYED = "redeployed"
_DONE = {
    REDEPLOYED: "It is installed once more: every instance was told, and shows below once it has proved it again.",
}
_ASKED = frozenset(
    {"host", "instance", "prefix", "status", "failed", "expiring", "sort", "limit", "offset", "instances", "name"}
) | {"since", "kind"}
"""What a page's own addresses keep of its query."""
_READS, _FORMS = ("GET", "HEAD"), ("POST",)
_ASSETS = "assets/"
_HTML = "text/html; charset=utf-8"


async def answer(cloud: Cloud, request: Request, access: Access) -> Response:
    """Answer one request: with a page, an asset, or a page that says why there is none.

    Args:
        cloud: What is read.
        request: The request; where a key is asked for, the Functions host has seen that it is right.
        access: How people are let in.
    """
    links = _links(request, access)
    refusal = access.refusal(request)
    response = _refused(refusal, links) if refusal else await _answered(cloud, request, access, links)
    return _guarded(request, response)


def unopened(request: Request, access: Access, reason: str) -> Response:
    """Answer a request where a setting is wrong, so that nothing can be read."""
    links = _links(request, access)
    refusal = access.refusal(request)
    response = _refused(refusal, links) if refusal else _problem(HTTPStatus.SERVICE_UNAVAILABLE, reason, links)
    return _guarded(request, response)


def _links(request: Request, access: Access) -> Links:
    query = {name: value for name, value in request.query.items() if name in _ASKED}
    return Links(base=request.base, code=access.key(request), query=query)


def _guarded(request: Request, response: Response) -> Response:
    headers = {**SECURITY_HEADERS, "Cache-Control": "no-store", **response.headers}
    return replace(response, headers=headers, body=b"" if request.method == "HEAD" else response.body)


async def _answered(cloud: Cloud, request: Request, access: Access, links: Links) -> Response:
    methods = _FORMS if request.path == "redeploy" else _READS
    if request.method not in methods:
        sentence = f"this page takes {' and '.join(methods)}, and not {shown(request.method)}"
        return _problem(HTTPStatus.METHOD_NOT_ALLOWED, sentence, links, {"Allow": ", ".join(methods)})
    within_s = ACTION_S if methods is _FORMS else PAGE_S
    try:
        async with asyncio.timeout(within_s):
            return await _page(cloud, request, access, links)
    except CertcastError as error:
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), links)
    except TimeoutError:
        sentence = f"the storage account did not answer within {within_s:g} s: load the page again"
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, sentence, links)
    except Exception:
        log.exception("dashboard: a page failed in a way that was not foreseen")
        sentence = "this page failed in a way that was not foreseen, which the Function's log tells"
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, sentence, links)


async def _page(cloud: Cloud, request: Request, access: Access, links: Links) -> Response:
    if request.path.startswith(_ASSETS):
        return _asset(request, links)
    match request.path:
        case "":
            return await _fleet(cloud, request, links)
        case "certificate":
            return await _certificate(cloud, request, links)
        case "history":
            return await _history(cloud, request, links)
        case "redeploy":
            return await _redeploy(cloud, request, access, links)
    return _problem(HTTPStatus.NOT_FOUND, "there is no such page", links)


async def _fleet(cloud: Cloud, request: Request, links: Links) -> Response:
    asked = Asked.of(request.query)
    if isinstance(asked, str):
        return _problem(HTTPStatus.BAD_REQUEST, asked, links)
    view = await cloud.board.view(cloud.state, cloud.now)
    tag = _tag(view.version, _moment(view.as_of), links.query)
    if tag == request.headers.get("if-none-match"):
        return _unchanged(tag, view.as_of)
    return _shown(pages.fleet(view, asked, links), tag, view.as_of)


async def _certificate(cloud: Cloud, request: Request, links: Links) -> Response:
    name = request.query.get("name", "")
    view = await certificate_view(cloud, name)
    if view is None:
        return _problem(HTTPStatus.NOT_FOUND, f"there is no upload named {shown(name)}", links)
    view = replace(view, notice=_notice(request.query.get("done", ""), view))
    seen = [{**each, "last_seen": None} for each in view.instances]
    told = (view.upload, view.installations, view.moments, view.past, view.notice, seen)
    tag = _tag(told, _moment(view.as_of), links.query)
    if tag == request.headers.get("if-none-match"):
        return _unchanged(tag, view.as_of)
    return _shown(pages.certificate(view, links), tag, view.as_of)


def _notice(done: str, view: CertificateView) -> str:
    """What a form did that led to this page; nothing where the tables do not tell of it: anybody can write a link."""
    since = instant_text(view.as_of - NOTICED_FOR)
    is_told = any(entry["kind"] == done and entry["at"] >= since for entry in view.past)
    return _DONE.get(done, "") if is_told else ""


async def _history(cloud: Cloud, request: Request, links: Links) -> Response:
    view = await history_view(cloud, request.query)
    if isinstance(view, str):
        return _problem(HTTPStatus.BAD_REQUEST, view, links)
    tag = _tag(view.entries, _moment(view.as_of), links.query)
    if tag == request.headers.get("if-none-match"):
        return _unchanged(tag, view.as_of)
    return _shown(pages.history(view, links), tag, view.as_of)


async def _redeploy(cloud: Cloud, request: Request, access: Access, links: Links) -> Response:
    if not is_same_origin(request):
        sentence = "nothing was done: this was not sent by the dashboard's own page, as the browser tells; try it there"
        return _problem(HTTPStatus.FORBIDDEN, sentence, links)
    name = request.form.get("name", "")
    if not name:
        return _problem(HTTPStatus.BAD_REQUEST, "the form names no upload", links)
    log.info("dashboard: %s is asked to be installed once more, by %s", shown(name), access.who(request) or "a key")
    done = await redeploy_certificate(cloud, name)
    if done.status != HTTPStatus.ACCEPTED:
        return _problem(done.status, str(done.document["error"]), links)
    return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": links.certificate(name, done=REDEPLOYED)})


def _asset(request: Request, links: Links) -> Response:
    found = pages.asset(request.path.removeprefix(_ASSETS))
    if found is None:
        return _problem(HTTPStatus.NOT_FOUND, "there is no such file", links)
    headers = {"ETag": found.etag, "Cache-Control": "private, no-cache"}
    if found.etag == request.headers.get("if-none-match"):
        return Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(status=HTTPStatus.OK, headers=headers | {"Content-Type": found.content_type}, body=found.content)


def _shown(page: str, tag: str, as_of: datetime) -> Response:
    headers = {"Content-Type": _HTML, "ETag": tag, "Last-Modified": format_datetime(as_of, usegmt=True)}
    return Response(status=HTTPStatus.OK, headers=headers, body=page.encode("utf-8", "replace"))


def _unchanged(tag: str, as_of: datetime) -> Response:
    headers = {"ETag": tag, "Last-Modified": format_datetime(as_of, usegmt=True)}
    return Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)


def _problem(status: int, sentence: str, links: Links, headers: Mapping[str, str] | None = None) -> Response:
    page = pages.problem(status, sentence, links)
    return Response(
        status=status, headers={"Content-Type": _HTML, **(headers or {})}, body=page.encode("utf-8", "replace")
    )


def _refused(refusal: Refusal, links: Links) -> Response:
    if refusal.leads_to:
        return Response(status=HTTPStatus.FOUND, headers={"Location": refusal.leads_to})
    return _problem(refusal.status, refusal.sentence, links)


def _moment(as_of: datetime) -> int:
    return int(as_of.timestamp() // FRESH_S)


def _tag(*told: object) -> str:
    """An ETag of what a page tells; another process may have another one for the same, and sends the page again."""
    return f'"{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]}"'
