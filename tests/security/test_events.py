"""Messages on the outbox: only an upload's name travels there, and no message makes an event of its own."""

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import BrokenMessageError, UnavailableError
from shared.function.intake import recheck
from shared.messages import EventType, RecheckUpload, decode
from shared.state.records import UploadStatus
from tests.rigs.scenes import Scene

HOST = "a.example.com"

FORGED = {
    "version": 1,
    "event_id": "1",
    "kind": "Certcast.CertificateLive",
    "subject": "neighbour.pfx",
    "at": "2026-01-01T00:00:00Z",
    "document": json.dumps({"name": "neighbour.pfx", "status": "live"}),
}


def test_the_message_of_old_that_held_an_event_is_none() -> None:
    with pytest.raises(BrokenMessageError):
        decode(RecheckUpload, json.dumps(FORGED))


@pytest.mark.parametrize("more", [{}, FORGED, {"document": "{}", "kind": "Certcast.CertificateRemoved"}])
async def test_a_message_that_names_an_upload_has_sent_what_stands_in_its_row_and_nothing_else(
    more: dict[str, Any], scene: Scene
) -> None:
    await scene.accepted("a.pfx", HOST)
    message = decode(RecheckUpload, json.dumps(more | {"version": 1, "name": "a.pfx", "events": True}))
    for _ in range(5):
        await recheck(scene.cloud, message)
    [event] = scene.storage.published
    assert (event.kind, event.subject) == (EventType.ACCEPTED, "a.pfx")
    assert json.loads(event.document)["status"] == "accepted"


@pytest.mark.parametrize("name", ["neighbour.pfx", "", "../bundles/x", "a" * 5000, "\x1b[2J"])
async def test_a_message_about_an_upload_that_is_not_there_has_nothing_sent(name: str, scene: Scene) -> None:
    await recheck(scene.cloud, RecheckUpload(name=name, events=True))
    assert scene.storage.published == []


async def test_a_count_of_tries_that_is_made_up_makes_no_event_be_given_up(scene: Scene) -> None:
    away = replace(scene.cloud, outlets=(Away(),))
    await scene.looked_at(await scene.upload("a.pfx", HOST), away)
    for attempt in (-(2**31), -1, 3, 2**31 - 1):
        await recheck(away, RecheckUpload(name="a.pfx", attempt=attempt, events=True))
    assert [event.kind for event in (await scene.record("a.pfx")).due] == [EventType.ACCEPTED]


async def test_an_event_that_the_topic_does_not_take_keeps_no_upload_unfinished(scene: Scene) -> None:
    await scene.join("web-0")
    cloud = replace(scene.cloud, outlets=(Away(),))
    record = await scene.looked_at(await scene.upload("a.pfx", HOST), cloud)
    assert record.etag
    await recheck(cloud, RecheckUpload(name="a.pfx", events=True))
    await scene.everyone_obeys("web-0")
    assert (await scene.record("a.pfx")).status is UploadStatus.LIVE


class Away:
    """A topic that cannot be reached."""

    key, name, at_once = "topic", "topic", True

    async def send(self, event: object) -> str:
        raise UnavailableError(f"no answer to {type(event).__name__}")
