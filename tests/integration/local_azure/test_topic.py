"""The local Event Grid topic refuses what the service refuses, and takes what azure-eventgrid's publisher sends."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from azure.core.credentials_async import AsyncTokenCredential

from local_azure.eventgrid.topic import ReceivedEvent, TopicReceiver
from shared.azure.topic import Topic
from shared.errors import AccessDeniedError, ConfigurationError, UnavailableError
from shared.messages import EventType, OutgoingEvent
from tests.fakes.storage import START

BATCH = "application/cloudevents-batch+json"
SINGLE = "application/cloudevents+json"
EVENT = {"specversion": "1.0", "id": "1", "source": "/certcast", "type": "Certcast.CertificateLive"}
OUTGOING = OutgoingEvent(
    event_id="e1",
    kind=EventType.REJECTED,
    subject="kunden/größe.pfx",
    at=START,
    document=json.dumps({"status": "rejected", "violations": [{"code": "expired", "detail": "it ended"}]}),
    traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
)

SOURCE = "https://uploads1.blob.core.windows.net/certificates"

heard: list[ReceivedEvent] = []


@pytest.fixture
async def receiver() -> AsyncIterator[TopicReceiver]:
    heard.clear()
    running = await TopicReceiver("the-key", heard.append).start()
    yield running
    await running.stop()


def no_identity() -> AsyncTokenCredential:
    raise AssertionError("a key was given")


def topic(receiver: TopicReceiver, key: str = "the-key") -> Topic:
    return Topic(receiver.endpoint, key=key, credential=no_identity, source=SOURCE)


async def post(receiver: TopicReceiver, body: Any, content_type: str) -> int:
    headers = {"aeg-sas-key": "the-key", "Content-Type": content_type}
    async with (
        aiohttp.ClientSession() as session,
        session.post(receiver.endpoint, data=json.dumps(body), headers=headers) as answer,
    ):
        return answer.status


async def test_what_the_publisher_sends_arrives_as_a_cloudevent(receiver: TopicReceiver) -> None:
    publisher = topic(receiver)
    await publisher.send(OUTGOING)
    await publisher.close()
    [event] = heard
    assert event.data == json.loads(OUTGOING.document)
    attributes = dict(event.attributes)
    assert attributes.pop("time").startswith("2026-03-01T12:00:00.25")
    assert attributes == {
        "specversion": "1.0",
        "id": "e1",
        "source": SOURCE,
        "dataschema": "urn:certcast:schema:upload:1",
        "type": "Certcast.CertificateRejected",
        "subject": "kunden/größe.pfx",
        "datacontenttype": "application/json",
        "traceparent": OUTGOING.traceparent,
    }
    assert "rejected" in str(event)
    assert "expired: it ended" in str(event)


async def test_a_wrong_key_is_refused_and_not_shown(receiver: TopicReceiver) -> None:
    publisher = topic(receiver, "guessed")
    with pytest.raises(AccessDeniedError) as caught:
        await publisher.send(OUTGOING)
    await publisher.close()
    assert "guessed" not in str(caught.value)
    assert heard == []


async def test_a_topic_that_is_away_is_to_be_tried_later_and_found_at_the_same_port(receiver: TopicReceiver) -> None:
    publisher = topic(receiver)
    endpoint = receiver.endpoint
    await receiver.stop()
    with pytest.raises(UnavailableError):
        await publisher.send(OUTGOING)
    await receiver.start()
    assert receiver.endpoint == endpoint
    await publisher.send(OUTGOING)
    await publisher.close()
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ([EVENT, EVENT], BATCH, 200),
        ([], BATCH, 200),
        (EVENT, SINGLE, 200),
        (EVENT, BATCH, 400),
        ([EVENT], SINGLE, 400),
        ([EVENT], "application/json", 400),
        ([EVENT, EVENT | {"specversion": "0.3"}], BATCH, 400),
        ([EVENT | {"id": ""}], BATCH, 400),
        ([EVENT, 1], BATCH, 400),
    ],
)
async def test_a_batch_is_taken_whole_or_not_at_all(
    receiver: TopicReceiver, body: Any, content_type: str, status: int
) -> None:
    assert await post(receiver, body, content_type) == status
    assert len(heard) == (0 if status == 400 else len(body) if isinstance(body, list) else 1)


async def test_a_port_that_is_taken_is_said_in_a_sentence(receiver: TopicReceiver) -> None:
    port = int(receiver.endpoint.rpartition(":")[2].partition("/")[0])
    with pytest.raises(ConfigurationError, match=f"port {port} for the event topic is taken"):
        await TopicReceiver("k").start(port)
