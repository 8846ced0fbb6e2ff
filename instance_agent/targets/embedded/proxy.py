"""The reverse proxy of the embedded listener: which connection a request takes, and what a failure is answered with.

Nothing is read faster than the other side takes it, and no body is held whole.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from yarl import URL

from instance_agent.targets.embedded.forwarding import Direct, Received, inquiry, response_headers
from instance_agent.targets.embedded.http import plain_answer
from instance_agent.targets.embedded.passage import Body, Passage, Relayed, break_off
from instance_agent.targets.embedded.tunnel import End, splice

if TYPE_CHECKING:
    from instance_agent.targets.embedded.forwarding import Inquiry
    from instance_agent.targets.embedded.served import Served

_POOLED_S = 4.0  # shorter than servers usually keep idle connections (5 s), so that none is used while it is closed
_CONTINUE_S = 3.0
_FIELD_BYTES = 32_768
_COMPLAIN_EACH_S = 10.0
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_SWITCHING = 101

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the proxy waits.

    Attributes:
        connect_s: For a connection to the upstream, its name and TLS included.
        idle_s: For the next byte of a request or an answer, from whichever side it is due.
        tunnel_idle_s: The same once a connection is a WebSocket.
    """

    connect_s: float = 10.0
    idle_s: float = 60.0
    tunnel_idle_s: float = 3600.0


_USUAL_PATIENCE = Patience()


class ReverseProxy:
    """Passes requests to one upstream."""

    def __init__(self, upstream: str, patience: Patience = _USUAL_PATIENCE) -> None:
        """Connect to nothing yet.

        Args:
            upstream: As `upstream_of` returned it.
            patience: How long to wait.
        """
        self._upstream = URL(upstream)
        self._patience = patience
        self._sessions: tuple[aiohttp.ClientSession, aiohttp.ClientSession] | None = None
        self._tunnels: set[asyncio.Task[None]] = set()
        self._complained_at = -_COMPLAIN_EACH_S
        self._kept_quiet = 0

    async def close(self) -> None:
        """Let go of the upstream's connections."""
        if self._sessions is not None:
            for session in self._sessions:
                await session.close()
        self._sessions = None

    def end_tunnels(self) -> None:
        """End what would otherwise never end: clients of WebSockets connect again, elsewhere."""
        for tunnel in self._tunnels:
            tunnel.cancel()

    async def __call__(self, request: web.BaseRequest, served: Served) -> web.StreamResponse:
        """Answer one request."""
        received = Received(
            method=request.method,
            target=request.raw_path,
            version=(request.version.major, request.version.minor),
            fields=request.raw_headers,
            peer=request.remote or "",
        )
        asked = inquiry(received, served)
        if isinstance(asked, Direct):
            response = plain_answer(asked.status, asked.headers)
            if asked.status is HTTPStatus.BAD_REQUEST:
                response.force_close()  # where the next request begins is not sure
            return response
        return await self._pass_on(request, asked)

    async def _pass_on(self, request: web.BaseRequest, asked: Inquiry) -> web.StreamResponse:
        passage = Passage(request, asked, self._patience.idle_s)
        try:
            async with asyncio.timeout(self._patience.idle_s) as limit:
                passage.limit = limit
                answered = await self._session(asked).request(
                    asked.method,
                    _url(self._upstream, asked.target),
                    headers=asked.headers,
                    data=Body(passage) if asked.has_body else None,
                    expect100=asked.expects_continue,
                    allow_redirects=False,
                )
                try:
                    if answered.status == _SWITCHING:
                        return await self._tunnel(passage, answered)
                    return await passage.relay(answered)
                finally:
                    answered.close()
        # ValueError: a field that cannot be sent on.
        except (OSError, ValueError, aiohttp.ClientError) as error:
            return self._give_up(passage, error)
        finally:
            passage.limit = None

    async def _tunnel(self, passage: Passage, answered: aiohttp.ClientResponse) -> web.StreamResponse:
        connection = answered.connection
        if not passage.asked.upgrades or connection is None or connection.protocol is None:
            raise aiohttp.ClientPayloadError("101 was not asked for")
        request = passage.request
        response = Relayed(
            status=answered.status,
            headers=response_headers(answered.raw_headers, switches=True),
        )
        response.force_close()
        passage.response = response
        await response.prepare(request)
        passage.idle_s = self._patience.tunnel_idle_s
        passage.progress()
        client = End(request.protocol)
        upstream = End(connection.protocol)
        tunnel = asyncio.create_task(splice(client, upstream, passage.progress))
        self._tunnels.add(tunnel)
        try:
            await asyncio.wait([tunnel])
        finally:
            self._tunnels.discard(tunnel)
            tunnel.cancel()
        return response

    def _give_up(self, passage: Passage, error: Exception) -> web.StreamResponse:
        """The answer that is left after a failure; a begun one is broken off, so that nobody takes it for whole."""
        if passage.response is not None:
            transport = passage.request.transport
            if transport is not None and not transport.is_closing():
                break_off(transport)
                if not passage.awaits_reader:
                    self._complain("broke off its answer", error)
            return passage.response
        timed_out = isinstance(error, TimeoutError)
        if passage.body_broken:
            status = HTTPStatus.BAD_REQUEST
        elif timed_out and passage.awaits_body:
            status = HTTPStatus.REQUEST_TIMEOUT
        else:
            status = HTTPStatus.GATEWAY_TIMEOUT if timed_out else HTTPStatus.BAD_GATEWAY
            self._complain("did not answer in time" if timed_out else "did not answer as HTTP demands", error)
        response = plain_answer(status)
        if passage.asked.has_body:
            response.force_close()
        return response

    def _session(self, asked: Inquiry) -> aiohttp.ClientSession:
        """Connections that are used again for what can be asked again; else a new one.

        A server may close an idle connection at the moment it is used, and only a request without a body and an effect
        can be sent once more after that (RFC 9112, section 9.3.1).
        """
        if self._sessions is None:
            self._sessions = (self._make_session(again=True), self._make_session(again=False))
        can_be_repeated = asked.method in {"GET", "HEAD", "OPTIONS"} and not asked.has_body and not asked.upgrades
        return self._sessions[0 if can_be_repeated else 1]

    def _make_session(self, *, again: bool) -> aiohttp.ClientSession:
        secure = ssl.create_default_context() if self._upstream.scheme == "https" else False
        pooling = {"keepalive_timeout": _POOLED_S} if again else {"force_close": True}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=secure, **pooling),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_AUTOMATIC,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._patience.connect_s),
            request_class=_Request,
            max_line_size=_FIELD_BYTES,
            max_field_size=_FIELD_BYTES,
        )

    def _complain(self, what: str, error: Exception) -> None:
        """Say it now and then; an exception's own text may quote a request."""
        if time.monotonic() - self._complained_at < _COMPLAIN_EACH_S:
            self._kept_quiet += 1
            return
        self._complained_at = time.monotonic()
        cause = getattr(error, "strerror", None) or type(error).__name__
        more = f" (and {self._kept_quiet} times before that)" if self._kept_quiet else ""
        self._kept_quiet = 0
        _log.warning("the upstream %s %s: %s%s", self._upstream.origin(), what, cause, more)


class _Request(aiohttp.ClientRequest):
    """A request that does not wait for 100 for ever: RFC 9110, section 10.1.1, advises against it."""

    def update_expect_continue(self, expect: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        super().update_expect_continue(expect)
        if self._continue is not None:
            self.loop.call_later(_CONTINUE_S, _set_unless_done, self._continue)


def _set_unless_done(waited_for: asyncio.Future[bool]) -> None:
    if not waited_for.done():
        waited_for.set_result(True)


def _url(upstream: URL, target: str) -> URL:
    """The upstream's URL for a target, no character of which is changed."""
    path, _, query = target.partition("?")
    return URL.build(
        scheme=upstream.scheme,
        host=upstream.host or "",
        port=upstream.port,
        path=path,
        query_string=query,
        encoded=True,
    )
