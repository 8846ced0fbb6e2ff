"""An HTTP pass-through: sends a request on as it came and the answer back as it is.

Path, query, headers and bodies stay byte for byte what they were, because the signatures of Azure Storage cover them.
Only the headers that belong to one connection (RFC 9110, section 7.6.1) are each side's own, and the case of well-known
header names is the parser's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from multidict import CIMultiDictProxy

_HEADER_LIMIT = 65_536
_LARGEST_READ = 8 * 1024 * 1024
_SHUTDOWN_S = 1.0
_OF_ONE_CONNECTION = (
    hdrs.CONNECTION,
    hdrs.KEEP_ALIVE,
    hdrs.PROXY_AUTHENTICATE,
    hdrs.PROXY_AUTHORIZATION,
    hdrs.TE,
    hdrs.TRAILER,
    hdrs.TRANSFER_ENCODING,
    hdrs.UPGRADE,
    hdrs.EXPECT,  # answered by our own server, which asks for the body before we see it
)
_ADDED_BY_CLIENT = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT)
# Node closes an idle connection after 5 s; ours are given up well before, so that none is closed as it is used.
_IDLE_CONNECTION_S = 2.0


class _Answer(web.StreamResponse):
    """An answer of the server's, on its way back."""

    has_type = True


class Passthrough:
    """Sends requests on to one server.

    Attributes:
        upstream: Scheme, address and port of that server.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_CONNECTION_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
            skip_auto_headers=_ADDED_BY_CLIENT,
            max_line_size=_HEADER_LIMIT,
            max_field_size=_HEADER_LIMIT,
        )

    async def close(self) -> None:
        """Give up the connections to the server."""
        await self._session.close()

    def send(
        self, request: web.Request, body: AsyncIterator[bytes] | bytes | None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send a request on, with this body; the answer's own body is not read yet."""
        return self._session.request(
            request.method,
            URL(f"{self.upstream}{request.raw_path}", encoded=True),
            headers=_end_to_end(request.headers),
            data=body,
            allow_redirects=False,
        )

    async def answer(
        self, request: web.Request, answer: aiohttp.ClientResponse, body: bytes | None = None
    ) -> web.StreamResponse:
        """Send an answer back.

        Args:
            request: What is answered.
            answer: The server's answer.
            body: Its body, where it was read already.
        """
        response = _Answer(status=answer.status, reason=answer.reason)
        response.headers.extend(_end_to_end(answer.headers))
        response.has_type = hdrs.CONTENT_TYPE in answer.headers
        if answer.headers.get(hdrs.TRANSFER_ENCODING, "").lower() == "chunked":
            response.enable_chunked_encoding()
        with contextlib.suppress(ConnectionResetError):  # the client has gone; its request was carried out all the same
            await response.prepare(request)
            try:
                if body is not None:
                    await response.write(body)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            except aiohttp.ClientPayloadError:
                # Half an answer must not look like a whole one.
                if request.transport is not None:
                    request.transport.abort()
                return response
            await response.write_eof()
        return response


def runner_of(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.AppRunner:
    """A server that hands every request to this handler, as it came."""
    app = web.Application(client_max_size=_LARGEST_READ)
    app.router.add_route("*", r"/{rest:[\s\S]*}", handle)
    app.on_response_prepare.append(_restore_headers)
    return web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        max_line_size=_HEADER_LIMIT,
        max_field_size=_HEADER_LIMIT,
        shutdown_timeout=_SHUTDOWN_S,
    )


async def _restore_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Take back what our own server adds to an answer."""
    if isinstance(response, _Answer) and not response.has_type:
        response.headers.popall(hdrs.CONTENT_TYPE, None)


async def body_of(
    request: web.Request, before_last_chunk: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[bytes]:
    """A request's body as it arrives, with a call before the last piece of it is handed out."""
    held = b""
    async for chunk in request.content.iter_any():
        if held:
            yield held
        held = chunk
    if before_last_chunk is not None:
        await before_last_chunk()
    if held:
        yield held


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    named = [name.strip() for value in headers.getall(hdrs.CONNECTION, ()) for name in value.split(",")]
    for name in (*_OF_ONE_CONNECTION, *named):
        kept.popall(name, None)
    return kept
