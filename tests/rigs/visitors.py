"""Clients of a web server under test: connections that stay open while certificates change."""

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

ANSWER_TIMEOUT_S = 30.0


def trusting_nobody() -> ssl.SSLContext:
    """A client context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def trusting(root_pem: bytes) -> ssl.SSLContext:
    """A client context that takes only what leads to this root, through intermediates the server must send."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root_pem.decode())
    return context


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Visitor:
    """One open HTTPS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader = reader
        self.writer = writer
        self._host = host

    @property
    def tls(self) -> ssl.SSLObject:
        connection = self.writer.get_extra_info("ssl_object")
        assert isinstance(connection, ssl.SSLObject)
        return connection

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the leaf this connection got."""
        return hashlib.sha256(self.tls.getpeercert(binary_form=True) or b"").hexdigest()

    async def get(self, method: str = "GET", path: str = "/") -> Answer:
        """One request on this connection; raises where it was closed or the answer is broken."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = 0 if method == "HEAD" else int(headers["content-length"])
            return Answer(int(status.split()[1]), headers, await self.reader.readexactly(length))

    async def leave(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@asynccontextmanager
async def visiting(
    endpoint: tuple[str, int], sni: str, *, context: ssl.SSLContext | None = None, count: int = 1
) -> AsyncIterator[list[Visitor]]:
    """Connections that are closed at the end."""
    visitors: list[Visitor] = []
    chosen = context or trusting_nobody()
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection(*endpoint, ssl=chosen, server_hostname=sni)
            visitors.append(Visitor(reader, writer, sni))
        yield visitors
    finally:
        for visitor in visitors:
            await visitor.leave()


def fingerprint_for_raw_name(endpoint: tuple[str, int], name: bytes) -> str | None:
    """What is served for a server name no resolver would allow; None when the handshake fails. Blocks."""
    with socket.create_connection(endpoint, timeout=ANSWER_TIMEOUT_S) as plain:
        try:
            with trusting_nobody().wrap_socket(plain, server_hostname=name) as tls:
                return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
        except OSError:
            return None


async def flight_for_raw_name(endpoint: tuple[str, int], name: bytes) -> bytes:
    """What a server sends, in the clear as TLS 1.2 does it, to a client that asks for a name of any bytes."""
    context = trusting_nobody()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(received, to_send, server_hostname=b"z" * len(name))
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    length = len(name).to_bytes(2)
    hello = to_send.read().replace(b"\0" + length + b"z" * len(name), b"\0" + length + name)
    assert name in hello
    reader, writer = await asyncio.open_connection(*endpoint)
    writer.write(hello)
    flight = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(5):
            while b"\x0e\0\0\0" not in flight and (more := await reader.read(65536)):  # until ServerHelloDone
                flight += more
    writer.transport.abort()
    return flight


class Busy:
    """Visitors that send one request after the other until told to stop."""

    def __init__(self, visitors: list[Visitor]) -> None:
        self.answers = 0
        self.errors: list[Exception] = []
        self._stopping = False
        self._tasks = [asyncio.create_task(self._keep_asking(visitor)) for visitor in visitors]

    async def answered(self, more: int) -> None:
        """Wait until so many more requests were answered, or an error ended the visits."""
        goal = self.answers + more
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while self.answers < goal and not self.errors:  # noqa: ASYNC110 - four tasks count up here
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _keep_asking(self, visitor: Visitor) -> None:
        while not self._stopping:
            try:
                await visitor.get()
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.errors.append(error)
                return
            self.answers += 1
