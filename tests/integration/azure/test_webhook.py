"""A webhook against real HTTP servers: what it posts, how that is signed, and what no server can do to the sender."""

import asyncio
import json
import ssl
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web

from local_azure.processes.listening import LOOPBACK, listen
from shared import VERSION
from shared.azure import webhook as module
from shared.azure.webhook import CONTENT_TYPE, Webhook, pause_asked_for, refused, signed, webhooks_at
from shared.config.webhooks import webhook_secrets
from shared.errors import (
    AccessDeniedError,
    CertcastError,
    RetiredError,
    ThrottledError,
    UnansweredError,
    UnavailableError,
)
from shared.messages import EventType, OutgoingEvent
from tests.fakes.storage import START
from tests.rigs.certificates import authority
from tests.rigs.event_schemas import SOURCE
from tests.rigs.signatures import is_signed

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDgSHEQHJBRfEi"
IN_URL = "s3cret-in-the-path"
EVENT = OutgoingEvent(
    event_id="e1",
    kind=EventType.REJECTED,
    subject="kunden/größe.pfx",
    at=START,
    document=json.dumps({"status": "rejected"}),
    traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def http(handler: Handler) -> AsyncIterator[str]:
    """A server that answers every POST so; its address with a secret in the path."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    port = await listen(runner, LOOPBACK, 0, "a receiver")
    try:
        yield f"http://{LOOPBACK}:{port}/{IN_URL}?sig={IN_URL}%2F"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw(serve: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that writes what it likes, once it has read the head of a request."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, LOOPBACK, 0)
    try:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/{IN_URL}"
    finally:
        server.close()


def webhook(url: str, *secrets: str, now: datetime | None = None) -> Webhook:
    [made] = webhooks_at(
        [url], secrets=webhook_secrets(" ".join(secrets)), source=SOURCE, now=lambda: now or datetime.now(UTC)
    )
    return made


def answering(status: int, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers, text="x" * 100)

    return answer


class TestWhatIsPosted:
    async def test_is_a_cloudevent_in_structured_mode_signed_by_every_secret(self) -> None:
        heard: list[tuple[dict[str, str], bytes]] = []

        async def take(request: web.Request) -> web.StreamResponse:
            heard.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
            assert (request.method, request.path_qs) == ("POST", f"/{IN_URL}?sig={IN_URL}%2F")
            return web.Response(status=202)

        async with http(take) as url:
            assert await webhook(url, SECRET, OLD_SECRET).send(EVENT) == "202"
        [(headers, body)] = heard
        assert (headers["content-type"], headers["user-agent"]) == (CONTENT_TYPE, f"certcast/{VERSION}")
        assert headers["webhook-id"] == "e1"
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        for secret in (SECRET, OLD_SECRET):
            assert is_signed(headers, body, secret)
        assert not is_signed(headers, body + b" ", SECRET)
        assert not is_signed(headers, body, "whsec_" + "A" * 40)
        document = json.loads(body)
        assert document["time"].startswith("2026-03-01T12:00:00.25")
        assert {name: document[name] for name in document if name != "time"} == {
            "specversion": "1.0",
            "id": "e1",
            "source": SOURCE,
            "type": "Certcast.CertificateRejected",
            "subject": "kunden/größe.pfx",
            "datacontenttype": "application/json",
            "dataschema": "urn:certcast:schema:upload:1",
            "traceparent": EVENT.traceparent,
            "data": {"status": "rejected"},
        }

    def test_is_signed_as_the_scheme_s_own_libraries_sign(self) -> None:
        """The vector that the tests of standard-webhooks' libraries share."""
        now = datetime.fromtimestamp(1614265330, UTC)
        body = b'{"test": 2432232314}'
        [secret] = webhook_secrets(SECRET)
        headers = signed("msg_p5jXN8AQM9LWM0D4loKWxJek", body, [secret], now)
        assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        assert secret == b64decode(SECRET.removeprefix("whsec_"))

    def test_without_a_secret_is_not_signed(self) -> None:
        assert "webhook-signature" not in signed("e1", b"{}", [], START)


class TestAnswers:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    async def test_2xx_is_taken(self, status: int) -> None:
        async with http(answering(status)) as url:
            assert await webhook(url).send(EVENT) == str(status)

    @pytest.mark.parametrize(
        ("status", "kind", "retriable"),
        [
            (300, UnavailableError, True),
            (400, UnavailableError, True),
            (401, AccessDeniedError, False),
            (403, AccessDeniedError, False),
            (404, UnavailableError, True),
            (408, UnavailableError, True),
            (410, RetiredError, False),
            (413, CertcastError, False),
            (415, CertcastError, False),
            (422, CertcastError, False),
            (429, ThrottledError, True),
            (500, UnavailableError, True),
            (503, UnavailableError, True),
        ],
    )
    async def test_others_are_told_apart_and_name_the_host_alone(
        self,
        status: int,
        kind: type[CertcastError],
        retriable: bool,  # noqa: FBT001
    ) -> None:
        async with http(answering(status)) as url:
            with pytest.raises(CertcastError) as caught:
                await webhook(url, SECRET).send(EVENT)
        assert type(caught.value) is kind
        assert caught.value.retriable is retriable
        assert f"webhook {LOOPBACK} answered {status}" in str(caught.value)
        assert IN_URL not in str(caught.value)

    @pytest.mark.parametrize(
        ("retry_after", "seconds"),
        [
            ("120", 120),
            (" 0 ", 0),
            ("9" * 4000, 10**9),
            (format_datetime(START.replace(microsecond=0) + timedelta(minutes=2), usegmt=True), 119.75),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("", None),
            ("soon", None),
            ("-5", None),
            ("1.5", None),
            ("Thu, 01 Jan 1970 00:00:00", None),
            ("\x00" * 50, None),
        ],
    )
    def test_a_pause_is_asked_for_in_seconds_or_by_a_date(self, retry_after: str, seconds: float | None) -> None:
        assert pause_asked_for(retry_after, START) == seconds

    @pytest.mark.parametrize(("status", "after_s"), [(429, 7), (503, 7), (500, 7)])
    async def test_a_pause_that_is_asked_for_is_told(self, status: int, after_s: float) -> None:
        async with http(answering(status, **{"Retry-After": "7"})) as url:
            with pytest.raises(ThrottledError, match="asks for a pause of 7 s") as caught:
                await webhook(url).send(EVENT)
        assert caught.value.after_s == after_s

    @pytest.mark.parametrize("status", [301, 410, 413])
    def test_no_pause_makes_another_answer_of_these(self, status: int) -> None:
        assert not isinstance(refused("webhook a", status, "7", START), ThrottledError)

    def test_429_without_a_pause_is_one_of_a_minute(self) -> None:
        assert isinstance(error := refused("webhook a", 429, "", START), ThrottledError)
        assert error.after_s == 60


class TestEnemies:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_a_redirect_is_not_followed(self, status: int) -> None:
        followed: list[str] = []

        async def seen(request: web.Request) -> web.StreamResponse:
            followed.append(request.path)
            return web.Response()

        async with http(seen) as inside:
            for target in (inside, "http://169.254.169.254/metadata/instance?api-version=2021-02-01"):
                async with http(answering(status, Location=target)) as url:
                    with pytest.raises(UnavailableError, match="redirects are not followed") as caught:
                        await webhook(url).send(EVENT)
                assert "169.254" not in str(caught.value)
        assert followed == []

    async def test_an_answer_byte_by_byte_ends_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.4)

        async def drip(writer: asyncio.StreamWriter) -> None:
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)

        async with raw(drip) as url:
            began = time.monotonic()
            with pytest.raises(UnansweredError, match=r"no answer in 0\.4 s"):
                await webhook(url).send(EVENT)
        assert time.monotonic() - began < 2

    async def test_a_server_that_says_nothing_ends_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.2)
        async with raw(lambda _: asyncio.sleep(5)) as url:
            with pytest.raises(UnansweredError, match=r"no answer in 0\.2 s"):
                await webhook(url).send(EVENT)

    async def test_a_body_without_end_is_not_read(self) -> None:
        written = 0

        async def pour(writer: asyncio.StreamWriter) -> None:
            nonlocal written
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while written < 500_000_000:
                writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                written += 0x10000
                await writer.drain()

        async with raw(pour) as url:
            began = time.monotonic()
            assert await webhook(url).send(EVENT) == "200"
        assert time.monotonic() - began < 3
        assert written < 20_000_000

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        ],
        ids=["nothing", "another protocol", "no status", "headers without end", "a header without end"],
    )
    async def test_what_is_no_http_is_no_answer(self, answer: bytes) -> None:
        async def say(writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            await writer.drain()

        async with raw(say) as url:
            with pytest.raises(UnansweredError) as caught:
                await webhook(url).send(EVENT)
        assert str(caught.value).startswith(f"webhook {LOOPBACK}: no answer (")
        assert IN_URL not in str(caught.value)

    async def test_a_cookie_is_not_sent_back(self) -> None:
        cookies: list[str | None] = []

        async def tracking(request: web.Request) -> web.StreamResponse:
            cookies.append(request.headers.get("Cookie"))
            return web.Response(headers={"Set-Cookie": "track=1"})

        async with http(tracking) as url:
            sender = webhook(url)
            await sender.send(EVENT)
            await sender.send(EVENT)
        assert cookies == [None, None]


class TestUnreachable:
    async def test_a_port_at_which_nothing_listens_is_no_answer(self) -> None:
        async with http(answering(200)) as url:
            pass
        with pytest.raises(UnansweredError, match=rf"^webhook {LOOPBACK}: no answer \(ClientConnectorError\)$"):
            await webhook(url).send(EVENT)

    async def test_a_name_that_is_not_known_says_so(self) -> None:
        with pytest.raises(UnansweredError, match="its host name is not known") as caught:
            await webhook(f"https://nowhere.invalid/{IN_URL}").send(EVENT)
        assert IN_URL not in str(caught.value)

    async def test_a_certificate_that_is_not_trusted_ends_it_before_anything_is_sent(self, tmp_path: Path) -> None:
        heard: list[bytes] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                heard.append(await reader.read(100))
            finally:
                writer.close()

        chain = tmp_path / "chain.pem"
        chain.write_bytes(authority().issue("localhost").bundle().to_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        server = await asyncio.start_server(accept, LOOPBACK, 0, ssl=context)
        try:
            with pytest.raises(UnansweredError, match="its certificate is not trusted here"):
                await webhook(f"https://localhost:{server.sockets[0].getsockname()[1]}/{IN_URL}").send(EVENT)
        finally:
            server.close()
        assert [data for data in heard if data] == []


def test_of_two_at_one_host_each_has_a_name_and_a_key_of_its_own() -> None:
    urls = ["https://a.test/1", "https://b.test/x", "https://a.test/2"]
    made = webhooks_at(urls, secrets=(), source=SOURCE, now=lambda: START)
    assert [each.name for each in made] == ["webhook 1 at a.test", "webhook b.test", "webhook 3 at a.test"]
    assert len({each.key for each in made}) == 3
    assert [each.key for each in made] == [
        each.key for each in webhooks_at(urls, secrets=[b"x" * 32], source="/else", now=lambda: START)
    ]
    assert not [each for each in made if "/" in each.key or "/" in each.name]
