"""One request on its way through the reverse proxy: its body to the upstream, the answer to the client, as streams."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from instance_agent.targets.embedded.forwarding import response_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from instance_agent.targets.embedded.forwarding import Inquiry

_LINGER = "hh" if os.name == "nt" else "ii"


class Passage:
    """One request on its way: what has come of it so far."""

    def __init__(self, request: web.BaseRequest, asked: Inquiry, idle_s: float) -> None:
        self.request = request
        self.asked = asked
        self.idle_s = idle_s
        self.limit: asyncio.Timeout | None = None
        self.response: web.StreamResponse | None = None
        self.awaits_body = False
        self.awaits_reader = False
        self.body_broken = False

    def progress(self) -> None:
        """A byte moved: patience begins anew."""
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time() + self.idle_s)

    async def relay(self, answered: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass the upstream's answer on."""
        response = Relayed(
            status=answered.status,
            reason=_safe(answered.reason),
            headers=response_headers(answered.raw_headers, switches=False),
        )
        without_length = self.request.version < aiohttp.HttpVersion11
        half_read = self.asked.has_body and not self.request.content.at_eof()
        if without_length or half_read:
            response.force_close()  # only its end tells that of the answer, or where another request would begin
        _break_with(answered)
        self.progress()
        await response.prepare(self.request)
        self.response = response
        async for data in answered.content.iter_any():
            self.progress()
            self.awaits_reader = True
            await response.write(data)
            self.awaits_reader = False
            self.progress()
        await response.write_eof()
        return response


class Body:
    """A request's body, read from the client as the upstream takes it."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self._begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._begun:
            raise ConnectionResetError("a body passes once")
        self._begun = True
        passage = self._passage
        yield b""  # has the head sent at once, not with the body's first byte
        if passage.asked.expects_continue and passage.response is None:
            await passage.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            passage.awaits_body = True
            try:
                data = await passage.request.content.readany()
            except Exception:
                passage.body_broken = True
                raise
            passage.awaits_body = False
            passage.progress()
            if not data:
                return
            yield data


class Relayed(web.StreamResponse):
    """An answer of the upstream, without the fields that aiohttp would add for it."""

    async def _prepare_headers(self) -> None:
        added = {"Content-Type", "Server"} - {name for name in ("Content-Type", "Server") if name in self.headers}
        await super()._prepare_headers()
        for name in added:
            self.headers.popall(name, None)


def break_off(transport: asyncio.Transport) -> None:
    """End a connection with a reset: an orderly end would be that of an answer without a length."""
    if (connected := transport.get_extra_info("socket")) is not None and connected.fileno() >= 0:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(_LINGER, 1, 0))
    transport.abort()


def _break_with(answered: aiohttp.ClientResponse) -> None:
    """Have the body end in an error when the connection ends before it: aiohttp forgets to where a chunk is none."""
    content, connection = answered.content, answered.connection
    closed = getattr(connection.protocol, "closed", None) if connection is not None else None
    if closed is None:
        return

    def see(_: asyncio.Future[None]) -> None:
        if not closed.cancelled():
            closed.exception()  # it is the body's to raise
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection ended before the body"))

    closed.add_done_callback(see)


def _safe(reason: str | None) -> str | None:
    return reason if reason is not None and reason.isascii() and reason.isprintable() else None
