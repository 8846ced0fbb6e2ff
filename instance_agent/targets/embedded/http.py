"""HTTP/1.1 on the embedded listener's connections: their bounds and their end; what is answered is not known here."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from instance_agent.targets.embedded.served import Served

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable

    Answer = Callable[[web.BaseRequest, Served], Awaitable[web.StreamResponse]]

DEFAULT_MAX_CONNECTIONS = 10_000

_CUT_SHORT_S = 1.0
_FAREWELL_S = 3.0
_STEP_S = 0.01
_COMPLAIN_EACH_S = 60.0
_NOTHING = Served(host="", fingerprint_sha256="")  # its connection is gone already
_HEADERS = {"Server": "certcast", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpBounds:
    """What one client, or all together, may take.

    Attributes:
        connections: Open at a time; one more is closed after its handshake.
        head_s: From a request's first byte to the end of its head.
        keep_alive_s: Between two requests, and before the first.
        line_bytes: Of the request line, and of one field.
        fields: In one head.
        drain_s: For answers in hand when the listener ends.
    """

    connections: int = DEFAULT_MAX_CONNECTIONS
    head_s: float = 15.0
    keep_alive_s: float = 75.0
    line_bytes: int = 8190
    fields: int = 100
    drain_s: float = 20.0


def plain_answer(status: HTTPStatus, headers: Iterable[tuple[str, str]] = ()) -> web.Response:
    """An answer of ours that tells its status and nothing else."""
    text = None if status is HTTPStatus.NO_CONTENT else f"{status.value} {status.phrase}\n"
    return web.Response(status=status, text=text, headers={**_HEADERS, **dict(headers)})


class HttpServer:
    """Makes the HTTP/1.1 protocol of each connection and ends them all in order."""

    def __init__(self, answer: Answer, served_on: Callable[[ssl.SSLObject], Served], bounds: HttpBounds) -> None:
        """Take what answers and what tells what a connection got; the server itself is made in the running loop."""
        self.bounds = bounds
        self.open = 0
        self._answer = answer
        self._served_on = served_on
        self._http: web.Server | None = None
        self._busy: set[web.RequestHandler] = set()
        self._ending = False
        self._complained_at = -_COMPLAIN_EACH_S

    def __call__(self) -> asyncio.Protocol:
        """The protocol for a new connection."""
        if self._http is None:
            # A client that goes away ends the work for it.
            self._http = web.Server(self._handle, handler_cancellation=True)
        return _Connection(self, self._http)

    async def finish(self) -> None:
        """Close idle connections, let answers in hand be sent, then close every connection."""
        if self._http is None:
            return
        self._ending = True
        http = self._http
        transports = [connection.transport for connection in http.connections]
        sockets = [transport.get_extra_info("socket") for transport in transports if transport is not None]
        idle = [connection for connection in http.connections if connection not in self._busy]
        for connection in idle:
            connection.close()
        await asyncio.gather(*(connection.shutdown(self.bounds.drain_s) for connection in idle))
        await _until(lambda: not self._busy, self.bounds.drain_s)
        http.pre_shutdown()
        await http.shutdown(_CUT_SHORT_S)
        # aiohttp is done when it has said close, not when TLS has said goodbye and the sockets are closed.
        await _until(lambda: all(each.fileno() < 0 for each in sockets if each is not None), _FAREWELL_S)
        self._http = None
        self._ending = False

    def is_full(self) -> bool:
        """Whether there is no room for one more connection; complains now and then."""
        if self.open <= self.bounds.connections:
            return False
        if time.monotonic() - self._complained_at > _COMPLAIN_EACH_S:
            self._complained_at = time.monotonic()
            _log.warning("new connections are closed: %d are open, and no more are allowed", self.bounds.connections)
        return True

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        self._busy.add(connection)
        try:
            transport = request.transport
            tls = transport.get_extra_info("ssl_object") if transport is not None else None
            return await self._answer(request, _NOTHING if tls is None else self._served_on(tls))
        finally:
            self._busy.discard(connection)
            if self._ending:
                connection.close()


class _Connection(web.RequestHandler):
    """One connection: aiohttp's, with a bound on how slowly a request's head may come."""

    __slots__ = ("_head_timer", "_of")

    def __init__(self, of: HttpServer, http: web.Server) -> None:
        options: dict[str, Any] = {
            "keepalive_timeout": of.bounds.keep_alive_s,
            "max_line_size": of.bounds.line_bytes,
            "max_field_size": of.bounds.line_bytes,
            "max_headers": of.bounds.fields,
        }
        super().__init__(
            http,
            loop=asyncio.get_running_loop(),
            logger=_http_log,
            access_log=None,  # type: ignore[arg-type]  # None is how it is told to write none
            auto_decompress=False,
            **options,
        )
        self._of = of
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._of.open += 1
        if self._of.is_full():
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._of.open -= 1
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waiter is None or self._waiter.done():
            self._forget_head()
        elif self._head_timer is None:
            self._head_timer = self._loop.call_later(self._of.bounds.head_s, self.force_close)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)  # writes the log; raises where an answer was begun
        response = plain_answer(HTTPStatus(status))
        response.force_close()
        return response

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


async def _until(done: Callable[[], bool], patience_s: float) -> None:
    """Wait for something that nobody announces."""
    deadline = time.monotonic() + patience_s
    while not done() and time.monotonic() < deadline:  # noqa: ASYNC110 - aiohttp announces neither
        await asyncio.sleep(_STEP_S)


def _not_the_clients_fault(record: logging.LogRecord) -> bool:
    """Keep what clients send that is not HTTP out of the log: aiohttp writes a stack trace for each."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log = logging.getLogger(__name__)
_http_log = logging.getLogger(f"{__name__}.http")
_http_log.addFilter(_not_the_clients_fault)
