"""The page the embedded listener answers requests with, and its HTTP connections; no certificate is chosen here."""

from __future__ import annotations

import asyncio
import html
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

_KEEP_ALIVE_S = 75.0
_FINISH_S = 5.0
_FAREWELL_S = 3.0
_FAREWELL_STEP_S = 0.01
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one connection got.

    Attributes:
        host: The host name that was asked for and is bound; empty for the fallback.
        fingerprint_sha256: Lower-case hex SHA-256 of the leaf's DER.
    """

    host: str
    fingerprint_sha256: str


def page(served: Served) -> str:
    """The HTML that names host and fingerprint; the host came from a client and is escaped."""
    title = html.escape(served.host) or "No certificate is bound for this name"
    return _PAGE.format(title=title, fingerprint=html.escape(served.fingerprint_sha256))


class PageServer:
    """Makes the HTTP/1.1 protocol of each connection and ends them all in order."""

    def __init__(self, served_on: Callable[[ssl.SSLObject], Served]) -> None:
        """Take the function that tells what a connection got; the server itself is made in the running loop."""
        self._served_on = served_on
        self._http: web.Server | None = None

    def __call__(self) -> asyncio.Protocol:
        """The protocol for a new connection."""
        if self._http is None:
            self._http = web.Server(self._answer, logger=_http_log, access_log=None, keepalive_timeout=_KEEP_ALIVE_S)
        return self._http()

    async def finish(self) -> None:
        """Let responses in hand be sent, then close every connection."""
        if self._http is None:
            return
        transports = [connection.transport for connection in self._http.connections]
        sockets = [transport.get_extra_info("socket") for transport in transports if transport is not None]
        self._http.pre_shutdown()
        await self._http.shutdown(_FINISH_S)
        self._http = None
        # aiohttp is done when it has said close, not when TLS has said goodbye and the sockets are closed.
        deadline = time.monotonic() + _FAREWELL_S
        while any(each.fileno() >= 0 for each in sockets if each is not None):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_FAREWELL_STEP_S)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, text="GET or HEAD, please\n", headers={**_HEADERS, "Allow": "GET, HEAD"})
        transport = request.transport
        connection = transport.get_extra_info("ssl_object") if transport is not None else None
        served = self._served_on(connection) if connection is not None else Served(host="", fingerprint_sha256="")
        return web.Response(text=page(served), content_type="text/html", charset="utf-8", headers=_HEADERS)


def _not_the_clients_fault(record: logging.LogRecord) -> bool:
    """Keep what clients send that is not HTTP out of the log: aiohttp writes a stack trace for each."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_http_log = logging.getLogger(f"{__name__}.http")
_http_log.addFilter(_not_the_clients_fault)
