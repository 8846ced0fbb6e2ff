"""What the service refuses about tags stands in the way of nothing, is said once, and is made good when it can be."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from shared.errors import CertcastError, HeldError, RefusedForNowError, UnavailableError, UnsupportedError
from shared.function.cloud import Cloud
from shared.function.in_process import MOST_BLOBS, BlobTrouble
from shared.function.intake import look_at
from shared.function.results import fold
from shared.function.sweep import sweep
from shared.function.tagging import WRITE_TRIES
from shared.messages import RESULTS_QUEUE, InstallOutcome, InstallReport, decode, queue_of
from shared.state.document import upload_document
from shared.state.records import UploadStatus
from shared.state.tags import MAX_TAGS, merged, status_tags
from tests.fakes.processes import Mortal, ProcessDiedError, StandingStill
from tests.rigs.scenes import PASSWORD, Scene, pfx

TAGS = "blob set_tags"
REFUSED = RefusedForNowError("writing the tags of blob: refused (AuthorizationPermissionMismatch)")
HELD = HeldError("writing the tags of blob: refused (LeaseIdMissing); the blob is under a lease")
BUSY = UnavailableError("writing the tags of blob: the service answered 503")
NONE = UnsupportedError("writing the tags of blob: this storage account has no such feature (FeatureNotEnabled)")


class Untaggable:
    """Steps of a process whose writes of tags end in an error until it is taken away; counts them."""

    def __init__(self, error: CertcastError) -> None:
        self.error: CertcastError | None = error
        self.tried = 0
        self.scrubbed = 0

    async def __call__(self, what: str) -> None:
        if what == "blob set_metadata":
            self.scrubbed += 1
        if what == TAGS:
            self.tried += 1
            if self.error is not None:
                raise self.error


@pytest.fixture(params=[REFUSED, HELD, BUSY, NONE], ids=lambda error: type(error).__name__)
def step(request: pytest.FixtureRequest) -> Untaggable:
    """A Function whose tags are refused in every way."""
    return Untaggable(request.param)


async def minute(scene: Scene, *names: str, cloud: Cloud | None = None) -> None:
    """A minute goes by, and a sweep comes."""
    scene.storage.clock.advance(60)
    await scene.beat(*names)
    assert (await sweep(cloud or scene.cloud)).problems == []


class TestARefusal:
    async def test_does_not_keep_an_accepted_upload_from_its_end(self, step: Untaggable) -> None:
        scene = Scene(step=step)
        await scene.join("i0", "i1")
        record = await scene.accepted("a.pfx", "a.example.com")
        assert record.status is UploadStatus.ACCEPTED
        assert record.etag == (await scene.outside.uploads.version("a.pfx")).etag  # type: ignore[union-attr]
        assert "CertificatePassword" not in await scene.metadata("a.pfx")
        await scene.everyone_obeys("i0", "i1")
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE

    async def test_does_not_keep_a_rejected_upload_from_its_end(self, step: Untaggable) -> None:
        scene = Scene(step=step)
        await scene.handle(await scene.upload("a.pfx", content=b"no certificate"))
        record = await scene.record("a.pfx")
        assert (record.status, record.etag) == (UploadStatus.REJECTED, record.source_etag)
        assert await scene.rechecks() == []

    async def test_has_no_instance_told_again(self, step: Untaggable) -> None:
        scene = Scene(step=step)
        await scene.join("i0")
        await scene.accepted("a.pfx", "a.example.com")
        await scene.everyone_obeys("i0")
        for _ in range(10):
            await minute(scene, "i0")
        assert scene.storage.queues[queue_of("i0")] == {}
        assert step.scrubbed == 1

    async def test_is_said_once_however_many_uploads_it_concerns(
        self, step: Untaggable, caplog: pytest.LogCaptureFixture
    ) -> None:
        scene = Scene(step=step)
        for number in range(5):
            await scene.accepted(f"{number}.pfx", f"{number}.example.com")
        for _ in range(10):
            await minute(scene)
        said = [record.message for record in caplog.records if "tags" in record.message]
        by_blob = 5 if step.error in {HELD, BUSY} else 1
        assert len(said) == by_blob, said

    @pytest.mark.parametrize("error", [REFUSED, HELD, BUSY], ids=lambda error: type(error).__name__)
    async def test_that_ends_has_them_written(self, error: CertcastError) -> None:
        step = Untaggable(error)
        scene = Scene(step=step)
        for name in ("a", "b"):
            await scene.accepted(f"{name}.pfx", f"{name}.example.com")
            assert await scene.tags(f"{name}.pfx") == {}
        assert upload_document(await scene.record("a.pfx"))["tags_refused"] == str(step.error)
        step.error = None
        await minute(scene)
        for name in ("a.pfx", "b.pfx"):
            assert (await scene.tags(name))["certcast_status"] == "accepted"
            assert upload_document(await scene.record(name))["tags_refused"] is None
        tried = step.tried
        await minute(scene)
        assert step.tried == tried

    async def test_that_ends_is_met_by_another_process_too(self, scene: Scene) -> None:
        step = Untaggable(REFUSED)
        scene.cloud = scene.seen_by(step)
        await scene.accepted("a.pfx", "a.example.com")
        await minute(scene, cloud=scene.outside)
        assert (await scene.tags("a.pfx"))["certcast_status"] == "accepted"


class TestTries:
    async def test_of_an_identity_that_may_not_are_one_in_a_sweep(self) -> None:
        step = Untaggable(REFUSED)
        scene = Scene(step=step)
        for number in range(20):
            await scene.accepted(f"{number}.pfx", f"{number}.example.com")
        assert step.tried == 1
        await minute(scene)
        assert step.tried == 2
        await minute(scene)
        assert step.tried == 3

    async def test_of_a_blob_under_a_lease_become_rarer_and_concern_no_other(self) -> None:
        step = Untaggable(HELD)
        scene = Scene(step=step)
        await scene.accepted("held.pfx", "held.example.com")
        for _ in range(180):
            await minute(scene)
        assert 4 <= step.tried <= 8
        step.error = None
        await scene.accepted("free.pfx", "free.example.com")
        assert (await scene.tags("free.pfx"))["certcast_status"] == "accepted"

    async def test_of_an_account_without_tags_are_one_in_an_hour(self) -> None:
        step = Untaggable(NONE)
        scene = Scene(step=step)
        for number in range(5):
            await scene.accepted(f"{number}.pfx", f"{number}.example.com")
        assert step.tried == 1
        scene.storage.clock.advance(3600)
        await scene.accepted("later.pfx", "later.example.com")
        assert step.tried == 2
        assert upload_document(await scene.record("later.pfx"))["tags_refused"] is None

    def test_are_remembered_of_no_more_than_so_many_blobs(self, scene: Scene) -> None:
        trouble = BlobTrouble()
        for number in range(MOST_BLOBS + 10):
            assert trouble.met(f"{number}.pfx", HELD, scene.storage.clock())
        assert len(trouble.blobs) == MOST_BLOBS


async def test_an_upload_that_no_tags_were_written_for_before_gets_them(scene: Scene) -> None:
    """Such rows an earlier version left, and any process that ended between the row and the tags."""
    step = Untaggable(BUSY)
    scene.cloud = scene.seen_by(step)
    record = await scene.accepted("a.pfx", "a.example.com")
    assert record.tagged == ""
    await minute(scene, cloud=scene.outside)
    assert (await scene.record("a.pfx")).tagged
    assert PASSWORD not in repr(await scene.tags("a.pfx"))


async def test_tags_of_a_look_that_lands_over_a_later_ones_are_put_right(scene: Scene) -> None:
    """The later look has told its verdict when the earlier one's tags arrive."""
    slow = StandingStill(TAGS)
    first = asyncio.create_task(look_at(scene.seen_by(slow), await scene.upload("a.pfx", "a.example.com")))
    await slow.reached.wait()
    await scene.edit("a.pfx", HostHeader="b.example.com")
    record = await scene.looked_at("a.pfx")
    assert record.status is UploadStatus.REJECTED
    slow.go_on.set()
    await first
    assert (await scene.tags("a.pfx"))["certcast_status"] == "rejected"
    assert (await scene.record("a.pfx")).tagged


async def test_a_status_that_returns_is_told_again() -> None:
    """What a process that ended had written in between stands in no row."""
    dies_at, ended = 0, False
    while not ended:
        dies_at += 1
        scene = Scene()
        await scene.join("i0", "i1")
        await scene.accepted("a.pfx", "a.example.com")
        await scene.everyone_obeys("i0", "i1")
        row, mortal = await scene.row("a.example.com"), Mortal(dies_at=dies_at)
        scene.storage.clock.advance(1)
        await scene.report("i1", [row], outcome=InstallOutcome.FAILED, reason="another certificate")
        [message] = await scene.outside.queues.receive(RESULTS_QUEUE, limit=1, visibility_s=30)
        with suppress(ProcessDiedError):
            await fold(scene.seen_by(mortal), decode(InstallReport, message.body or ""))
        ended = mortal.steps.total() < dies_at
        scene.storage.queues[RESULTS_QUEUE].clear()
        scene.storage.clock.advance(1)
        await scene.proves("i1", "a.example.com")
        await minute(scene, "i0", "i1")
        record = await scene.record("a.pfx")
        assert record.status is UploadStatus.LIVE
        assert await scene.tags("a.pfx") == status_tags(record), dies_at
    assert dies_at > 5


async def test_tags_that_are_not_answered_are_asked_for_once_in_a_look_and_once_in_a_sweep() -> None:
    step = Untaggable(BUSY)
    scene = Scene(step=step)
    await scene.accepted("a.pfx", "a.example.com")
    assert step.tried == 1
    for sweeps in range(1, 4):
        await minute(scene)
        assert step.tried == 1 + sweeps


TEAM = {"team": "blue", "cost center": "4711"}


class TestTheUploadersOwnTags:
    async def test_stay_whatever_becomes_of_the_upload(self, scene: Scene) -> None:
        await scene.join("i0")
        for name, content in (("a.pfx", pfx("a.example.com")), ("bad.pfx", b"no certificate")):
            notice = await scene.upload(name, content=content)
            await scene.outside.uploads.set_tags(name, TEAM)
            await scene.handle(notice)
            assert await scene.tags(name) == TEAM | status_tags(await scene.record(name))
        await scene.everyone_obeys("i0")
        assert await scene.tags("a.pfx") == TEAM | status_tags(await scene.record("a.pfx"))
        assert (await scene.tags("a.pfx"))["certcast_status"] == "live"

    async def test_added_later_stay_too_and_certcasts_stale_ones_go(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("a.pfx", "a.example.com")
        await scene.everyone_obeys("i0", outcome=InstallOutcome.FAILED, reason="no such site")
        found = await scene.tags("a.pfx")
        assert found["certcast_reason"]
        await scene.outside.uploads.set_tags("a.pfx", found | TEAM | {"certcast_old": "of an earlier version"})
        scene.storage.clock.advance(1)
        await scene.proves("i0", "a.example.com")
        assert await scene.tags("a.pfx") == TEAM | status_tags(await scene.record("a.pfx"))
        assert "certcast_reason" not in await scene.tags("a.pfx")

    @pytest.mark.parametrize(
        ("own", "left_out"),
        [
            (6, []),
            (7, ["certcast_live"]),
            (8, ["certcast_reason", "certcast_live"]),
            (9, ["certcast_version", "certcast_reason", "certcast_live"]),
            (10, ["certcast_status", "certcast_version", "certcast_reason", "certcast_live"]),
        ],
    )
    async def test_leave_room_for_the_most_needed_of_certcasts(
        self, scene: Scene, own: int, left_out: list[str]
    ) -> None:
        theirs = {f"tag-{number}": "x" for number in range(own)}
        notice = await scene.upload("bad.pfx", content=b"no certificate")
        await scene.outside.uploads.set_tags("bad.pfx", theirs)
        await scene.handle(notice)
        record = await scene.record("bad.pfx")
        ours = status_tags(record)
        assert await scene.tags("bad.pfx") == theirs | {key: ours[key] for key in ours if key not in left_out}
        assert record.tags_refused.startswith(f"there is no room for {', '.join(left_out)}," if left_out else "")
        assert bool(record.tags_refused) is bool(left_out)
        await minute(scene)
        assert (await scene.record("bad.pfx")).tags_refused == record.tags_refused

    async def test_that_were_taken_away_make_room_with_the_next_status(self, scene: Scene) -> None:
        await scene.join("i0")
        notice = await scene.upload("a.pfx", "a.example.com")
        await scene.outside.uploads.set_tags("a.pfx", {f"tag-{number}": "x" for number in range(10)})
        await scene.handle(notice)
        assert (await scene.record("a.pfx")).tags_refused
        await scene.outside.uploads.set_tags("a.pfx", TEAM)
        await scene.everyone_obeys("i0")
        record = await scene.record("a.pfx")
        assert await scene.tags("a.pfx") == TEAM | status_tags(record)
        assert record.tags_refused == ""

    async def test_that_were_taken_away_make_room_for_the_status_there_is(self, scene: Scene) -> None:
        await scene.join("i0")
        notice = await scene.upload("a.pfx", "a.example.com")
        await scene.outside.uploads.set_tags("a.pfx", {f"tag-{number}": "x" for number in range(9)})
        await scene.handle(notice)
        await scene.everyone_obeys("i0")
        await minute(scene, "i0")
        told = await scene.record("a.pfx")
        assert "take some away" in told.tags_refused
        await scene.outside.uploads.set_tags("a.pfx", TEAM)
        for _ in range(60):
            await minute(scene, "i0")
        record = await scene.record("a.pfx")
        assert (record.status, record.tags_refused) == (UploadStatus.LIVE, "")
        assert await scene.tags("a.pfx") == TEAM | status_tags(record)

    async def test_that_stay_are_read_ever_more_seldom(self) -> None:
        steps = Mortal()
        scene = Scene(step=steps)
        notice = await scene.upload("bad.pfx", content=b"no certificate")
        await scene.outside.uploads.set_tags("bad.pfx", {f"tag-{number}": "x" for number in range(10)})
        await scene.handle(notice)
        steps.steps.clear()
        for _ in range(60):
            await minute(scene)
        assert steps.steps["blob tags"] in range(3, 7)
        assert (steps.steps[TAGS], steps.steps["uploads replace"]) == (0, 0)

    async def test_edited_between_reading_and_writing_stay_as_edited(self) -> None:
        edits = iter([{"team": "green"}, {"team": "red", "note": "x"}])
        scene = Scene(step=Editing(lambda: scene.outside, edits))
        notice = await scene.upload("a.pfx", "a.example.com")
        await scene.outside.uploads.set_tags("a.pfx", TEAM)
        await scene.handle(notice)
        record = await scene.record("a.pfx")
        assert await scene.tags("a.pfx") == {"team": "red", "note": "x"} | status_tags(record)
        assert record.tags_refused == ""

    async def test_edited_again_and_again_are_left_to_the_sweep(self) -> None:
        edits = iter([{"team": str(number)} for number in range(WRITE_TRIES)])
        scene = Scene(step=Editing(lambda: scene.outside, edits))
        notice = await scene.upload("a.pfx", "a.example.com")
        await scene.outside.uploads.set_tags("a.pfx", TEAM)
        await scene.handle(notice)
        record = await scene.record("a.pfx")
        assert (record.status, record.etag != "") == (UploadStatus.ACCEPTED, True)
        assert "changed meanwhile" in record.tags_refused
        await minute(scene)
        record = await scene.record("a.pfx")
        assert await scene.tags("a.pfx") == {"team": str(WRITE_TRIES - 1)} | status_tags(record)
        assert record.tags_refused == ""


class Editing:
    """Steps of a process whose every write of tags meets with an edit of them that came just before.

    Args:
        outside: The account as the uploader has it.
        edits: The tags that the uploader writes, one set before each write.
    """

    def __init__(self, outside: Callable[[], Cloud], edits: Iterator[dict[str, str]]) -> None:
        self._outside = outside
        self._edits = edits

    async def __call__(self, what: str) -> None:
        if what == TAGS and (edit := next(self._edits, None)) is not None:
            await self._outside().uploads.set_tags("a.pfx", edit)


def test_no_more_tags_are_written_than_a_blob_may_have() -> None:
    ours = {"certcast_status": "live", "certcast_live": "1/1", "certcast_version": "0x1"}
    for number in range(MAX_TAGS + 1):
        theirs = {f"t{index}": "" for index in range(number)}
        put = merged(theirs | {"certcast_reason": "old"}, ours)
        assert len(put.tags) == min(MAX_TAGS, number + len(ours))
        assert theirs.items() <= put.tags.items()
        assert put.tags.keys() | set(put.left_out) == theirs.keys() | ours.keys()
