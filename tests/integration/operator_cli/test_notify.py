"""`certcast notify` as a person runs it, against a receiver of webhooks."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rigs.command_line import Ran, certcast, clean_environment
from tests.rigs.event_schemas import check_event
from tests.rigs.receiver import Receiver
from tests.rigs.signatures import is_signed

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDgSHEQHJBRfEi"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    running = await Receiver().start()
    yield running
    await running.stop()


def nothing_secret_in(ran: Ran) -> bool:
    said = ran.out + ran.err
    return Receiver.IN_PATH not in said and SECRET.removeprefix("whsec_") not in said and "Traceback" not in said


async def test_a_test_event_is_sent_once_signed_and_its_answer_is_shown(receiver: Receiver, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.txt"
    secrets.write_text(f"{SECRET}\n{OLD_SECRET}\n")
    ran = await certcast(
        *("notify", "--test", "--webhook", receiver.url, "--webhook-secret-file", str(secrets)), env=clean_environment()
    )
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("taken  webhook 127.0.0.1  202  0.")
    assert nothing_secret_in(ran)
    [posted] = receiver.posted
    check_event(posted.event)
    assert (posted.event["type"], posted.event["source"]) == ("Certcast.Test", "urn:certcast:notify")
    assert is_signed(posted.headers, posted.body, SECRET)
    assert is_signed(posted.headers, posted.body, OLD_SECRET)
    assert abs(int(posted.headers["webhook-timestamp"]) - time.time()) < 60


async def test_what_is_not_taken_is_said_for_each_and_ends_in_1(receiver: Receiver) -> None:
    receiver.status = 404
    environment = clean_environment(
        CERTCAST_WEBHOOK=f"{receiver.url} http://127.0.0.1:1/{Receiver.IN_PATH}",
        CERTCAST_WEBHOOK_SECRET=SECRET,
        CERTCAST_EVENT_SOURCE="https://example.com/certcast",
    )
    ran = await certcast("notify", "--test", "--json", env=environment)
    assert ran.code == 1
    first, second = ran.document["outlets"]
    assert (first["outlet"], first["taken"]) == ("webhook 1 at 127.0.0.1", False)
    assert first["answer"] == "webhook 1 at 127.0.0.1 answered 404"
    assert second["answer"] == "webhook 2 at 127.0.0.1: no answer (ClientConnectorError)"
    assert all(each["seconds"] >= 0 for each in (first, second))
    [posted] = receiver.posted
    assert posted.event["id"] == ran.document["event_id"]
    assert posted.event["source"] == "https://example.com/certcast"
    assert nothing_secret_in(ran)
    ran = await certcast("notify", "--test", env=environment)
    assert (ran.code, ran.err) == (1, "")
    assert "not taken  webhook 1 at 127.0.0.1  webhook 1 at 127.0.0.1 answered 404" in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say so with --test"),
        (["--test"], "nowhere to send it: give --url, or --webhook, or set CERTCAST_WEBHOOK"),
        (
            ["--test", "--webhook", "http://example.com/s3cret-in-the-path"],
            "--webhook: the address must begin with https",
        ),
        (["--test", "--webhook", "https://a.test/", "--url", "https://b.test"], "leave out --webhook and its secret"),
        (
            ["--test", "--webhook", "https://a.test/", "--webhook-secret-file", "none.txt"],
            "none.txt cannot be read (No",
        ),
        (["--test", "--url", "https://b.test"], "CERTCAST_FUNCTION_KEY is not set"),
    ],
)
async def test_wrong_usage_is_a_sentence_and_ends_in_2(arguments: list[str], said: str) -> None:
    ran = await certcast("notify", *arguments, env=clean_environment())
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""
    assert nothing_secret_in(ran)


@pytest.mark.parametrize(
    ("content", "said"), [(b"s3cret", "24 to 64 bytes in base64"), (b"\xff\xfe\xff", "is not a text file")]
)
async def test_a_file_without_a_secret_is_refused_and_not_shown(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_bytes(content)
    arguments = ("notify", "--test", "--webhook", "https://a.test/", "--webhook-secret-file", str(path))
    ran = await certcast(*arguments, "--json", env=clean_environment())
    assert ran.code == 2
    assert "s3cret" not in ran.out + ran.err
    assert said in ran.document["error"]
