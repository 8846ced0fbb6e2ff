"""The embedded target as a reverse proxy, before real upstreams: honest, slow, broken and hostile ones."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import tracemalloc
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from instance_agent.targets.base import Remove
from instance_agent.targets.embedded.listeners import Listeners
from instance_agent.targets.embedded.proxy import Patience, ReverseProxy
from tests.rigs.embedded import serving
from tests.rigs.targets import bind, root
from tests.rigs.upstreams import RawClient, Seen, answering, application, behaving, raw_client
from tests.rigs.visitors import trusting_nobody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from instance_agent.targets.embedded.target import EmbeddedTarget

HOST = "shop.example.com"
BIG = 32 * 2**20
PATIENCE_S = 60.0


@asynccontextmanager
async def proxying(
    upstream: str, *, patience: Patience | None = None, **settings: Any
) -> AsyncIterator[EmbeddedTarget]:
    """A target in front of an upstream, that serves one host."""
    async with serving(upstream=upstream, **settings) as target:
        if patience is not None:
            assert isinstance(target.front, Listeners)
            assert isinstance(target.front._proxy, ReverseProxy)
            target.front._proxy._patience = patience
        await target.apply([bind(root().issue(HOST, "*.other.example"), HOST, 443)])
        yield target


@asynccontextmanager
async def asking(upstream: str, **settings: Any) -> AsyncIterator[RawClient]:
    async with proxying(upstream, **settings) as target, raw_client(target.endpoint(443), HOST) as client:
        yield client


def get(path: str = "/", method: str = "GET", **fields: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class TestPassingOn:
    async def test_a_request_reaches_the_upstream_as_it_was_and_with_where_it_came_from(self) -> None:
        seen = Seen()
        async with application(seen) as upstream, asking(upstream) as client:
            path = "/a%2Fb/../c//d;x=1?q=%20&r=a+b&&"
            reply = await client.ask(
                get(path, Cookie="a=b", Accept="text/x", X_Forwarded_For="6.6.6.6", Forwarded="for=x")
            )
        assert (reply.status, reply.body, reply.header("x-upstream")) == (200, b"seen\n", "yes")
        [request] = seen.heads
        assert request.raw_path == path
        assert request.headers["Host"] == HOST
        assert request.headers["X-Forwarded-For"] == "127.0.0.1"
        assert request.headers["X-Forwarded-Proto"] == "https"
        assert request.headers["X-Forwarded-Host"] == HOST
        assert request.headers["Forwarded"] == f'for="127.0.0.1";host="{HOST}";proto=https'
        assert request.headers["Via"] == "1.1 certcast"
        assert (request.headers["Cookie"], request.headers["Accept"]) == ("a=b", "text/x")
        assert not {"User-Agent", "Accept-Encoding", "Content-Type", "Content-Length"} & set(request.headers)

    async def test_an_answer_comes_back_as_it_was(self) -> None:
        parts = (
            b"HTTP/1.1 299 Very Fine\r\nContent-Length: 3\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Old: caf\xe9\r\n",
            b"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\nabc",
        )
        async with behaving(answering(*parts)) as upstream, asking(upstream) as client:
            reply = await client.ask(get())
        assert (reply.status, reply.reason, reply.body) == (299, "Very Fine", b"abc")
        assert [value for name, value in reply.headers if name == "Set-Cookie"] == ["a=1", "b=2"]
        assert reply.header("x-old") == "café"
        assert {name for name, _ in reply.headers} == {"Content-Length", "Set-Cookie", "X-Old", "Date"}

    async def test_a_connection_is_used_again_on_both_sides(self) -> None:
        seen = Seen()
        async with application(seen) as upstream, asking(upstream) as client:
            for number in range(5):
                assert (await client.ask(get(f"/{number}"))).status == 200
        assert [request.path for request in seen.heads] == ["/0", "/1", "/2", "/3", "/4"]
        assert len(seen.peers) == 1

    async def test_requests_sent_at_once_are_answered_in_their_order(self) -> None:
        async def echo(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(text=f"{request.path} {len(await request.read())}")

        async with application(echo) as upstream, asking(upstream) as client:
            await client.send(get("/1") + get("/2", "POST", Content_Length="4") + b"body" + get("/3"))
            assert [(await client.reply()).body for _ in range(3)] == [b"/1 0", b"/2 4", b"/3 0"]

    async def test_an_answer_to_head_and_those_without_content_have_no_body(self) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/large":
                return web.Response(body=b"x" * 5000)
            return web.Response(status=int(request.path[1:]), headers={"ETag": '"x"'})

        async with application(answer) as upstream, asking(upstream) as client:
            head = await client.ask(get("/large", "HEAD"), "HEAD")
            assert (head.status, head.header("content-length")) == (200, "5000")
            for status in (204, 304):
                reply = await client.ask(get(f"/{status}"))
                assert (reply.status, reply.header("etag"), reply.body) == (status, '"x"', b"")
            assert len((await client.ask(get("/large"))).body) == 5000

    async def test_a_compressed_body_passes_untouched(self) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(body=await request.read(), headers={"Content-Encoding": "gzip"})

        body = b"\x1f\x8b not really"
        async with application(answer) as upstream, asking(upstream) as client:
            request = get("/", "POST", Content_Length=str(len(body)), Content_Encoding="gzip")
            reply = await client.ask(request + body)
        assert (reply.body, reply.header("content-encoding")) == (body, "gzip")

    async def test_a_client_of_http_1_0_gets_an_answer_that_ends_with_its_connection(self) -> None:
        chunked = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n")
        async with behaving(answering(*chunked)) as upstream, asking(upstream) as client:
            reply = await client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert reply.body == b"abc"
        assert reply.header("transfer-encoding") is None

    async def test_a_target_in_absolute_form_names_the_host_itself(self) -> None:
        seen = Seen()
        async with application(seen) as upstream, asking(upstream) as client:
            assert (
                await client.ask(get(f"https://{HOST}/path?x").replace(b"Host: shop", b"Host: other"))
            ).status == 200
            assert (await client.ask(get("https://unknown.example/"))).status == 421
        [request] = seen.heads
        assert (request.raw_path, request.headers["Host"]) == ("/path?x", HOST)

    async def test_options_about_the_server_is_answered_here(self) -> None:
        seen = Seen()
        async with application(seen) as upstream, asking(upstream) as client:
            assert (await client.ask(get("*", "OPTIONS"))).status == 204
            assert (await client.ask(get("/", "OPTIONS", Max_Forwards="0"))).status == 204
            assert (await client.ask(get("/", "OPTIONS", Max_Forwards="3"))).status == 200
        assert [request.headers["Max-Forwards"] for request in seen.heads] == ["2"]

    async def test_an_upstream_behind_tls_is_verified(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        issued = root().issue("localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (tmp_path / "server.pem").write_bytes(issued.bundle().to_pem())
        context.load_cert_chain(tmp_path / "server.pem")
        (tmp_path / "roots.pem").write_bytes(root().root_pem)
        seen = Seen()
        async with application(seen, context=context) as upstream:
            named = upstream.replace("127.0.0.1", "localhost")
            async with asking(named) as client:
                assert (await client.ask(get())).status == 502
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
            async with asking(named) as client:
                assert (await client.ask(get())).status == 200
            async with asking(upstream) as client:  # the certificate is not for the address
                assert (await client.ask(get())).status == 502
        assert len(seen.heads) == 1


class TestWhoIsMeant:
    async def test_a_host_that_the_connections_certificate_does_not_cover_is_misdirected(self) -> None:
        seen = Seen()
        async with application(seen) as upstream, proxying(upstream) as target:
            await target.apply([bind(root().issue("blog.example.net"), "blog.example.net", 443)])
            async with raw_client(target.endpoint(443), HOST) as client:
                for host in ("blog.example.net", "127.0.0.1", "[::1]", "other.example", "a.b.other.example"):
                    reply = await client.ask(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    assert reply.status == 421, host
                for host in (HOST, "SHOP.Example.com:8443", "shop.example.com.", "a.other.example"):
                    assert (await client.ask(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())).status == 200, host
        assert len(seen.heads) == 4

    async def test_whoever_got_the_fallback_is_served_only_what_it_covers(self) -> None:
        fallback = root().issue("*.platform.example").bundle()
        seen = Seen()
        async with (
            application(seen) as upstream,
            proxying(upstream, fallback=fallback) as target,
            raw_client(target.endpoint(443), "free.platform.example") as client,
        ):
            assert (await client.ask(get())).status == 421
            assert (await client.ask(b"GET / HTTP/1.1\r\nHost: free.platform.example\r\n\r\n")).status == 200
        assert [request.host for request in seen.heads] == ["free.platform.example"]


class TestStreams:
    @pytest.mark.parametrize("framing", ["of a length", "in chunks"])
    async def test_a_big_upload_and_a_big_download_pass_without_being_held(self, framing: str) -> None:
        chunked = framing == "in chunks"
        block = bytes(range(256)) * 256
        blocks = BIG // len(block)

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            digest = hashlib.sha256()
            async for data in request.content.iter_any():
                digest.update(data)
            response = web.StreamResponse(headers={"Content-Length": str(BIG), "X-Got": digest.hexdigest()})
            await response.prepare(request)
            for _ in range(blocks):
                await response.write(block)
            return response

        whole = hashlib.sha256()
        for _ in range(blocks):
            whole.update(block)
        async with application(answer) as upstream, asking(upstream) as client:
            tracemalloc.start()
            try:
                fields = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": str(BIG)}
                await client.send(get("/", "PUT", **fields))
                for _ in range(blocks):
                    await client.send(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
                await client.send(b"0\r\n\r\n" if chunked else b"")
                head = await client.head()
                got = hashlib.sha256()
                for _ in range(blocks):
                    got.update(await client.reader.readexactly(len(block)))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert head.header("x-got") == whole.hexdigest() == got.hexdigest()
        assert peak < BIG / 4  # of the client, the proxy and the upstream together

    async def test_an_upstream_is_read_no_faster_than_the_client_reads(self) -> None:
        sent = 0

        async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
            while sent < BIG:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536

        async with behaving(pour) as upstream, asking(upstream) as client:
            await client.send(get())
            await until_still(lambda: sent)
            assert sent < BIG * 3 / 4  # what the kernel holds on four sockets, and 64 KiB here and there
            assert len((await client.reply()).body) == BIG

    async def test_a_client_is_read_no_faster_than_the_upstream_reads(self) -> None:
        go_on = asyncio.Event()
        got = 0

        async def sip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal got
            await reader.readuntil(b"\r\n\r\n")
            await go_on.wait()
            while got < BIG:
                got += len(await reader.read(2**20))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with behaving(sip) as upstream, asking(upstream) as client:
            sent = 0

            async def upload() -> None:
                nonlocal sent
                await client.send(get("/", "POST", Content_Length=str(BIG)))
                while sent < BIG:
                    await client.send(bytes(65536))
                    sent += 65536

            uploading = asyncio.create_task(upload())
            await until_still(lambda: sent)
            assert sent < BIG * 3 / 4
            go_on.set()
            await uploading
            assert (await client.reply()).body == b"ok"
        assert got == BIG

    async def test_an_answer_before_the_body_was_read_comes_through_and_ends_the_connection(self) -> None:
        refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n"
        async with behaving(answering(refusal, linger_s=0.5)) as upstream, asking(upstream) as client:
            reply = await client.ask(get("/", "POST", Content_Length="1000000"))
            assert (reply.status, reply.body) == (413, b"no\n")
            assert reply.header("connection") == "close"

    async def test_who_waits_for_100_is_invited_when_the_upstream_invites(self) -> None:
        invited = asyncio.Event()

        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"expect: 100-continue" in head.lower()
            await asyncio.sleep(0.2)
            invited.set()
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await reader.readexactly(4) == b"body"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()

        async with behaving(behave) as upstream, asking(upstream) as client:
            reply = await client.ask(get("/", "POST", Content_Length="4", Expect="100-continue"))
            assert reply.status == 100
            assert invited.is_set()
            assert (await client.ask(b"body")).body == b"ok"

    async def test_who_waits_for_100_is_refused_where_the_upstream_refuses(self) -> None:
        async with (
            behaving(answering(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")) as upstream,
            asking(upstream) as client,
        ):
            reply = await client.ask(get("/", "POST", Content_Length="4", Expect="100-continue"))
            assert reply.status == 401

    async def test_who_waits_for_100_is_invited_in_the_end_where_the_upstream_never_does(self) -> None:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(4)
            writer.write(b"HTTP/1.0 200 OK\r\n\r\nok")

        async with behaving(behave) as upstream, asking(upstream) as client:
            assert (await client.ask(get("/", "POST", Content_Length="4", Expect="100-continue"))).status == 100
            assert (await client.ask(b"body")).body == b"ok"

    async def test_a_client_that_goes_away_ends_the_work_of_the_upstream(self) -> None:
        gone = asyncio.Event()

        async def behave(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await reader.read()
            gone.set()

        async with behaving(behave) as upstream, proxying(upstream) as target:
            async with raw_client(target.endpoint(443), HOST) as client:
                await client.send(get())
                await asyncio.sleep(0.1)
            async with asyncio.timeout(PATIENCE_S):
                await gone.wait()


class TestTrouble:
    async def test_an_upstream_that_is_down_is_a_bad_gateway_without_any_detail(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with behaving(answering()) as upstream:
            pass
        async with asking(upstream) as client:
            for _ in range(3):
                reply = await client.ask(get("/secret?token=x", Cookie="s=hidden"))
                assert (reply.status, reply.body) == (502, b"502 Bad Gateway\n")
            assert reply.header("server") == "certcast"
        [record] = caplog.records
        assert upstream in record.getMessage()
        assert not {"secret", "token", "hidden"} & set(record.getMessage().replace("/", " ").split())

    async def test_a_silent_upstream_is_a_gateway_timeout(self) -> None:
        patience = Patience(idle_s=0.5)
        async with behaving(answering(linger_s=60)) as upstream, asking(upstream, patience=patience) as client:
            reply = await client.ask(get())
            assert (reply.status, reply.body) == (504, b"504 Gateway Timeout\n")
            assert (await client.ask(get("/", "POST", Content_Length="2") + b"ok")).status == 504

    async def test_an_upstream_that_keeps_sending_is_waited_for_as_long_as_it_does(self) -> None:
        async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
            for _ in range(20):
                await asyncio.sleep(0.1)
                writer.write(b".")

        async with behaving(trickle) as upstream, asking(upstream, patience=Patience(idle_s=1.0)) as client:
            assert (await client.ask(get())).body == b"." * 20

    async def test_a_client_that_stops_in_its_body_is_told_so(self) -> None:
        async def swallow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.read()

        async with behaving(swallow) as upstream, asking(upstream, patience=Patience(idle_s=0.5)) as client:
            reply = await client.ask(get("/", "POST", Content_Length="100") + b"only this")
            assert reply.status == 408

    @pytest.mark.parametrize(
        "beginning",
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", b"nonsense\r\n"),
        ],
        ids=["of a length", "of chunks", "of a chunk that is none"],
    )
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    async def test_an_answer_that_breaks_off_is_never_taken_for_whole(
        self, beginning: tuple[bytes, ...], version: str
    ) -> None:
        async with behaving(answering(*beginning, pause_s=0.2)) as upstream, asking(upstream) as client:
            await client.send(get().replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
            head = await client.head()
            assert head.status == 200
            rest = b""
            with pytest.raises(ConnectionError):  # noqa: PT012 - what came before it is judged too
                while data := await client.reader.read(100):
                    rest += data
            assert b"0\r\n\r\n" not in rest
            assert len(rest) < 100

    @pytest.mark.parametrize(
        "nonsense",
        [
            b"",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        ],
    )
    async def test_an_upstream_that_does_not_speak_http_is_a_bad_gateway(self, nonsense: bytes) -> None:
        async with behaving(answering(nonsense)) as upstream, asking(upstream) as client:
            assert (await client.ask(get())).status == 502
            assert (await client.ask(get())).status == 502

    async def test_a_connection_that_the_upstream_closed_meanwhile_costs_no_request(self) -> None:
        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
            await reader.readuntil(b"\r\n\r\n")  # and then it closes without an answer

        async with behaving(once) as upstream, asking(upstream) as client:
            for _ in range(4):
                assert (await client.ask(get())).body == b"ok"
            posted = get("/", "POST", Content_Length="2") + b"hi"
            assert (await client.ask(posted)).body == b"ok"


class TestWebSockets:
    @staticmethod
    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["chat"])
        assert socket.can_prepare(request)
        await socket.prepare(request)
        async for message in socket:
            if message.data == "close":
                await socket.close(code=4001)
            else:
                await socket.send_bytes(
                    message.data if message.type is aiohttp.WSMsgType.BINARY else message.data.encode()
                )
        return socket

    @asynccontextmanager
    async def connected(self, target: EmbeddedTarget) -> AsyncIterator[aiohttp.ClientWebSocketResponse[Any]]:
        address, port = target.endpoint(443)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                f"wss://{address}:{port}/socket",
                ssl=trusting_nobody(),
                server_hostname=HOST,
                headers={"Host": HOST},
                protocols=["chat"],
                max_msg_size=0,
            ) as socket,
        ):
            yield socket

    async def test_messages_of_any_size_pass_both_ways_and_so_does_the_end(self) -> None:
        async with application(self.echo) as upstream, proxying(upstream) as target, self.connected(target) as socket:
            assert socket.protocol == "chat"
            for size in (0, 1, 125, 126, 65_535, 65_536, 3 * 2**20):
                await socket.send_bytes(bytes(size))
                assert len(await socket.receive_bytes(timeout=PATIENCE_S)) == size
            await socket.send_str("close")
            assert (await socket.receive(timeout=PATIENCE_S)).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 4001

    async def test_what_either_side_sends_with_its_head_is_not_lost(self) -> None:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b"upgrade: websocket" in head
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nfirst")
            assert await reader.readexactly(5) == b"early"
            writer.write(b"last")

        async with behaving(behave) as upstream, asking(upstream) as client:
            await client.send(get("/", Connection="keep-alive, Upgrade", Upgrade="websocket") + b"early")
            assert (await client.head()).status == 101
            async with asyncio.timeout(PATIENCE_S):
                assert await client.reader.read() == b"firstlast"

    async def test_an_upstream_that_does_not_upgrade_answers_as_ever_and_the_connection_goes_on(self) -> None:
        seen = Seen()
        async with application(seen) as upstream, asking(upstream) as client:
            assert (await client.ask(get("/", Connection="Upgrade", Upgrade="websocket"))).body == b"seen\n"
            assert (await client.ask(get("/", Connection="Upgrade", Upgrade="h2c"))).body == b"seen\n"
            assert (await client.ask(get("/after"))).status == 200
        assert ["Upgrade" in request.headers for request in seen.heads] == [True, False, False]

    async def test_an_upstream_that_reads_slowly_slows_the_client(self) -> None:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
            await asyncio.sleep(600)

        async with behaving(behave) as upstream, asking(upstream) as client:
            await client.send(get("/", Connection="Upgrade", Upgrade="websocket"))
            assert (await client.head()).status == 101
            sent = 0

            async def pour() -> None:
                nonlocal sent
                while sent < BIG:
                    await client.send(bytes(65536))
                    sent += 65536

            pouring = asyncio.create_task(pour())
            await until_still(lambda: sent)
            assert sent < BIG * 3 / 4
            pouring.cancel()
            await asyncio.gather(pouring, return_exceptions=True)

    async def test_a_silent_one_is_ended_after_its_own_patience(self) -> None:
        patience = Patience(idle_s=60, tunnel_idle_s=0.5)
        async with (
            application(self.echo) as upstream,
            proxying(upstream, patience=patience) as target,
            self.connected(target) as socket,
        ):
            assert (await socket.receive(timeout=PATIENCE_S)).type in {
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            }


class TestCertificatesUnderWay:
    async def test_neither_a_websocket_nor_a_download_notices_a_renewal_or_a_removal(self) -> None:
        go_on = asyncio.Event()
        block = bytes(65536)

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/socket":
                return await TestWebSockets.echo(request)
            response = web.StreamResponse(headers={"Content-Length": str(BIG)})
            await response.prepare(request)
            for number in range(BIG // len(block)):
                if number == 100:
                    await go_on.wait()
                await response.write(block)
            return response

        async with (
            application(answer) as upstream,
            proxying(upstream) as target,
            TestWebSockets().connected(target) as socket,
            raw_client(target.endpoint(443), HOST) as client,
        ):
            await client.send(get("/big"))
            assert (await client.head()).status == 200
            for change in (
                bind(root().issue(HOST), HOST, 443),
                bind(root().issue(HOST), HOST, 444),
                Remove(host=HOST, port=443),
            ):
                await target.apply([change])
                await socket.send_str("still here")
                assert await socket.receive_bytes(timeout=PATIENCE_S) == b"still here"
            go_on.set()
            async with asyncio.timeout(PATIENCE_S):
                assert len(await client.reader.readexactly(BIG)) == BIG
            assert (await client.ask(get("/big?again"))).status == 200


class TestStopping:
    async def test_answers_in_hand_are_finished_uploads_too_and_websockets_are_ended(self) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/socket":
                return await TestWebSockets.echo(request)
            begun.set()
            body = await request.read()
            await go_on.wait()
            return web.Response(text=str(len(body)))

        async with application(answer) as upstream, proxying(upstream) as target:
            address = target.endpoint(443)
            async with (
                TestWebSockets().connected(target) as socket,
                raw_client(address, HOST) as upload,
                raw_client(address, HOST) as idle,
            ):
                await upload.send(get("/", "POST", Content_Length="10") + b"01234")
                await begun.wait()
                stopping = asyncio.create_task(target.stop())
                assert await idle.is_closed()
                assert (await socket.receive(timeout=PATIENCE_S)).type in {
                    aiohttp.WSMsgType.CLOSED,
                    aiohttp.WSMsgType.ERROR,
                    aiohttp.WSMsgType.CLOSE,
                }
                await upload.send(b"56789")
                go_on.set()
                reply = await upload.reply()
                assert (reply.status, reply.body) == (200, b"10")
                assert await upload.is_closed()
                await stopping


class TestBounds:
    @pytest.mark.parametrize(
        "smuggled",
        [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "Content-Length: 5, 5\r\n\r\nhello",
            "Content-Length: +5\r\n\r\nhello",
            "Content-Length: -5\r\n\r\nhello",
            "Content-Length: 0x5\r\n\r\nhello",
            "Content-Length : 5\r\n\r\nhello",
            "Content-Length: 99999999999999999999\r\n\r\nhello",
            "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
            "X: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Host: other.example\r\n\r\n",
            "X\x00: 1\r\n\r\n",
            "X Y: 1\r\n\r\n",
            "No-Colon\r\n\r\n",
        ],
    )
    async def test_a_request_whose_end_two_could_see_differently_is_refused_and_passes_nothing(
        self, smuggled: str
    ) -> None:
        seen = Seen()
        async with application(seen) as upstream, asking(upstream) as client:
            head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\n".encode()
            await client.send(head + smuggled.encode("latin-1") + get("/smuggled"))
            reply = await client.reply()
            assert (reply.status, reply.body) == (400, b"400 Bad Request\n")
            assert await client.is_closed()
        assert seen.heads == []

    @pytest.mark.parametrize(
        "chunks", ["5;x\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "-1\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "G\r\n"]
    )
    async def test_chunks_that_are_none_end_the_request_on_both_sides(self, chunks: str) -> None:
        whole: list[bytes] = []

        async def note(request: web.BaseRequest) -> web.StreamResponse:
            whole.append(await request.read())
            return web.Response()

        async with application(note) as upstream, asking(upstream) as client:
            await client.send(get("/", "POST", Transfer_Encoding="chunked") + chunks.encode() + get("/smuggled"))
            reply = await client.reply()
            assert reply.status == 400
            assert await client.is_closed()
        assert whole == []

    async def test_transfer_encoding_of_http_1_0_is_refused(self) -> None:
        seen = Seen()
        async with application(seen) as upstream, asking(upstream) as client:
            request = get("/", "POST", Transfer_Encoding="chunked").replace(b"HTTP/1.1", b"HTTP/1.0")
            assert (await client.ask(request + b"0\r\n\r\n")).status == 400
        assert seen.heads == []

    @pytest.mark.parametrize(
        ("request_line", "status"),
        [
            ("CONNECT shop.example.com:443 HTTP/1.1", 501),
            ("TRACE / HTTP/1.1", 501),
            ("GET http://shop.example.com/ HTTP/1.1", 421),
            ("GET https://user@shop.example.com/ HTTP/1.1", 400),
            ("GET /#fragment HTTP/1.1", 400),
            ("GET * HTTP/1.1", 400),
            ("GET / HTTP/2.0", 505),
            ("get / HTTP/1.1", 400),
        ],
    )
    async def test_what_is_not_for_the_upstream_does_not_reach_it(self, request_line: str, status: int) -> None:
        seen = Seen()
        async with application(seen) as upstream, asking(upstream) as client:
            assert (await client.ask(f"{request_line}\r\nHost: {HOST}\r\n\r\n".encode())).status == status
        assert seen.heads == []

    async def test_a_head_has_a_largest_size_and_a_largest_number_of_fields(self) -> None:
        async with application(Seen()) as upstream, proxying(upstream) as target:
            for fields, statuses in (
                ([f"A{number}: x" for number in range(95)], {200}),
                ([f"A{number}: x" for number in range(200)], {400}),
                ([f"A: {'x' * 8000}"], {200}),
                ([f"A: {'x' * 9000}"], {400}),
                ([f"A{number}: {'x' * 8000}" for number in range(10)], {431}),
            ):
                async with raw_client(target.endpoint(443), HOST) as client:
                    head = "\r\n".join(["GET / HTTP/1.1", f"Host: {HOST}", *fields, "", ""]).encode()
                    assert (await client.ask(head)).status in statuses, fields[0][:20]

    async def test_a_head_that_does_not_end_ends_its_connection(self) -> None:
        async with application(Seen()) as upstream, proxying(upstream) as target:
            assert isinstance(target.front, Listeners)
            target.front._http.bounds = replace(target.front._http.bounds, head_s=0.5)
            async with raw_client(target.endpoint(443), HOST) as slow, raw_client(target.endpoint(443), HOST) as idle:
                await slow.send(b"GET / HTTP/1.1\r\n")
                for _ in range(3):
                    await asyncio.sleep(0.1)
                    await slow.send(b"X: y\r\n")
                assert await slow.is_closed()
                assert (await idle.ask(get())).status == 200
                await asyncio.sleep(1.0)
                assert (await idle.ask(get())).status == 200

    async def test_a_connection_too_many_is_closed_and_room_is_made_again(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with application(Seen()) as upstream, proxying(upstream, max_connections=2) as target:
            address = target.endpoint(443)
            async with (
                raw_client(address, HOST) as one,
                raw_client(address, HOST) as two,
                raw_client(address, HOST) as three,
            ):
                assert (await one.ask(get())).status == 200
                assert (await two.ask(get())).status == 200
                assert await three.is_closed()
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    async with raw_client(address, HOST) as later:
                        with contextlib.suppress(OSError, EOFError):
                            assert (await later.ask(get())).status == 200
                            break
        assert "2 are open" in caplog.text


async def until_still(value: Any) -> None:
    """Wait until a number that grows does not grow any more."""
    async with asyncio.timeout(PATIENCE_S):
        while not value():  # noqa: ASYNC110 - it is a number
            await asyncio.sleep(0.05)
        while True:
            before = value()
            await asyncio.sleep(1.0)
            if value() == before:
                return
