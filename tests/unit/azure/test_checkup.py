"""What the edges' checks make of clocks, tokens and addresses."""

import asyncio
import base64
import json
import socket
import threading
from datetime import timedelta

import pytest

from shared.azure.checkup import CLOCK_NOTED, CLOCK_WRONG, KeyTrial, address_fault, clock_seen, outlet_checks, whose
from shared.errors import KeyUnusableError
from shared.state.findings import Result, Severity, make_checks


def token(**claims: str) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.signature"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (token(upn="alice@example.com", oid="1"), "upn alice@example.com, oid 1"),
        (token(appid="2", oid="1"), "appid 2, oid 1"),
        (token(upn="\u202e\n"), "upn \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        (token(), "a token that does not tell whose it is"),
        ("opaque", "a token that does not tell whose it is"),
        ("a.%%%.c", "a token that does not tell whose it is"),
        ("a.W10.c", "a token that does not tell whose it is"),
    ],
    ids=["a person", "an application", "an odd name", "nobody", "no JWT", "no base64", "a list"],
)
def test_a_token_tells_whose_it_is(given: str, said: str) -> None:
    assert whose(given) == said


@pytest.mark.parametrize("sign", [1, -1], ids=["ahead", "behind"])
def test_a_clock_is_noted_wrong_before_requests_are_refused_for_it(sign: int) -> None:
    assert clock_seen(sign * (CLOCK_NOTED - timedelta(seconds=1))).findings == ()
    [noted] = clock_seen(sign * CLOCK_NOTED).findings
    assert noted.severity is Severity.WARNING
    [wrong] = clock_seen(sign * CLOCK_WRONG).findings
    assert (wrong.code, wrong.severity) == ("clock", Severity.WRONG)
    assert f"5 min {'behind' if sign > 0 else 'ahead of'} the storage account's" in wrong.detail


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://certcast.westeurope-1.eventgrid.azure.net/api/events", True),
        ("http://127.0.0.1:4242/api/events", True),
        ("http://certcast.example/api/events", False),
        ("certcast.westeurope-1.eventgrid.azure.net/api/events", False),
        ("/subscriptions/1/resourceGroups/g/providers/Microsoft.EventGrid/topics/t", False),
        ("https://[::1", False),
        ("https://h:port/", False),
        ("https:///api/events", False),
    ],
)
def test_an_address_that_events_cannot_go_to_is_told_as_it_is_written(url: str, *, fine: bool) -> None:
    assert (address_fault("CERTCAST_EVENTGRID_TOPIC", url) is None) is fine


async def test_an_address_is_connected_to_and_sent_nothing() -> None:
    received = asyncio.Queue[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await received.put(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = taken.getsockname()[1]
        outlets = {"A": f"http://127.0.0.1:{port}/x", "B": f"http://127.0.0.1:{closed}/", "C": "no address"}
        form, there, away = await make_checks(outlet_checks(outlets))
    assert [finding.about for finding in form.seen.findings] == ["C"]
    assert (there.name, there.result) == ("A answers", Result.OK)
    assert (away.name, away.result) == ("B answers", Result.WARNING)
    assert await received.get() == b""
    server.close()
    await server.wait_closed()


class HangingBundles:
    """A vault that answers when told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer = threading.Event()
        self.error: Exception | None = None

    def try_key(self) -> str:
        self.asked += 1
        self.answer.wait(10)
        if self.error is not None:
            raise self.error
        return "https://shop.vault.azure.net/keys/certcast/1"


async def test_a_vault_that_hangs_is_asked_once_however_often_one_wants_to_know() -> None:
    vault = HangingBundles()
    trial = KeyTrial(vault)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(trial.key(), 0.02)
    assert vault.asked == 1
    vault.answer.set()
    assert "wrapped a value" in (await trial.key()).remark
    vault.error = KeyUnusableError("the key is disabled")
    [finding] = (await trial.key()).findings
    assert (finding.code, finding.about, finding.detail) == (
        "key",
        "CERTCAST_KEY_ENCRYPTION_KEY",
        "the key is disabled",
    )
