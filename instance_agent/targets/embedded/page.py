"""The page the embedded listener answers requests with where it has no upstream; no certificate is chosen here."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from instance_agent.targets.embedded.served import Served

_HEADERS = {
    "Server": "certcast",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<h1>{title}</h1>
<p>Served by certcast with the certificate whose SHA-256 fingerprint is<br><code>{fingerprint}</code></p>
</html>
"""


def page(served: Served) -> str:
    """The HTML that names host and fingerprint; the host came from a client and is escaped."""
    title = html.escape(served.host) or "No certificate is bound for this name"
    return _PAGE.format(title=title, fingerprint=html.escape(served.fingerprint_sha256))


async def answer_with_page(request: web.BaseRequest, served: Served) -> web.StreamResponse:
    """Answer any path with the page."""
    if request.method not in {"GET", "HEAD"}:
        return web.Response(status=405, text="GET or HEAD, please\n", headers={**_HEADERS, "Allow": "GET, HEAD"})
    return web.Response(text=page(served), content_type="text/html", charset="utf-8", headers=_HEADERS)
