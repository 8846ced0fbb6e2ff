"""The probe against real listeners on loopback: what it sees, what it says when it sees nothing, what it leaves."""

import asyncio
import contextlib
import gc
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from instance_agent.installing.probe import ProbeError, served_fingerprint
from instance_agent.targets.embedded.contexts import server_context
from instance_agent.targets.parts.key_loading import load_bundle
from tests.rigs.certificates import Issued, authority, self_signed


async def until_they_leave(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()


@asynccontextmanager
async def listening(
    context: ssl.SSLContext | None,
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = until_they_leave,
    address: str = "127.0.0.1",
) -> AsyncIterator[tuple[str, int]]:
    """A listener; at the end every client must have left, or waiting for it runs into the time limit."""
    connections: list[asyncio.Task[None]] = []

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(attend(reader, writer)))

    server = await asyncio.start_server(connected, address, 0, ssl=context, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        async with asyncio.timeout(30):
            await asyncio.gather(*connections)
            await server.wait_closed()


def context_for(issued: Issued) -> ssl.SSLContext:
    return server_context(issued.bundle())


async def test_the_served_leaf_is_told_no_matter_who_issued_it_and_when_it_expires() -> None:
    root = authority()
    long_ago = root.certificate.not_valid_before_utc
    for issued in (
        root.intermediate().issue("shop.example.com"),
        root.issue("other.example.com", not_after=long_ago),
        self_signed("self.example.com", key="rsa"),
    ):
        async with listening(context_for(issued)) as address:
            assert await served_fingerprint(address, "shop.example.com", timeout_s=5) == issued.fingerprint


async def test_a_weak_key_is_seen_too() -> None:
    issued = self_signed("old.example.com", key="rsa1024")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    load_bundle(context, issued.bundle())
    async with listening(context) as address:
        assert await served_fingerprint(address, "old.example.com", timeout_s=5) == issued.fingerprint


@pytest.mark.parametrize(("sni", "asked"), [("Shop.example.com", "Shop.example.com"), (None, None)])
async def test_the_server_name_is_sent_as_given_or_not_at_all(sni: str | None, asked: str | None) -> None:
    names: list[str | None] = []
    context = context_for(self_signed("shop.example.com"))
    context.sni_callback = lambda _connection, name, _context: names.append(name)
    async with listening(context) as address:
        await served_fingerprint(address, sni, timeout_s=5)
    assert names == [asked]


async def test_a_session_is_never_resumed_even_where_the_server_would() -> None:
    issued = self_signed("shop.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # tickets and all
    load_bundle(context, issued.bundle())
    async with listening(context) as address:
        for _ in range(3):
            await served_fingerprint(address, "shop.example.com", timeout_s=5)
    assert context.session_stats()["hits"] == 0


async def test_a_closed_port_is_told_from_a_failed_handshake() -> None:
    async with listening(None) as address:
        pass
    with pytest.raises(ProbeError, match=re.escape(f"127.0.0.1:{address[1]} cannot be connected to")) as caught:
        await served_fingerprint(address, "shop.example.com", timeout_s=5)
    assert not caught.value.reached


async def test_an_alert_is_told_in_the_servers_words() -> None:
    context = context_for(self_signed("shop.example.com"))
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:  # asyncio's own TLS would drop the connection before it has sent the alert
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ssl.SSLError):
                context.wrap_socket(connection, server_side=True)

        serving = asyncio.create_task(asyncio.to_thread(serve))
        with pytest.raises(ProbeError, match=r"handshake for shop\.example\.com: .*unrecognized name") as caught:
            await served_fingerprint(listener.getsockname(), "shop.example.com", timeout_s=5)
        await serving
    assert caught.value.reached


async def test_a_server_that_says_nothing_is_given_up_on_in_time() -> None:
    async with listening(None) as address:
        with pytest.raises(ProbeError, match=r"handshake without a server name within 0\.2 s") as caught:
            await served_fingerprint(address, None, timeout_s=0.2)
    assert caught.value.reached


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"])
async def test_a_server_that_speaks_no_tls_is_reached_but_shows_nothing(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(16)
        writer.write(answer)

    async with listening(None, serve) as address:
        with pytest.raises(ProbeError, match="the TLS handshake for shop") as caught:
            await served_fingerprint(address, "shop.example.com", timeout_s=5)
    assert caught.value.reached


async def test_what_is_no_server_name_is_an_answer_and_not_a_crash() -> None:
    async with listening(None) as address:
        with pytest.raises(ProbeError, match="no server name"):
            await served_fingerprint(address, "a..example.com", timeout_s=5)


async def test_ipv6_listeners_are_met_too() -> None:
    issued = self_signed("shop.example.com")
    async with listening(context_for(issued), address="::1") as address:
        assert await served_fingerprint(address, "shop.example.com", timeout_s=5) == issued.fingerprint


async def test_a_thousand_probes_in_turns_leave_no_connection_behind() -> None:
    issued = self_signed("shop.example.com")
    turn = asyncio.Semaphore(16)

    async def look(address: tuple[str, int]) -> str:
        async with turn:
            return await served_fingerprint(address, "shop.example.com", timeout_s=30)

    async with listening(context_for(issued)) as address:
        seen = await asyncio.gather(*(look(address) for _ in range(1000)))
    assert seen == [issued.fingerprint] * 1000


async def test_a_cancelled_probe_closes_its_connection() -> None:
    accepted = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await until_they_leave(reader, writer)

    async with listening(None, serve) as address:
        probing = asyncio.create_task(served_fingerprint(address, None, timeout_s=60))
        await accepted.wait()
        probing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probing
    gc.collect()


def first_flight(issued: Issued, context: ssl.SSLContext, hello: bytes) -> bytes:
    """What a server answers to a first message, over buffers."""
    load_bundle(context, issued.bundle())
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(received, to_send, server_side=True)
    received.write(hello)
    with contextlib.suppress(ssl.SSLWantReadError):
        server.do_handshake()
    return to_send.read()


def speaking(version: ssl.TLSVersion, ciphers: str = "DEFAULT:@SECLEVEL=0") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    return context


class TestHandshakesThatDoNotFinish:
    """The leaf is in the server's first flight: what happens after it changes nothing about what is served."""

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    @pytest.mark.parametrize("piece", [1, 100, 65536])
    async def test_a_server_that_closes_after_its_first_flight_has_shown_its_certificate(
        self, version: ssl.TLSVersion, piece: int
    ) -> None:
        issued = self_signed("shop.example.com", key="rsa")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            flight = first_flight(issued, speaking(version), await reader.read(4096))
            for begin in range(0, len(flight), piece):
                writer.write(flight[begin : begin + piece])
                await writer.drain()

        async with listening(None, serve) as address:
            assert await served_fingerprint(address, "shop.example.com", timeout_s=20) == issued.fingerprint

    async def test_a_server_that_says_no_more_after_its_certificate_has_shown_it(self) -> None:
        issued = self_signed("shop.example.com")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            flight = first_flight(issued, speaking(ssl.TLSVersion.TLSv1_2), await reader.read(4096))
            writer.write(flight[:-9])  # all but ServerHelloDone, a record of its own
            await reader.read()

        async with listening(None, serve) as address:
            assert await served_fingerprint(address, "shop.example.com", timeout_s=0.5) == issued.fingerprint

    async def test_a_certificate_shown_in_a_handshake_that_no_client_can_finish_is_told_as_such(self) -> None:
        issued = self_signed("shop.example.com")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            flight = first_flight(issued, speaking(ssl.TLSVersion.TLSv1_2), await reader.read(4096))
            writer.write(flight[:-20] + bytes([flight[-20] ^ 1]) + flight[-19:])  # in the signature of its key exchange
            await reader.read()

        async with listening(None, serve) as address:
            with pytest.raises(ProbeError, match="failed the TLS handshake") as caught:
                await served_fingerprint(address, "shop.example.com", timeout_s=5)
        assert caught.value.shown == issued.fingerprint

    async def test_a_server_that_sends_without_end_is_left(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(4096)
            record = b"\x16\x03\x03\x40\x00" + b"\x0b\xff\xff\xff" + bytes(16380)
            with contextlib.suppress(OSError):
                while not writer.is_closing():
                    writer.write(record)
                    await writer.drain()

        async with listening(None, serve) as address:
            with pytest.raises(ProbeError) as caught:
                await served_fingerprint(address, "shop.example.com", timeout_s=5)
        assert not caught.value.timed_out


class TestServersThatSpeakLittle:
    @pytest.mark.parametrize(
        "ciphers", ["AES128-SHA:@SECLEVEL=0", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA:@SECLEVEL=0"]
    )
    async def test_a_server_of_few_ciphers_is_understood(self, ciphers: str) -> None:
        issued = self_signed("shop.example.com", key="rsa")
        context = speaking(ssl.TLSVersion.TLSv1_2, ciphers)
        load_bundle(context, issued.bundle())
        async with listening(context) as address:
            assert await served_fingerprint(address, "shop.example.com", timeout_s=5) == issued.fingerprint

    async def test_a_server_of_one_curve_is_understood(self) -> None:
        issued = self_signed("shop.example.com")
        context = speaking(ssl.TLSVersion.TLSv1_2)
        context.set_ecdh_curve("secp521r1")
        load_bundle(context, issued.bundle())
        async with listening(context) as address:
            assert await served_fingerprint(address, "shop.example.com", timeout_s=5) == issued.fingerprint

    @pytest.mark.parametrize("alert", [bytes.fromhex("15 0301 0002 0246"), None])
    async def test_one_that_speaks_no_version_of_today_is_told_in_words(self, alert: bytes | None) -> None:
        """An old server answers with its own version, a newer one that is told to speak old ones with an alert."""
        hello = bytes.fromhex("16 0301 002a 02 000026 0301") + bytes(32) + bytes.fromhex("00 002f 00")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(4096)
            writer.write(alert or hello)

        async with listening(None, serve) as address:
            with pytest.raises(ProbeError, match=r"speaks only TLS 1\.1 or older, which browsers refuse"):
                await served_fingerprint(address, "shop.example.com", timeout_s=5)

    async def test_what_browsers_offer_is_offered_and_nothing_where_the_server_wants_something_else(self) -> None:
        issued = self_signed("shop.example.com")
        offered: list[bool] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            hello = await reader.read(4096)
            offered.append(b"\x02h2\x08http/1.1" in hello)
            alert = bytes.fromhex("15 0303 0002 0278")  # no_application_protocol
            writer.write(alert if offered[-1] else first_flight(issued, speaking(ssl.TLSVersion.TLSv1_2), hello))

        async with listening(None, serve) as address:
            assert await served_fingerprint(address, "shop.example.com", timeout_s=5) == issued.fingerprint
        assert offered == [True, False]

    async def test_a_server_that_wants_http2_has_it(self) -> None:
        issued = self_signed("shop.example.com")
        context = context_for(issued)
        context.set_alpn_protocols(["h2"])
        async with listening(context) as address:
            assert await served_fingerprint(address, "shop.example.com", timeout_s=5) == issued.fingerprint
