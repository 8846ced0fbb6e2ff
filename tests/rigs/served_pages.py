"""A small server of the dashboard's pages, with the headers of its serving half, for what needs no cloud."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from shared.function.dashboard import pages
from shared.function.dashboard.access import SECURITY_HEADERS, is_same_origin
from shared.function.dashboard.exchange import Request
from tests.rigs.dashboard import BASE

Query = dict[str, str]


@dataclass(slots=True, kw_only=True)
class Served:
    """What is served now; a test may change it while somebody looks.

    Attributes:
        url: The fleet page's address.
        made: What makes a page of its query, by the page's path below the fleet's.
        as_of: As of when an unchanged page is told to be so, as `Last-Modified` has it.
        asked: The status of each answer about a page.
        forms: Of each form that was sent, its headers, and whether it counts as the dashboard's own.
    """

    url: str = ""
    made: dict[str, Callable[[Query], str]] = field(default_factory=dict)
    as_of: str = "Mon, 09 Mar 2026 12:00:06 GMT"
    asked: list[int] = field(default_factory=list)
    forms: list[tuple[Mapping[str, str], bool]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer for a page or a file."""
        path = request.path.removeprefix(BASE).strip("/")
        if path.startswith("assets/") and (asset := pages.asset(path.removeprefix("assets/"))) is not None:
            return web.Response(body=asset.content, headers={**SECURITY_HEADERS, "Content-Type": asset.content_type})
        make = self.made.get(path)
        if make is None:
            return web.Response(status=503)
        page = make(dict(request.query))
        tag = f'"{hashlib.sha256(page.encode()).hexdigest()}"'
        headers = {**SECURITY_HEADERS, "ETag": tag, "Last-Modified": self.as_of}
        known = request.headers.get("If-None-Match") == headers["ETag"]
        self.asked.append(304 if known else 200)
        if known:
            return web.Response(status=304, headers=headers)
        return web.Response(text=page, content_type="text/html", headers=headers)

    async def take(self, request: web.Request) -> web.Response:
        """Take a form, as the dashboard would, and do nothing about it."""
        sent = Request.of(request.method, str(request.url), rest="", query={}, headers=request.headers)
        self.forms.append((sent.headers, is_same_origin(sent)))
        return web.Response(text="taken", headers=SECURITY_HEADERS)


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    """Serve on a free port of this machine."""
    found = Served()
    app = web.Application()
    app.router.add_get("/{path:.*}", found.answer)
    app.router.add_post("/{path:.*}", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        found.url = f"http://127.0.0.1:{port}{BASE}"
        yield found
    finally:
        await runner.cleanup()
