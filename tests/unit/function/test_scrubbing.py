"""The password that could not be taken out of an upload's metadata at once is taken out in the end."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from shared.errors import (
    AccessDeniedError,
    CertcastError,
    ConflictError,
    HeldError,
    RefusedForNowError,
    UnavailableError,
)
from shared.function.sweep import AT_ONCE, sweep
from shared.messages import queue_of
from shared.state.document import upload_document
from shared.state.records import UploadStatus
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing, Mortal
from tests.rigs.scenes import PASSWORD, Scene, pfx

SET = "blob set_metadata"
REFUSALS = [
    RefusedForNowError("writing the metadata of blob a.pfx: refused (AuthorizationPermissionMismatch)"),
    AccessDeniedError("writing the metadata of blob a.pfx: refused (InsufficientAccountPermissions)"),
    UnavailableError("writing the metadata of blob a.pfx: the service answered 503"),
    HeldError("writing the metadata of blob a.pfx: refused (LeaseIdMissing)"),
    CertcastError("writing the metadata of blob a.pfx: the service answered 400 (InvalidMetadata)"),
]


async def refused(error: CertcastError, *, times: int = 1) -> Scene:
    """An upload whose password could not be taken out so many times."""
    scene = Scene(step=Failing({SET: [error] * times}))
    await scene.join("i0")
    await scene.accepted("a.pfx", "a.example.com")
    return scene


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
class TestARefusal:
    async def test_keeps_nothing_from_being_served_and_is_told(
        self, error: CertcastError, caplog: pytest.LogCaptureFixture
    ) -> None:
        scene = await refused(error)
        record = await scene.record("a.pfx")
        assert (record.status, record.etag) == (UploadStatus.ACCEPTED, record.source_etag)
        assert upload_document(record)["password_left"] == str(error)
        assert caplog.text.count("its password is still in the metadata") == 1
        assert await scene.rechecks() == []
        assert len(await scene.told("i0")) == 1

    async def test_is_over_with_the_sweep_that_may(self, error: CertcastError) -> None:
        scene = await refused(error)
        scene.storage.clock.advance(60)
        report = await sweep(scene.cloud)
        metadata, record = await scene.metadata("a.pfx"), await scene.record("a.pfx")
        assert "CertificatePassword" not in metadata
        assert metadata["certcast_bundle"] == record.bundle_id
        assert (record.password_left, upload_document(record)["password_left"]) == ("", None)
        assert report.problems == []
        assert (await sweep(scene.cloud)).looked_at == [], "the row knows the version that this left"

    async def test_that_lasts_is_said_once_and_costs_no_hints(
        self, error: CertcastError, caplog: pytest.LogCaptureFixture
    ) -> None:
        scene = await refused(error, times=40)
        await scene.everyone_obeys("i0")
        for _ in range(30):
            scene.storage.clock.advance(60)
            await scene.beat("i0")
            await sweep(scene.cloud)
        assert caplog.text.count("its password is still in the metadata") == 1
        assert scene.storage.queues[queue_of("i0")] == {}
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE


class TestTries:
    async def test_of_an_identity_that_may_not_are_a_few_in_a_sweep(self) -> None:
        tried = await tries(REFUSALS[0], uploads=30, minutes=10)
        assert 30 + 10 <= tried <= 30 + 10 * AT_ONCE

    async def test_of_uploads_under_a_lease_become_rarer(self) -> None:
        """However many an uploader leases, nothing else of a sweep waits for them."""
        tried = await tries(REFUSALS[3], uploads=30, minutes=180)
        assert 30 * 4 <= tried <= 30 * 8


async def tries(error: CertcastError, *, uploads: int, minutes: int) -> int:
    """How often passwords are tried to be taken out, the first look of each upload included."""
    tried = 0

    async def step(what: str) -> None:
        nonlocal tried
        if what == SET:
            tried += 1
            raise error

    scene = Scene(step=step)
    for number in range(uploads):
        await scene.accepted(f"{number}.pfx", f"{number}.example.com")
    for _ in range(minutes):
        scene.storage.clock.advance(60)
        await sweep(scene.cloud)
    return tried


class TestASweep:
    async def test_finds_a_password_that_no_row_tells_of(self, scene: Scene) -> None:
        """A version before this one took every refusal for the end of it."""
        scene.cloud = scene.seen_by(Failing({SET: [AccessDeniedError("refused")]}))
        record = await scene.accepted("a.pfx", "a.example.com")
        await scene.outside.state.uploads.update("a.pfx", lambda known: known and replace(known, password_left=""))
        scene.storage.clock.advance(60)
        await sweep(scene.cloud)
        assert "CertificatePassword" not in await scene.metadata("a.pfx")
        assert record.bundle_id

    @pytest.mark.parametrize("status", ["rejected", "waiting_for_metadata"])
    async def test_leaves_what_was_not_accepted_to_its_owner(self, scene: Scene, status: str) -> None:
        password = PASSWORD + "!" if status == "rejected" else None
        notice = await scene.upload("a.pfx", "a.example.com", password=PASSWORD)
        if password is None:
            await scene.edit("a.pfx", CertificatePassword=None)
        else:
            await scene.edit("a.pfx", CertificatePassword=password)
        record = await scene.looked_at("a.pfx")
        assert record.status.value in {status, "rejected"}
        before = await scene.metadata("a.pfx")
        await sweep(scene.cloud)
        assert await scene.metadata("a.pfx") == before
        assert notice.name == record.name

    async def test_leaves_a_reference_to_a_password(self, scene: Scene) -> None:
        reference = "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s)"
        scene.storage.secrets["https://v.vault.azure.net/secrets/s"] = PASSWORD
        await scene.looked_at(await scene.upload("a.pfx", "a.example.com", metadata={"CertificatePassword": reference}))
        await sweep(scene.cloud)
        assert (await scene.metadata("a.pfx"))["CertificatePassword"] == reference

    async def test_leaves_all_where_the_operator_says_so(self) -> None:
        scene = Scene(scrub_password=False)
        await scene.accepted("a.pfx", "a.example.com")
        await sweep(scene.cloud)
        assert (await scene.metadata("a.pfx"))["CertificatePassword"] == PASSWORD

    async def test_takes_out_what_was_left_as_soon_as_the_operator_lets_it(self) -> None:
        """Who migrates shares a container with a reader of passwords until that is switched off."""
        scene = Scene(scrub_password=False)
        record = await scene.accepted("a.pfx", "a.example.com")
        scene.cloud = replace(scene.cloud, scrub_password=True)
        await sweep(scene.cloud)
        metadata = await scene.metadata("a.pfx")
        assert (metadata.get("CertificatePassword"), metadata["certcast_bundle"]) == (None, record.bundle_id)

    async def test_meets_an_edit_in_between(self) -> None:
        """The edited version is looked at, and scrubbed by that."""
        scene = await refused(UnavailableError("busy"))

        class Editing(Mortal):
            async def __call__(self, what: str) -> None:
                if what == SET and not self.steps:
                    self.steps[what] += 1
                    await scene.edit("a.pfx", SiteName="shop")

        scene.cloud = scene.seen_by(Editing())
        await sweep(scene.cloud)
        scene.storage.clock.advance(2)
        assert await scene.recheck_due() == ["a.pfx"]
        assert (await scene.record("a.pfx")).site == "shop"
        assert "CertificatePassword" not in await scene.metadata("a.pfx")

    async def test_that_ends_between_blob_and_row_is_made_good_by_the_next(self) -> None:
        scene = await refused(UnavailableError("busy"))
        row_is_lost: Callable[[], Failing] = lambda: Failing({"uploads replace": [UnavailableError("gone")]})  # noqa: E731
        await sweep(scene.seen_by(row_is_lost()))
        assert "CertificatePassword" not in await scene.metadata("a.pfx")
        await sweep(scene.outside)
        record = await scene.record("a.pfx")
        assert record.status is UploadStatus.ACCEPTED
        assert record.etag == (await scene.outside.uploads.version("a.pfx")).etag  # type: ignore[union-attr]
        assert record.password_left == ""

    async def test_beside_another_takes_it_out_once(self) -> None:
        scene = await refused(UnavailableError("busy"))
        second = scene.seen_by(Failing({SET: [ConflictError("changed meanwhile")]}))
        await sweep(scene.cloud)
        await sweep(second)
        assert "CertificatePassword" not in await scene.metadata("a.pfx")
        assert (await sweep(scene.outside)).looked_at == []

    async def test_goes_on_when_no_look_can_be_asked_for(self) -> None:
        storage = FakeStorage()
        step = Failing({SET: [ConflictError("changed meanwhile")], "queue send": [UnavailableError("no queues")]})
        scene = Scene(storage, step)
        await scene.accepted("a.pfx", "a.example.com")
        assert (await scene.record("a.pfx")).etag == ""
        assert (await sweep(scene.cloud)).looked_at == ["a.pfx"]
        assert "CertificatePassword" not in await scene.metadata("a.pfx")


class TestTheQueueOfLooksThatIsRefused:
    """What it is asked for comes by the sweeps too."""

    NO_QUEUE = RefusedForNowError("sending to queue certificate-recheck: refused (AuthorizationPermissionMismatch)")

    async def test_keeps_no_scheduled_upload_from_its_end(self) -> None:
        scene = Scene(step=Failing({"queue send": [self.NO_QUEUE] * 9}))
        await scene.handle(await scene.upload("a.pfx", "a.example.com", day=2))
        record = await scene.record("a.pfx")
        assert (record.status, record.etag != "") == (UploadStatus.SCHEDULED, True)
        assert "CertificatePassword" not in await scene.metadata("a.pfx")
        assert (await scene.tags("a.pfx"))["certcast_status"] == "scheduled"
        scene.storage.clock.advance(2 * 24 * 3600)
        await sweep(scene.cloud)
        assert (await scene.record("a.pfx")).status is UploadStatus.ACCEPTED

    async def test_keeps_no_upload_that_waits_from_being_told(self, caplog: pytest.LogCaptureFixture) -> None:
        scene = Scene(step=Failing({"queue send": [self.NO_QUEUE] * 9}))
        await scene.handle(await scene.upload("a.pfx", content=pfx("a.example.com"), metadata={}))
        assert (await scene.tags("a.pfx"))["certcast_status"] == "waiting_for_metadata"
        for _ in range(3):
            scene.storage.clock.advance(60)
            assert (await sweep(scene.cloud)).looked_at == []
        await scene.edit("a.pfx", CertificatePassword=PASSWORD)
        await sweep(scene.cloud)
        assert (await scene.record("a.pfx")).status is UploadStatus.ACCEPTED
        assert caplog.text.count("it is left to the sweeps") == 1
