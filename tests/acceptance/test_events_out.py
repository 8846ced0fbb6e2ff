"""What other services hear: sent by the Function, taken by the local cloud's topic and by a webhook's receiver."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import pytest_asyncio

from local_azure.eventgrid.topic import ReceivedEvent
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from tests.rigs.certificates import authority
from tests.rigs.command_line import certcast, clean_environment
from tests.rigs.event_schemas import check_event
from tests.rigs.receiver import Receiver
from tests.rigs.signatures import is_signed
from tests.rigs.witness import PASSWORD, Witness, eventually, witnessed

AGENTS = 2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

heard: list[ReceivedEvent] = []
receiver = Receiver()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Witness]:
    heard.clear()
    receiver.posted.clear()
    await receiver.start()
    environment = {
        "CERTCAST_PORTS": "443,8443,8444",
        "CERTCAST_WEBHOOK": receiver.url,
        "CERTCAST_WEBHOOK_SECRET": SECRET,
    }
    settings = PlatformSettings(
        agents=AGENTS, ports=FREE_PORTS, on_event=heard.append, function_environment=environment
    )
    try:
        async with witnessed(settings) as witness:
            yield witness
    finally:
        await receiver.stop()


def about(name: str) -> list[str]:
    """The types of the events about an upload, each once, in the order in which they were first heard."""
    kinds = [event.attributes["type"].removeprefix("Certcast.Certificate") for event in heard if subject(event) == name]
    return list(dict.fromkeys(kinds))


def subject(event: ReceivedEvent) -> str:
    return str(event.attributes["subject"])


async def hears(name: str, kind: str, patience_s: float = 40) -> ReceivedEvent:
    """Wait for an event, which must be as its schema says."""

    async def found() -> ReceivedEvent | None:
        wanted = (name, f"Certcast.Certificate{kind}")
        return next((event for event in heard if (subject(event), event.attributes["type"]) == wanted), None)

    event = await eventually(found, f"the event {kind} about {name}", patience_s)
    assert event is not None
    check_event({**event.attributes, "data": event.data})
    return event


async def test_an_upload_is_told_of_when_it_is_accepted_and_when_it_is_live(cloud: Witness) -> None:
    issued = authority().issue("told.test")
    await cloud.upload("told/größe.pfx", issued.pfx(PASSWORD))
    accepted = await hears("told/größe.pfx", "Accepted")
    live = await hears("told/größe.pfx", "Live")
    assert live.data["fingerprint_sha256"] == issued.fingerprint
    assert (live.data["live"], live.data["expected"]) == (AGENTS, AGENTS)
    assert live.attributes["traceparent"] == accepted.attributes["traceparent"]
    assert live.attributes["id"] != accepted.attributes["id"]


@pytest.mark.usefixtures("cloud")
async def test_a_webhook_is_told_the_same_in_the_same_order_and_can_see_who_says_it() -> None:
    name = "told/größe.pfx"
    live = await hears(name, "Live")

    async def all_taken() -> bool:
        return receiver.taken(name) == ["Accepted", "Live"]

    await eventually(all_taken, "the webhook to be told", 40)
    posted = [each for each in receiver.posted if each.event["subject"] == name]
    # But for the time, whose last zeros the SDK leaves out.
    assert posted[-1].event | {"time": ""} == {**live.attributes, "data": live.data, "time": ""}
    for each in posted:
        check_event(each.event)
        assert is_signed(each.headers, each.body, SECRET)
        assert each.headers["webhook-id"] == each.event["id"]
        assert each.event["source"].endswith("/devstoreaccount1/certificates")


async def test_a_webhook_that_is_away_costs_neither_uploads_nor_the_topic_anything(cloud: Witness) -> None:
    receiver.status = 503
    name = "told/away.pfx"
    await cloud.upload(name, authority().issue("away.told.test").pfx(PASSWORD))
    await cloud.becomes(name, "live", live=AGENTS)
    await hears(name, "Live")

    async def tried() -> bool:
        return any(each.event["subject"] == name for each in receiver.posted)

    await eventually(tried, "the Function to meet the webhook that is away")
    assert receiver.taken(name) == []
    receiver.status = 202

    async def all_taken() -> bool:
        return receiver.taken(name) == ["Accepted", "Live"]

    await eventually(all_taken, "the webhook to be told once it is back", 40)
    ids = [event.attributes["id"] for event in heard if subject(event) == name]
    assert len(set(ids)) == 2
    shown = "\n".join(line for who, line in cloud.lines if who == "functions")
    assert "webhook 127.0.0.1 answered 503" in shown
    assert Receiver.IN_PATH not in shown
    assert SECRET.removeprefix("whsec_") not in shown


async def test_a_test_event_goes_through_every_outlet(cloud: Witness) -> None:
    function_key = {"x-functions-key": cloud.platform.keys.function}
    async with (
        aiohttp.ClientSession(headers=function_key) as session,
        session.post(f"{cloud.platform.functions_url}/api/notify") as answer,
    ):
        assert answer.status == 200
        document = await answer.json()
    assert [(each["outlet"], each["taken"], each["answer"]) for each in document["outlets"]] == [
        ("topic 127.0.0.1", True, "taken"),
        ("webhook 127.0.0.1", True, "202"),
    ]
    [posted] = [each for each in receiver.posted if each.event["id"] == document["event_id"]]
    check_event(posted.event)
    assert posted.event["type"] == "Certcast.Test"
    assert document["event_id"] in [event.attributes["id"] for event in heard]


async def test_certcast_notify_has_the_function_send_one_and_says_who_took_it(cloud: Witness) -> None:
    receiver.status = 500
    environment = clean_environment(CERTCAST_FUNCTION_KEY=cloud.platform.keys.function)
    try:
        ran = await certcast("notify", "--test", "--url", cloud.platform.functions_url, env=environment)
    finally:
        receiver.status = 202
    assert ran.code == 1
    lines = [line.split("  ") for line in ran.out.splitlines()]
    assert [[cell.strip() for cell in line if cell.strip()][:3] for line in lines] == [
        ["taken", "topic 127.0.0.1", "taken"],
        ["not taken", "webhook 127.0.0.1", "webhook 127.0.0.1 answered 500"],
    ]
    ran = await certcast("notify", "--test", "--url", cloud.platform.functions_url, "--json", env=environment)
    assert (ran.code, [each["taken"] for each in ran.document["outlets"]]) == (0, [True, True])


async def test_a_rejection_is_told_with_its_reasons(cloud: Witness) -> None:
    await cloud.upload("bad.pfx", authority().issue("bad.test").pfx(PASSWORD), HostHeader="elsewhere.test")
    event = await hears("bad.pfx", "Rejected")
    [violation] = event.data["violations"]
    assert violation["code"] == "host_not_covered"
    assert "elsewhere.test" in violation["detail"]


async def test_the_loser_of_an_election_is_told_of_as_superseded(cloud: Witness) -> None:
    now = datetime.now(UTC)
    older = authority().issue("contested.test", not_before=now - timedelta(days=9))
    await cloud.goes_live("older.pfx", older, live=AGENTS)
    await cloud.upload("newer.pfx", authority().issue("contested.test").pfx(PASSWORD))
    event = await hears("older.pfx", "Superseded")
    assert "newer.pfx" in event.data["reason"]


async def test_a_removal_is_told_once_no_instance_serves_it_any_more(cloud: Witness) -> None:
    issued = authority().issue("leaving.test")
    await cloud.goes_live("leaving.pfx", issued, live=AGENTS)
    assert await cloud.account.uploads.delete("leaving.pfx")
    await hears("leaving.pfx", "Removed")
    assert issued.fingerprint not in await cloud.served("leaving.test")


async def test_what_one_agent_cannot_serve_is_told_of_as_partially_live_and_as_live_once_it_can(cloud: Witness) -> None:
    port = 8443
    with socket.create_server(cloud.platform.tls_address(1, port)):
        await cloud.upload("half.pfx", authority().issue("half.test").pfx(PASSWORD), PortNumber=str(port))
        event = await hears("half.pfx", "PartiallyLive")
        assert (event.data["live"], event.data["expected"]) == (AGENTS - 1, AGENTS)
        assert event.data["reason"].startswith(f"instance agent-1, half.test:{port}: cannot listen on")
    whole = await hears("half.pfx", "Live")
    assert (whole.data["live"], whole.data["expected"]) == (AGENTS, AGENTS)
    assert not whole.data["reason"]


async def test_what_no_agent_can_serve_is_told_of_as_failed(cloud: Witness) -> None:
    port = 8444
    with ExitStack() as taken:
        for number in range(AGENTS):
            taken.enter_context(socket.create_server(cloud.platform.tls_address(number, port)))
        await cloud.upload("unserved.pfx", authority().issue("unserved.test").pfx(PASSWORD), PortNumber=str(port))
        event = await hears("unserved.pfx", "InstallFailed")
        assert (event.data["live"], event.data["expected"]) == (0, AGENTS)
        assert "cannot listen on" in event.data["reason"]
        assert "Live" not in about("unserved.pfx")
    assert await cloud.account.uploads.delete("unserved.pfx")
    await hears("unserved.pfx", "Removed")


async def test_a_certificate_that_ends_soon_is_told_of_after_a_sweep(cloud: Witness) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=5)
    await cloud.goes_live("ending.pfx", authority().issue("ending.test", not_after=ends), live=AGENTS)
    await cloud.sweep()
    event = await hears("ending.pfx", "Expiring")
    assert event.data["not_after"] == f"{ends:%Y-%m-%dT%H:%M:%SZ}"


async def test_a_topic_that_is_away_delays_nothing_and_loses_nothing(cloud: Witness) -> None:
    names = [f"away-{number}.pfx" for number in range(5)]
    await cloud.platform.topic.stop()
    for name in names:
        await cloud.upload(name, authority().issue(name.replace(".pfx", ".test")).pfx(PASSWORD))
    for name in names:
        await cloud.becomes(name, "live", live=AGENTS)

    async def noticed() -> bool:
        return any("no answer from the service" in line for who, line in cloud.lines if who == "functions")

    await eventually(noticed, "the Function to meet the topic that is away")
    assert not any(about(name) for name in names)
    await cloud.platform.topic.start()
    for name in names:
        await hears(name, "Accepted", patience_s=90)
        await hears(name, "Live", patience_s=90)


async def test_every_event_is_shown_among_the_components_lines(cloud: Witness) -> None:
    await hears("told/größe.pfx", "Live")
    shown = [line for who, line in cloud.lines if who == "topic"]
    assert any("Certcast.CertificateLive · told/größe.pfx · live 2/2" in line for line in shown), shown


async def test_the_topic_takes_nothing_without_its_key(cloud: Witness) -> None:
    event = {"specversion": "1.0", "id": "guessed", "source": "/certcast", "type": "Certcast.CertificateLive"}
    headers = {"aeg-sas-key": "guessed", "Content-Type": "application/cloudevents-batch+json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(cloud.platform.topic.endpoint, data=json.dumps([event]), headers=headers) as answer,
    ):
        assert answer.status == 401
    await asyncio.sleep(0)
    # Not by their number: those of the test before may come twice, and a moment later.
    assert "guessed" not in [event.attributes["id"] for event in heard]


async def test_no_event_holds_a_password_or_a_key(cloud: Witness) -> None:
    told = json.dumps([[dict(event.attributes), event.data] for event in heard])
    assert heard
    assert PASSWORD not in told
    assert "PRIVATE KEY" not in told
    assert cloud.platform.topic.key not in "\n".join(line for _, line in cloud.lines)
