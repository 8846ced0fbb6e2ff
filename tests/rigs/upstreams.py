"""Upstreams of a reverse proxy under test, honest ones and others, and a client that sends what no library would."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from tests.rigs.visitors import ANSWER_TIMEOUT_S, trusting_nobody

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def application(handler: Handler, *, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """An aiohttp server that answers everything with this; its URL."""
    runner = web.ServerRunner(web.Server(handler, auto_decompress=False), shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        yield f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def behaving(behaviour: Behaviour) -> AsyncIterator[str]:
    """A server that does this with each connection; its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            await behaviour(reader, writer)
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def answering(*parts: bytes, pause_s: float = 0.0, linger_s: float = 0.0) -> Behaviour:
    """Read one head, send this, with a pause after each part, and close."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        await asyncio.sleep(linger_s)

    return behave


@dataclass
class Seen:
    """What came to an upstream."""

    heads: list[web.BaseRequest] = field(default_factory=list)
    peers: set[tuple[str, int]] = field(default_factory=set)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Note the request and answer it."""
        self.heads.append(request)
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        return web.Response(text="seen\n", headers={"X-Upstream": "yes"})


@dataclass(frozen=True)
class Reply:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The field's value; all of them, joined, where there are several."""
        values = [value for known, value in self.headers if known.lower() == name.lower()]
        return ", ".join(values) if values else None


class RawClient:
    """One TLS connection on which bytes are sent as they are given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Reply:
        """The next answer without its body."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        _, code, reason = status.split(" ", 2) if status.count(" ") > 1 else (*status.split(" "), "")
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Reply(int(code), reason, fields, b"")

    async def reply(self, method: str = "GET") -> Reply:
        """The next answer, whole; raises where it is broken."""
        head = await self.head()
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            body = b""
            if method != "HEAD" and head.status >= 200 and head.status not in {204, 304}:
                if head.header("transfer-encoding") == "chunked":
                    while size := int(await self.reader.readuntil(b"\r\n"), 16):
                        body += (await self.reader.readexactly(size + 2))[:-2]
                    await self.reader.readuntil(b"\r\n")
                elif (length := head.header("content-length")) is not None:
                    body = await self.reader.readexactly(int(length))
                else:
                    body = await self.reader.read()
        return Reply(head.status, head.reason, head.headers, body)

    async def ask(self, data: bytes, method: str = "GET") -> Reply:
        await self.send(data)
        return await self.reply(method)

    async def is_closed(self) -> bool:
        """Whether the other side closes it without a further byte."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            try:
                return await self.reader.read(1) == b""
            except OSError:
                return True


@asynccontextmanager
async def raw_client(endpoint: tuple[str, int], sni: str) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection(*endpoint, ssl=trusting_nobody(), server_hostname=sni)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
