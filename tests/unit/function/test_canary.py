"""Canaries: an event about one ends it, a sweep ends those left behind, and nothing else ever comes of one."""

import logging
from dataclasses import replace

import pytest

from shared.errors import AccessDeniedError
from shared.function.blob_event import Notice, read_event
from shared.function.canary import CANARY_KEEP
from shared.function.intake import recheck
from shared.function.sweep import sweep
from shared.messages import RecheckUpload
from shared.state.wholeness import WHOLENESS
from shared.upload import is_canary, is_certificate_name, new_canary_name
from tests.fakes.edges import FakeOutlet
from tests.rigs.scenes import Scene, pfx
from tests.rigs.some import some

SUBJECT = "/blobServices/default/containers/certificates/blobs/"


def told(name: str, kind: str = "Created") -> Notice | None:
    return read_event(f"Microsoft.Storage.Blob{kind}", SUBJECT + name, {}, None, container="certificates")


def watched() -> Scene:
    """A scene in which events would be published."""
    scene = Scene()
    scene.cloud = replace(scene.cloud, outlets=(FakeOutlet(scene.storage.published),))
    return scene


def nothing_came_of(scene: Scene) -> bool:
    kept = [scene.storage.bundles.keys() - {WHOLENESS}, scene.storage.published, *scene.storage.tables.values()]
    return not any(kept) and not any(scene.storage.queues.values())


async def written(scene: Scene, content: bytes = b"canary") -> str:
    name = new_canary_name()
    await scene.cloud.uploads.write(name, content, {"HostHeader": "www.example.com"})
    return name


def test_a_new_name_is_a_canarys_and_never_an_uploads() -> None:
    name = new_canary_name()
    assert is_canary(name)
    assert not is_certificate_name(name)
    assert new_canary_name() != name


@pytest.mark.parametrize(
    "name",
    [
        "certcast-doctor-1.pfx",
        "certcast-doctor-" + "0" * 32 + ".p12",
        "a/certcast-doctor-" + "0" * 32 + ".pfx",
        "certcast-doctor-" + "G" * 32 + ".pfx",
        "certcast-doctor-" + "0" * 32 + ".pfx\n",
    ],
    ids=repr,
)
def test_no_other_name_is_one(name: str) -> None:
    assert not is_canary(name)


def test_its_creation_is_noticed_and_its_end_is_not() -> None:
    name = new_canary_name()
    assert told(name) == Notice(name=name)
    assert told(name, "Deleted") is None


@pytest.mark.parametrize(
    "content", [b"canary", pfx("www.example.com")], ids=["a doctor's", "an enemy's, of a certificate"]
)
async def test_an_event_about_one_ends_it_and_nothing_else_comes_of_it(content: bytes) -> None:
    scene = watched()
    name = await written(scene, content)
    for _ in range(2):  # events come twice
        await scene.handle(some(told(name)))
    assert not scene.storage.uploads
    assert nothing_came_of(scene)


async def test_that_it_cannot_be_ended_is_logged_and_the_event_need_not_come_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(step: str) -> None:
        if step == "blob delete":
            raise AccessDeniedError("deleting: refused")

    scene = Scene(step=refuse)
    name = await written(scene)
    with caplog.at_level(logging.WARNING):
        await scene.handle(some(told(name)))
    assert [record.getMessage() for record in caplog.records] == [
        f"canary {name}: an event told of it, and it could not be deleted: deleting: refused"
    ]
    assert nothing_came_of(scene)


async def test_a_sweep_leaves_one_to_the_doctor_that_waits_and_ends_one_that_was_left_behind() -> None:
    scene = watched()
    name = await written(scene)
    scene.storage.clock.advance(CANARY_KEEP.total_seconds() - 2)
    for _ in range(2):
        report = await sweep(scene.cloud)
        assert (report.looked_at, report.problems) == ([], [])
        assert list(scene.storage.uploads) == [name]
    scene.storage.clock.advance(3)
    report = await sweep(scene.cloud)
    assert (report.forgotten, report.problems) == (1, [])
    assert not scene.storage.uploads
    assert nothing_came_of(scene)


async def test_a_message_that_names_one_is_dropped() -> None:
    scene = watched()
    name = await written(scene)
    assert await recheck(scene.cloud, RecheckUpload(name=name, attempt=0)) is None
    assert list(scene.storage.uploads) == [name]
    assert nothing_came_of(scene)
