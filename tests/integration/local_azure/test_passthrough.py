import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from local_azure.azurite import StorageEndpoints
from local_azure.eventgrid.delivery import EventDelivery, Subscription
from local_azure.eventgrid.relay import EventGridRelay

PLAIN = b"HTTP/1.1 200 OK\r\nServer: Raw\r\nDate: today\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class RawServer:
    """Keeps each request as the bytes it came in, and answers with the bytes it was given."""

    answer: bytes = PLAIN
    head: bytes = b""
    body: bytes = b""
    connections: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        self.head = await reader.readuntil(b"\r\n\r\n")
        if b"Content-Length: " in self.head:
            length = int(self.head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            self.body = await reader.readexactly(length)
        elif b"Transfer-Encoding: chunked" in self.head:
            self.body = await reader.readuntil(b"0\r\n\r\n")
        writer.write(self.answer)
        await writer.drain()
        writer.close()


@dataclass
class Line:
    """A raw server behind a relay, and a raw client before it."""

    server: RawServer
    port: int

    async def exchange(self, sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def arrived(self, sent: bytes) -> list[bytes]:
        await self.exchange(sent)
        return self.server.head.removesuffix(b"\r\n\r\n").split(b"\r\n")


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    server = RawServer()
    async with _listening(server) as upstream:
        relay = await EventGridRelay(
            StorageEndpoints(blob_port=upstream, queue_port=1, table_port=1),
            EventDelivery(Subscription(endpoint="http://127.0.0.1:1/", subject_begins_with="/none")),
        ).start()
        try:
            yield Line(server=server, port=relay.port)
        finally:
            await relay.stop()


@asynccontextmanager
async def _listening(server: RawServer) -> AsyncIterator[int]:
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "target",
    [
        "/account/c/a%20b%2Fc%25.pfx",
        "/account/c/a%2fB",
        "/account/c//double//slash/",
        "/account/c/./dot/../dot",
        "/account/c/~tilde!$&'()*+,;=:@",
        "/account/c/b?sig=a%2Bb%3D&sv=2024-01-01&comp=list&empty=&flag",
        "/account/c/b?prefix=a+b&marker=%E2%82%AC",
        "/account/c/b?q=a/b?c",
    ],
)
async def test_path_and_query_arrive_byte_for_byte(line: Line, target: str) -> None:
    arrived = await line.arrived(f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    assert arrived[0] == f"GET {target} HTTP/1.1".encode()


async def test_headers_arrive_in_order_with_their_case_and_nothing_is_added(line: Line) -> None:
    headers = [
        b"Host: 127.0.0.1:10000",
        b"x-ms-Version: 2021-12-02",
        b"Authorization: SharedKey devstoreaccount1:c2lnbmF0dXJl+/=",
        b"X-MS-Meta-HostHeader: a.example, b.example",
        b"x-ms-meta-umlaut: gr\xc3\xbcn",
        b"If-None-Match: *",
        b"Date: Sun, 22 Nov 2026 19:23:59 GMT",
    ]
    arrived = await line.arrived(b"\r\n".join([b"GET /a/c/b HTTP/1.1", *headers, b"Connection: close", b"", b""]))
    assert arrived[1:] == headers


async def test_a_body_arrives_with_its_length_and_without_an_invented_type(line: Line) -> None:
    packed = gzip.compress(b"content")
    head = b"PUT /a/c/b?comp=block HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n" % len(
        packed
    )
    arrived = await line.arrived(head + b"Connection: close\r\n\r\n" + packed)
    assert arrived[1:] == [b"Host: h", b"Content-Encoding: gzip", b"Content-Length: %d" % len(packed)]
    assert line.server.body == packed


async def test_an_empty_body_keeps_its_length_of_nothing(line: Line) -> None:
    arrived = await line.arrived(b"DELETE /a/c/b HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert arrived[1:] == [b"Host: h", b"Content-Length: 0"]


async def test_a_chunked_body_stays_chunked(line: Line) -> None:
    sent = b"PUT /a/c/b?comp=block HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    arrived = await line.arrived(sent + b"3\r\nabc\r\n0\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in arrived
    assert not any(header.startswith(b"Content-Length") for header in arrived)
    assert line.server.body == b"3\r\nabc\r\n0\r\n\r\n"


async def test_a_client_that_asks_before_it_sends_is_asked_to_go_on(line: Line) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
    writer.write(
        b"PUT /a/c/b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    assert line.server.body == b"abc"
    writer.close()
    await writer.wait_closed()


GET = b"GET /a/c/b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD /a/c/b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (GET, ["200 OK", "Server: R", 'Etag: "0x1"', "x-MS-a: 1", "Date: d", "Content-Length: 2", "", "ok"]),
        (GET, ["201 Created", "Server: R", "Date: d", "Content-Length: 0", "", ""]),
        (GET, ["404 The specified blob does not exist.", "Server: R", "Date: d", "Content-Length: 1", "", "x"]),
        (
            GET,
            ["206 Partial Content", "Server: R", "Date: d", "Content-Range: bytes 0-1/9", "Content-Length: 1", "", "a"],
        ),
        (GET, ["200 OK", "Server: R", "Date: d", "Content-Encoding: gzip", "Content-Length: 3", "", "\x1f\x00\x08"]),
        (GET, ["304 Not Modified", "Server: R", "Date: d", 'Etag: "0x1"', "", ""]),
        (GET, ["200 OK", "Server: R", "Date: d", "Set-Cookie: a=1", "Set-Cookie: b=2", "Content-Length: 0", "", ""]),
        (HEAD, ["200 OK", "Server: R", "Date: d", "Content-Type: text/plain", "Content-Length: 12345", "", ""]),
    ],
)
async def test_answers_come_back_byte_for_byte(line: Line, sent: bytes, answer: list[str]) -> None:
    line.server.answer = b"HTTP/1.1 " + "\r\n".join(answer).encode()
    assert (await line.exchange(sent)).replace(b"Connection: close\r\n", b"") == line.server.answer


async def test_a_chunked_answer_stays_chunked(line: Line) -> None:
    line.server.answer = (
        b"HTTP/1.1 200 OK\r\nServer: R\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    answer = await line.exchange(GET)
    assert b"Transfer-Encoding: chunked\r\n" in answer
    assert answer.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


async def test_half_an_answer_does_not_look_like_a_whole_one(line: Line) -> None:
    line.server.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with session.get(f"http://127.0.0.1:{line.port}/a/c/b") as answer:
                await answer.read()
