"""Clients of the ports that an agent opens: slow, silent, broken or thousands, they hold up neither it nor others."""

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from instance_agent.health import HealthServer
from instance_agent.installing.probe import served_fingerprint
from instance_agent.targets.caddy.manager import Manager
from instance_agent.targets.parts import small_server
from instance_agent.targets.parts.small_http import MAX_HEAD_BYTES
from instance_agent.targets.parts.small_server import MOST_CLIENTS
from local_azure.processes.listening import free_port
from shared.azure.account import Account
from tests.rigs.agent_processes import agent_process
from tests.rigs.agents import agent
from tests.rigs.embedded import serving
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.processes import descriptors, linux_only
from tests.rigs.scenes import Scene
from tests.security.test_instance_rows import issued_for

PASSWORD = "p" * 24
PATIENCE_S = 20.0
Address = tuple[str, int]


@asynccontextmanager
async def health() -> AsyncIterator[tuple[Address, bytes, bytes]]:
    server = HealthServer(agent(Scene().storage), address="127.0.0.1", port=0)
    port = server.start()
    try:
        yield ("127.0.0.1", port), b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"ok\n"
    finally:
        await server.stop()


@asynccontextmanager
async def manager() -> AsyncIterator[tuple[Address, bytes, bytes]]:
    server, port = Manager(lambda name, port: f"{name} {port}".encode(), PASSWORD), free_port()
    server.listen("127.0.0.1", port)
    question = (
        b"GET /443?server_name=a.example HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Basic Y2VydGNhc3Q6cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw\r\n\r\n"
    )
    try:
        yield ("127.0.0.1", port), question, b"a.example 443"
    finally:
        await server.close()


@pytest.fixture(params=[health, manager], ids=["health", "caddy"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Address, bytes, bytes]]:
    async with request.param() as each:
        yield each


async def asks(address: Address, question: bytes, *, timeout_s: float = 2.0) -> bytes:
    """What a client that behaves is answered, and in time."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(question)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        writer.transport.abort()
        return body


async def sends(address: Address, data: bytes) -> bytes:
    """Send something and nothing more, and take all that comes until the other side ends it."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            with contextlib.suppress(ConnectionError):
                return await reader.read()
            return b""
        finally:
            writer.transport.abort()


def crowd(stack: ExitStack, address: Address, count: int, data: bytes = b"") -> None:
    """Connect, perhaps say something, and stay."""
    for _ in range(count):
        client = stack.enter_context(socket.create_connection(address))
        client.setblocking(False)
        if data:
            client.send(data)


@pytest.fixture(autouse=True)
def nothing_alarming(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No stack trace comes of anything that clients do, and no error either."""
    caplog.set_level(logging.INFO)
    yield
    assert "Traceback" not in caplog.text
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


GARBAGE = [
    b"\0" * 100 + b"\r\n\r\n",
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /livez HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(100) + b"\r\n\r\n",
    b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    b"POST /livez HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100_000,
    b"GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    b"GET /livez HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]

ODD = [
    b"GET / HTTP/1.1\r\nConnection: close\r\nAuthorization:" + b" " * 16_000 + b"x\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: \xff\xfe\r\nAuthorization: \xff\xfe\r\nX-\xff: \x00\r\nConnection: close\r\n\r\n",
    b"GET /443?server_name=%ff%00%0d%0aX:1 HTTP/1.1\r\nAuthorization: Basic \xe9\r\nConnection: close\r\n\r\n",
    b"GET /99999?server_name=" + b"x" * 15_000 + b" HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET /443?" + b"a=b&" * 3_000 + b" HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET /%2e%2e/%c3%28 HTTP/1.1\r\nConnection: close\r\n\r\n",
]


class TestEachPort:
    @pytest.mark.parametrize("number", range(len(GARBAGE)))
    async def test_answers_garbage_once_and_ends_it(self, served: tuple[Address, bytes, bytes], number: int) -> None:
        address, question, right = served
        answer = await sends(address, GARBAGE[number])
        assert answer.count(b"HTTP/1.1 ") <= 1
        assert answer[:12] in {b"", b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 404", b"HTTP/1.1 405", b"HTTP/1.1 200"}
        assert await asks(address, question) == right

    @pytest.mark.parametrize("number", range(len(ODD)))
    async def test_answers_what_is_odd_and_goes_on(self, served: tuple[Address, bytes, bytes], number: int) -> None:
        address, question, right = served
        answer = await sends(address, ODD[number])
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 401", b"HTTP/1.1 404"))
        assert b"\r\nX:1" not in answer
        assert await asks(address, question) == right

    async def test_ends_half_a_request_and_silence_after_a_while(
        self, served: tuple[Address, bytes, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(small_server, "FIRST_S", 0.3)
        address, question, right = served
        for half in (b"", b"G", b"GET /livez HTTP/1.1\r\nHost: x\r\n"):
            began = time.monotonic()
            assert await sends(address, half) == b""
            assert time.monotonic() - began < 5
        assert await asks(address, question) == right

    async def test_ends_a_request_that_comes_byte_by_byte(
        self, served: tuple[Address, bytes, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(small_server, "FIRST_S", 0.3)
        address, _, _ = served
        reader, writer = await asyncio.open_connection(*address)
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"G")
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1), 0.02)
        writer.transport.abort()

    async def test_ends_a_connection_that_asks_no_more(
        self, served: tuple[Address, bytes, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(small_server, "BETWEEN_S", 0.3)
        address, question, right = served
        assert right in await sends(address, question * 3)

    async def test_ends_a_client_that_asks_and_never_reads(
        self, served: tuple[Address, bytes, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(small_server, "FIRST_S", 0.5)
        monkeypatch.setattr(small_server, "BETWEEN_S", 0.5)
        address, question, _ = served
        reader, writer = await asyncio.open_connection(*address, limit=1024)
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(question * 500)
                    await writer.drain()
        writer.transport.abort()
        assert not reader.at_eof()

    @linux_only
    @pytest.mark.parametrize("data", [b"", b"GET / HT", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"])
    async def test_serves_who_comes_after_a_crowd_that_stays(
        self, served: tuple[Address, bytes, bytes], data: bytes
    ) -> None:
        address, question, right = served
        before = descriptors(os.getpid())
        with ExitStack() as stack:
            for _ in range(5):
                crowd(stack, address, 100, data)
                assert await asks(address, question) == right
            await asyncio.sleep(0.1)
            own = descriptors(os.getpid()) - before - 500
            assert own <= MOST_CLIENTS + 10, "connections of the crowd were ended"

    async def test_answers_one_connection_as_often_as_it_asks_in_time(
        self, served: tuple[Address, bytes, bytes]
    ) -> None:
        address, question, right = served
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(50):
            writer.write(question)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(len(right)) == right
        writer.transport.abort()

    async def test_stops_beside_a_crowd_at_once(self) -> None:
        for each in (health, manager):
            with ExitStack() as stack:
                async with each() as (address, _, _):
                    crowd(stack, address, 50, b"GET")
                    await asyncio.sleep(0.1)
                    began = time.monotonic()
                assert time.monotonic() - began < 2


class TestTheManager:
    async def test_closes_whoever_does_not_know_the_password(self) -> None:
        async with manager() as (address, _, _):
            answer = await sends(address, b"GET /443?server_name=a.example HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
            assert b"Connection: close" in answer

    async def test_takes_no_head_that_is_larger_than_a_head(self) -> None:
        async with manager() as (address, question, right):
            fits = question.replace(
                b"\r\n\r\n", b"\r\nX: " + b"x" * (MAX_HEAD_BYTES - len(question) - 10) + b"\r\n\r\n"
            )
            assert await asks(address, fits) == right
            answer = await sends(address, fits.replace(b"X: ", b"X: " + b"x" * 100))
            assert answer.startswith(b"HTTP/1.1 400 ")


class TestTheEmbeddedTarget:
    async def test_serves_and_proves_beside_a_crowd_that_says_nothing(self) -> None:
        async with serving() as target:
            address = target.endpoint(443)
            with ExitStack() as stack:
                for _ in range(3):
                    crowd(stack, address, 250)
                    assert await served_fingerprint(address, "a.example", timeout_s=5)


@pytest.fixture
async def account(azurite: Emulator, tmp_path: Path) -> AsyncIterator[Account]:
    async with opened_account(azurite.connection_string, tmp_path / "key") as opened:
        yield opened


@linux_only
async def test_a_real_agent_installs_and_tells_its_health_beside_thousands(
    azurite: Emulator, account: Account, tmp_path: Path
) -> None:
    host = f"{uuid.uuid4().hex[:8]}.example"
    await issued_for(account, host)
    async with agent_process(azurite, tmp_path / "key", f"crowded-{uuid.uuid4().hex[:8]}") as one:
        await one.ready()
        with ExitStack() as stack:
            for address in (("127.0.0.1", one.health), one.tls) * 4:
                crowd(stack, address, 400, b"GET")
            new = await issued_for(account, f"new-{host}")
            assert (await one.asked("/readyz"))[0] == 200
            assert descriptors(one.process.pid) < 1024
            # Found without a hint, by the reconcile that a lost queue brings.
            await account.queues.delete(one.queue)
            async with asyncio.timeout(60):
                while await served_fingerprint(one.tls, f"new-{host}", timeout_s=10) != new:  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
        assert (await one.asked("/livez"))[0] == 200
    assert "Traceback" not in one.log
