"""What clients of the embedded target may take, and what becomes of it when they take all there is."""

import asyncio
import contextlib
import errno
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from instance_agent.installing.probe import ProbeError, served_fingerprint
from instance_agent.targets.embedded.settings import MAX_CONNECTIONS
from tests.rigs.embedded import EmbeddedRig, serving, serving_alone
from tests.rigs.targets import bind, expect, root, seen
from tests.rigs.visitors import Busy, trusting_nobody, visiting

PATIENCE_S = 30.0

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of descriptors")


def silent_clients(stack: ExitStack, address: tuple[str, int], count: int) -> None:
    """Connect and say nothing."""
    for _ in range(count):
        stack.enter_context(socket.create_connection(address))


@contextlib.asynccontextmanager
async def silent_client(address: tuple[str, int]) -> AsyncIterator[asyncio.StreamReader]:
    """One of those, which hears what becomes of it."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader
    finally:
        writer.transport.abort()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection without a further byte."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await reader.read(1) == b""
        except ConnectionResetError:
            return True


async def is_closed_at_once(address: tuple[str, int]) -> bool:
    reader, writer = await asyncio.open_connection(*address)
    try:
        return await is_closed(reader)
    finally:
        writer.transport.abort()


async def send_until_closed(writer: asyncio.StreamWriter, data: bytes, *, pause_s: float = 0.0) -> None:
    """Send the same again and again; fails where the other side does not end it."""
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(pause_s)


def client_hello(name: str) -> bytes:
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trusting_nobody().wrap_bio(received, to_send, server_hostname=name).do_handshake()
    return to_send.read()


class TestCounting:
    async def test_one_too_many_is_closed_at_once_where_all_others_were_answered(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving(max_connections=3) as target:
            address = target.endpoint(443)
            async with visiting(address, "a.example", count=3) as visitors:
                assert [(await visitor.get()).status for visitor in visitors] == [200] * 3
                for _ in range(5):
                    assert await is_closed_at_once(address)
                assert [(await visitor.get()).status for visitor in visitors] == [200] * 3
            [record] = caplog.records
            assert record.getMessage() == "new connections are closed: 3 are open, and no more are allowed"
            await expect(EmbeddedRig(target), 443, {"a.example": target.fallback.fingerprint_sha256})

    async def test_a_client_that_says_nothing_counts_and_makes_room_for_one_that_comes_later(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving(max_connections=3) as target:
            address = target.endpoint(443)
            async with silent_client(address) as first, silent_client(address) as second, silent_client(address):
                async with visiting(address, "a.example") as (visitor,):
                    assert (await visitor.get()).status == 200
                    assert await is_closed(first)
                    with ExitStack() as crowd:
                        silent_clients(crowd, address, 5)
                        assert (await visitor.get()).status == 200
                assert await is_closed(second)
            assert {record.getMessage() for record in caplog.records} == {
                "3 connections are open, and no more are allowed: an old one makes room"
            }

    async def test_connections_of_all_ports_count_together(self) -> None:
        async with serving(max_connections=2) as target:
            await target.apply([bind(root().issue("a.example"), "a.example", 444)])
            async with silent_client(target.endpoint(444)) as first:
                with ExitStack() as silent:
                    silent_clients(silent, target.endpoint(443), 2)
                    assert await is_closed(first)

    async def test_those_that_are_served_are_served_on_while_others_are_turned_away(self) -> None:
        async with serving(max_connections=4) as target:
            address = target.endpoint(443)
            async with visiting(address, "a.example", count=4) as visitors:
                busy = Busy(visitors)
                await busy.answered(4)
                for _ in range(10):
                    with ExitStack() as turned_away:
                        silent_clients(turned_away, address, 50)
                        await busy.answered(4)
                await busy.stop()
                assert busy.errors == []

    async def test_a_crowd_that_is_turned_away_without_end_leaves_turns_to_everything_else(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        crowd = 0

        async def accept_at_once(_: socket.socket) -> Any:
            nonlocal crowd
            crowd += 1
            assert crowd < 1000, "nothing else had a turn"
            ours, theirs = socket.socketpair()
            theirs.close()
            return ours, None

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_accept", accept_at_once)
        async with serving(max_connections=0):
            for _ in range(5):
                await asyncio.sleep(0)
        assert 0 < crowd < 20

    @on_posix
    async def test_as_many_as_are_promised_find_room_in_1024_descriptors(self, tmp_path: Path) -> None:
        async with serving_alone(tmp_path / "log", descriptors=1024 - 400) as address:  # 400 for the rest of an agent
            with ExitStack() as silent:
                silent_clients(silent, address, 2 * MAX_CONNECTIONS)
                async with visiting(address, "a.example", count=2) as visitors:
                    silent_clients(silent, address, MAX_CONNECTIONS // 2)
                    assert [(await visitor.get()).status for visitor in visitors] == [200, 200]
        assert len((tmp_path / "log").read_text().splitlines()) == 1


class TestSilence:
    async def test_a_client_that_sends_no_client_hello_is_closed_after_a_while(self) -> None:
        async with serving(handshake_s=0.5) as target:
            reader, writer = await asyncio.open_connection(*target.endpoint(443))
            assert await is_closed(reader)
            writer.close()

    async def test_a_client_that_sends_half_a_client_hello_is_closed_after_a_while(self) -> None:
        async with serving(handshake_s=0.5) as target:
            reader, writer = await asyncio.open_connection(*target.endpoint(443))
            writer.write(client_hello("a.example")[:50])
            assert await is_closed(reader)
            writer.close()

    @pytest.mark.parametrize("asked", [0, 2])
    async def test_a_client_that_sends_no_request_or_no_other_one_is_closed_after_a_while(self, asked: int) -> None:
        async with serving(idle_s=0.8) as target, visiting(target.endpoint(443), "a.example") as (visitor,):
            for _ in range(asked):
                assert (await visitor.get()).status == 200
            assert await is_closed(visitor.reader)

    async def test_a_request_that_comes_byte_by_byte_takes_no_longer_than_one_that_does_not_come(self) -> None:
        async with serving(idle_s=0.5) as target, visiting(target.endpoint(443), "a.example") as (visitor,):
            await send_until_closed(visitor.writer, b"G", pause_s=0.05)

    async def test_a_client_that_asks_and_asks_and_never_reads_is_closed_after_a_while(self) -> None:
        async with serving(idle_s=0.5) as target:
            reader, writer = await asyncio.open_connection(
                *target.endpoint(443), ssl=trusting_nobody(), server_hostname="a.example", limit=1024
            )
            await send_until_closed(writer, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n" * 100)
            assert not reader.at_eof()

    async def test_stopping_does_not_wait_for_silent_clients(self) -> None:
        async with serving() as target:
            address = target.endpoint(443)
            reader, writer = await asyncio.open_connection(*address)
            writer.write(client_hello("a.example")[:50])
            with ExitStack() as silent:
                silent_clients(silent, address, 20)
                async with asyncio.timeout(5):
                    await target.stop()
            assert await is_closed(reader)
            writer.close()


class TestNoFileDescriptors:
    @on_posix
    async def test_it_is_a_line_a_second_and_over_when_there_are_some_again(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        async with serving_alone(log, descriptors=40) as address:
            with ExitStack() as silent:
                silent_clients(silent, address, 60)
                await asyncio.sleep(2.5)
                lines = log.read_text().splitlines()
                assert 2 <= len(lines) <= 4, f"{len(lines)} lines: {lines[:3]}"
                assert all(line.endswith("connections cannot be accepted now: Too many open files") for line in lines)
                with pytest.raises(ProbeError, match="did not finish"):
                    await served_fingerprint(address, "a.example", timeout_s=0.5)
            await served_fingerprint(address, "a.example", timeout_s=PATIENCE_S)
        assert "Traceback" not in log.read_text()

    async def test_another_error_of_accept_is_told_of_and_survived_like_that(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        loop = asyncio.get_running_loop()
        accept, left = loop.sock_accept, [4]

        async def failing(listening: socket.socket) -> Any:
            if left[0] > 0:
                left[0] -= 1
                raise OSError(errno.EPROTO, "Protocol error")
            return await accept(listening)

        monkeypatch.setattr(loop, "sock_accept", failing)
        async with serving() as target:
            assert await seen(EmbeddedRig(target), 443, "a.example") == target.fallback.fingerprint_sha256
        assert left == [0]
        assert [record.getMessage() for record in caplog.records] == [
            "connections cannot be accepted now: Protocol error"
        ]


class TestGarbage:
    async def test_it_ends_its_own_connection_and_leaves_no_word_in_the_log(self, tmp_path: Path) -> None:
        hello = client_hello("zzzz.example.com")
        plain = [
            *(b"", b"\0" * 1000, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000),
            *(hello[:40], hello[:40] + b"\xff" * (len(hello) - 40), hello.replace(b"zzzz", b"\xff\xfd\xfe\x80")),
            hello.replace(b"zzzz", b"zz\0z"),
        ]
        log = tmp_path / "log"
        async with serving_alone(log) as address:
            for each in plain:
                reader, writer = await asyncio.open_connection(*address)
                writer.write(each)
                writer.write_eof()
                with contextlib.suppress(ConnectionResetError):
                    async with asyncio.timeout(PATIENCE_S):
                        await reader.read()
                writer.transport.abort()
            for _ in range(3):  # gone in the middle of the handshake
                _, writer = await asyncio.open_connection(*address)
                writer.write(hello)
                writer.transport.abort()
            await asyncio.to_thread(garbage_after_the_handshake, address)
            await served_fingerprint(address, "a.example", timeout_s=PATIENCE_S)
        assert log.read_text() == ""

    @pytest.mark.parametrize("nonsense", [b"\x00\xff\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 100_000])
    async def test_what_is_not_http_is_answered_400_and_closed(
        self, nonsense: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving() as target, visiting(target.endpoint(443), "a.example") as (visitor,):
            visitor.writer.write(nonsense)
            assert await visitor.reader.readline() == b"HTTP/1.1 400 Bad Request\r\n"
            with contextlib.suppress(ConnectionResetError):
                async with asyncio.timeout(PATIENCE_S):
                    await visitor.reader.read()
        assert caplog.records == []


def garbage_after_the_handshake(address: tuple[str, int]) -> None:
    """Finish a handshake, then send what is no TLS record. Blocks."""
    with socket.create_connection(address, timeout=PATIENCE_S) as plain:
        received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting_nobody().wrap_bio(received, to_send, server_hostname="a.example")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(to_send.read())
                received.write(plain.recv(65536))
        plain.sendall(to_send.read() + b"no record" * 100)
        with contextlib.suppress(ConnectionResetError):
            while plain.recv(65536):
                pass
