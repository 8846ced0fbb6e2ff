"""Installing an upload once more: its rows are told again, what it serves is sealed under the key that seals now."""

from datetime import timedelta

import pytest

from shared.errors import UnavailableError
from shared.function.redeploy import redeploy
from shared.state.records import UploadRecord, UploadStatus
from tests.fakes.processes import Failing
from tests.rigs.scenes import PASSWORD, Scene, pfx


def sealed_again(scene: Scene, record: UploadRecord) -> bool:
    return scene.storage.bundles[record.bundle_id].stored_at == scene.storage.clock().replace(microsecond=0)


async def test_what_is_served_is_sealed_and_told_again(scene: Scene) -> None:
    await scene.join("web-0")
    record = await scene.accepted("a.pfx", "a.test")
    await scene.everyone_obeys("web-0")
    before = await scene.row("a.test")
    scene.storage.clock.advance(3600)
    pem = scene.storage.bundles[record.bundle_id].pem
    keys = await redeploy(scene.cloud, "a.pfx")
    assert [key.host_port for key in keys] == ["a.test:443"]
    assert (await scene.row("a.test")).generation == before.generation + 1
    assert await scene.told("web-0") == list(keys)
    assert sealed_again(scene, record)
    assert scene.storage.bundles[record.bundle_id].pem == pem


async def test_what_waits_behind_another_upload_is_sealed_again_and_told_to_no_instance(scene: Scene) -> None:
    await scene.join("web-0")
    behind = await scene.accepted("old.pfx", "a.test")
    ahead = await scene.accepted("new.pfx", "a.test", day=0.01)
    await scene.everyone_obeys("web-0")
    scene.storage.clock.advance(3600)
    assert await redeploy(scene.cloud, "old.pfx") == ()
    assert await scene.told("web-0") == []
    assert sealed_again(scene, behind)
    assert not sealed_again(scene, ahead)


async def test_a_scheduled_renewal_and_the_certificate_it_will_replace_are_both_sealed_again(scene: Scene) -> None:
    now = await scene.accepted("a.pfx", "a.test")
    later = await scene.accepted("a.pfx", "a.test", day=10)
    assert later.status is UploadStatus.SCHEDULED
    scene.storage.clock.advance(3600)
    assert await redeploy(scene.cloud, "a.pfx") == ()
    assert now.bundle_id != later.bundle_id
    assert sealed_again(scene, now)
    assert sealed_again(scene, later)


async def test_the_certificate_behind_a_rejected_upload_is_sealed_again(scene: Scene) -> None:
    accepted = await scene.accepted("a.pfx", "a.test")
    broken = pfx("a.test", password="another")
    await scene.looked_at(await scene.upload("a.pfx", content=broken, password=PASSWORD))
    assert (await scene.record("a.pfx")).status is UploadStatus.REJECTED
    scene.storage.clock.advance(3600)
    assert await redeploy(scene.cloud, "a.pfx") == ()
    assert sealed_again(scene, accepted)


async def test_a_bundle_that_is_gone_keeps_no_instance_from_being_told(scene: Scene) -> None:
    await scene.join("web-0")
    record = await scene.accepted("a.pfx", "a.test")
    await scene.everyone_obeys("web-0")
    del scene.storage.bundles[record.bundle_id]
    assert await redeploy(scene.cloud, "a.pfx")
    assert scene.storage.bundles == {}
    assert len(await scene.told("web-0")) == 1


async def test_a_key_that_cannot_be_used_leaves_everything_as_it_was(scene: Scene) -> None:
    await scene.accepted("a.pfx", "a.test")
    before = await scene.row("a.test")
    unable = scene.seen_by(Failing({"bundle seal": [UnavailableError("the vault is away")]}))
    with pytest.raises(UnavailableError):
        await redeploy(unable, "a.pfx")
    assert await scene.row("a.test") == before


async def test_a_removed_upload_is_not_sealed_again(scene: Scene) -> None:
    record = await scene.accepted("a.pfx", "a.test")
    await scene.looked_at(await scene.delete("a.pfx"))
    scene.storage.clock.advance(timedelta(days=1).total_seconds())
    assert await redeploy(scene.cloud, "a.pfx") == ()
    assert await redeploy(scene.cloud, "unknown.pfx") == ()
    assert not sealed_again(scene, record)
