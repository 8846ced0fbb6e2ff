"""Installing an upload once more: its rows are told again, what it serves is sealed under the key that seals now."""

import json
from datetime import timedelta

import pytest

from shared.errors import UnavailableError
from shared.function.intake import recheck
from shared.function.keeping import place_of
from shared.function.redeploy import redeploy
from shared.messages import RECHECK_QUEUE, RecheckUpload, decode, encode, new_traceparent
from shared.state.reasons import may_be_redeployed, nothing_to_redeploy
from shared.state.records import UploadRecord, UploadStatus
from tests.fakes.processes import Failing
from tests.rigs.scenes import PASSWORD, Scene, pfx
from tests.rigs.some import some


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
    assert (await scene.row("a.test")).generation > before.generation
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
    assert scene.storage.bundles[place_of("a.pfx")].stored_at > some(accepted.judged_at), "what it keeps in place, too"


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


class TestByMessage:
    WISH = RecheckUpload(name="a.pfx", traceparent=new_traceparent(), redeploy=True)

    async def live(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("a.pfx", "a.test")
        await scene.everyone_obeys("web-0")

    async def test_it_is_installed_once_more_and_live_again(self, scene: Scene) -> None:
        await self.live(scene)
        before = await scene.row("a.test")
        await recheck(scene.cloud, decode(RecheckUpload, encode(self.WISH)))
        assert (await scene.row("a.test")).generation == before.generation + 1
        record = await scene.record("a.pfx")
        assert (record.status, record.traceparent) == (UploadStatus.ACCEPTED, self.WISH.traceparent)
        await scene.everyone_obeys("web-0")
        record = await scene.record("a.pfx")
        assert (record.status, record.traceparent) == (UploadStatus.LIVE, self.WISH.traceparent)

    async def test_one_that_comes_twice_tells_the_instances_and_installs_nothing_twice(self, scene: Scene) -> None:
        await self.live(scene)
        await recheck(scene.cloud, self.WISH)
        await scene.everyone_obeys("web-0")
        row, record = await scene.row("a.test"), await scene.record("a.pfx")
        await recheck(scene.cloud, self.WISH)
        assert await scene.row("a.test") == row
        assert await scene.record("a.pfx") == record
        assert len(await scene.told("web-0")) == 1

    async def test_one_that_ended_in_the_middle_is_done_to_its_end_by_the_next(self, scene: Scene) -> None:
        await self.live(scene)
        row = await scene.row("a.test")
        dying = scene.seen_by(Failing({"uploads replace": [UnavailableError("the tables are away")]}))
        await recheck(dying, self.WISH)
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE  # the row was raised, and this was not begun
        await recheck(scene.cloud, self.WISH)
        assert (await scene.row("a.test")).generation == row.generation + 1
        await scene.everyone_obeys("web-0")
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE

    async def test_what_cannot_be_done_now_is_put_off_and_asked_for_again(self, scene: Scene) -> None:
        await self.live(scene)
        before = await scene.row("a.test")
        unable = scene.seen_by(Failing({"bundle seal": [UnavailableError("the vault is away")]}))
        await recheck(unable, self.WISH)
        assert await scene.row("a.test") == before
        scene.storage.clock.advance(10)
        [message] = await scene.storage.cloud().queues.receive(RECHECK_QUEUE, limit=32, visibility_s=30)
        again = decode(RecheckUpload, message.body or "")
        assert (again.redeploy, again.attempt, again.traceparent) == (True, 1, self.WISH.traceparent)

    async def test_one_for_what_is_not_there_is_dropped(self, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
        await recheck(scene.cloud, self.WISH)
        assert "upload a.pfx: it was asked to be installed once more, and serves no host" in caplog.text

    async def test_a_later_wish_is_another_one(self, scene: Scene) -> None:
        await self.live(scene)
        row = await scene.row("a.test")
        for _ in range(2):
            await recheck(scene.cloud, RecheckUpload(name="a.pfx", redeploy=True, traceparent=new_traceparent()))
        assert (await scene.row("a.test")).generation == row.generation + 2

    async def test_one_without_a_trace_is_a_wish_too(self, scene: Scene) -> None:
        await self.live(scene)
        row = await scene.row("a.test")
        await recheck(scene.cloud, RecheckUpload(name="a.pfx", redeploy=True, traceparent="nonsense"))
        assert (await scene.row("a.test")).generation == row.generation + 1


def test_a_message_of_an_older_version_is_no_wish() -> None:
    older = {key: value for key, value in json.loads(encode(RecheckUpload(name="a.pfx"))).items() if key != "redeploy"}
    assert decode(RecheckUpload, json.dumps(older)) == RecheckUpload(name="a.pfx")


@pytest.mark.parametrize("status", UploadStatus)
def test_what_may_be_redeployed_is_what_instances_may_serve(status: UploadStatus) -> None:
    served = {UploadStatus.ACCEPTED, UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED}
    record = UploadRecord(name="a.pfx", revision=1, status=status)
    assert may_be_redeployed(record) is (status in served)
    assert nothing_to_redeploy(record) == (
        f"upload a.pfx is {status.value} and serves no host, so there is nothing to install again"
    )


async def test_of_a_bad_renewal_it_is_said_that_what_is_in_place_stays_so(scene: Scene) -> None:
    await scene.accepted("a.pfx", "a.test")
    await scene.looked_at(await scene.upload("a.pfx", content=pfx("a.test", password="another"), password=PASSWORD))
    said = nothing_to_redeploy(await scene.record("a.pfx"))
    assert said.endswith(
        "rejected, and what was accepted before under its name is not installed again: upload a good one"
    )
