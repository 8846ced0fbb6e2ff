"""From an event to the fan-out: uploads of every kind, edits, deletions, and events that come as they like."""

import copy
import logging
from datetime import timedelta
from typing import Any

import pytest

from shared.bundle import CertificateBundle, bundle_id
from shared.errors import HeldError, MissingError, RefusedForNowError, UnavailableError
from shared.function.blob_event import Notice
from shared.function.cloud import Cloud
from shared.function.election import next_generation
from shared.function.intake import handle_notice, look_at
from shared.function.recheck import RECHECK_FOR_S, recheck_delay_s
from shared.function.sweep import sweep
from shared.messages import EventType, InstallOutcome, queue_of
from shared.state.records import UploadRecord, UploadStatus
from shared.verdict import VerdictCode
from tests.fakes.edges import unhindered
from tests.fakes.processes import Failing, Mortal
from tests.fakes.storage import START
from tests.rigs.certificates import authority
from tests.rigs.scenes import PASSWORD, Scene, issued, pfx
from tests.rigs.some import some

REFERENCE = "@Microsoft.KeyVault(SecretUri=https://shop.vault.azure.net/secrets/p)"


def codes(record: UploadRecord) -> set[VerdictCode]:
    return {violation.code for violation in record.violations}


class TestAnUpload:
    async def test_is_accepted_entered_for_its_hosts_and_told_to_every_instance(self, scene: Scene) -> None:
        await scene.join("i0", "i1")
        record = await scene.accepted("a.pfx", "a.example.com", "b.example.com")
        assert record.status is UploadStatus.ACCEPTED
        assert record.hosts == ("a.example.com", "b.example.com")
        assert (record.live, record.total, record.expected) == (0, 2, ("i0", "i1"))
        assert record.fingerprint_sha256 == issued("a.example.com", "b.example.com").fingerprint
        for host in record.hosts:
            row = await scene.row(host)
            assert (row.present, row.source, row.changed_at) == (True, "a.pfx", scene.storage.clock())
            assert row.bundle_id == record.bundle_id
        for name in ("i0", "i1"):
            assert [key.host for key in await scene.told(name)] == ["a.example.com", "b.example.com"]

    async def test_is_traced_from_its_event_to_the_instances(self, scene: Scene) -> None:
        record = await scene.accepted("a.pfx", "a.example.com")
        assert record.traceparent.startswith("00-")
        assert (await scene.row("a.example.com")).traceparent == record.traceparent

    async def test_is_sealed_as_the_bundle_its_row_names(self, scene: Scene) -> None:
        record = await scene.accepted("a.pfx", "a.example.com")
        sealed = CertificateBundle.from_pem(await scene.outside.bundles.open(record.bundle_id))
        assert sealed.leaf == issued("a.example.com").certificate
        assert record.bundle_id == bundle_id(sealed, pfx("a.example.com"))

    async def test_is_served_where_the_metadata_say(self, scene: Scene) -> None:
        await scene.join("web0", role="web")
        await scene.join("api0", role="api")
        metadata = {
            "CertificatePassword": PASSWORD,
            "HostHeader": "B.example.com",
            "PortNumber": "8443",
            "SiteName": "Shop",
            "Role": "web",
        }
        record = await scene.looked_at(await scene.upload("a.pfx", "a.example.com", "b.example.com", metadata=metadata))
        row = await scene.row("b.example.com", role="web", port=8443)
        assert (row.source, row.site) == ("a.pfx", "Shop")
        assert (record.expected, record.total) == (("web0",), 1)
        assert await scene.told("web0") == [row.key]
        assert await scene.told("api0") == []

    async def test_says_on_the_blob_how_far_it_is(self, scene: Scene) -> None:
        notice = await scene.upload("a.pfx", "a.example.com")
        await scene.looked_at(notice)
        tags = await scene.tags("a.pfx")
        assert (tags["certcast_status"], tags["certcast_live"]) == ("accepted", "0/0")
        assert tags["certcast_version"] == notice.etag
        assert "no running instance was registered" in tags["certcast_reason"]

    async def test_is_counted_from_its_event_which_knows_the_time_better_than_the_blob(self, scene: Scene) -> None:
        record = await scene.accepted("a.pfx", "a.example.com")
        assert record.uploaded_at == record.counted_from == START

    async def test_is_not_counted_from_an_event_about_another_version(self, scene: Scene) -> None:
        notice = await scene.upload("a.pfx", "a.example.com")
        scene.storage.clock.advance(60)
        await scene.upload("a.pfx", "a.example.com", serial=1)
        record = await scene.looked_at(notice)
        assert record.uploaded_at == (START + timedelta(seconds=60)).replace(microsecond=0)

    async def test_of_the_largest_size_is_still_read_and_a_larger_one_refused_for_its_size(self, scene: Scene) -> None:
        record = await scene.looked_at(await scene.upload("a.pfx", content=bytes(2 * 1024 * 1024), metadata={}))
        assert codes(record) == {VerdictCode.TOO_LARGE}


class TestARejection:
    async def test_tells_every_reason_in_the_row_and_on_the_blob(self, scene: Scene) -> None:
        metadata = {"CertificatePassword": PASSWORD, "HostHeader": "other.example.com", "PortNumber": "0"}
        notice = await scene.upload("a.pfx", "a.example.com", metadata=metadata)
        record = await scene.looked_at(notice)
        assert record.status is UploadStatus.REJECTED
        assert codes(record) == {VerdictCode.HOST_NOT_COVERED, VerdictCode.INVALID_PORT}
        tags = await scene.tags("a.pfx")
        assert tags["certcast_status"] == "rejected"
        assert tags["certcast_reason"].startswith("host_not_covered: ")
        assert tags["certcast_version"] == notice.etag
        assert record.etag == notice.etag

    async def test_leaves_the_password_for_the_uploader_to_correct(self, scene: Scene) -> None:
        await scene.looked_at(await scene.upload("a.pfx", "a.example.com", metadata={"CertificatePassword": "wrong"}))
        assert await scene.metadata("a.pfx") == {"CertificatePassword": "wrong"}

    async def test_of_an_overwrite_leaves_the_accepted_certificate_in_place(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("a.pfx", "a.example.com")
        before = await scene.row("a.example.com")
        await scene.everyone_obeys("i0")
        record = await scene.looked_at(await scene.upload("a.pfx", content=b"damaged", metadata={}))
        assert record.status is UploadStatus.REJECTED
        assert "accepted before under this name stays in place" in record.reason
        assert await scene.row("a.example.com") == before
        assert await scene.told("i0") == []

    async def test_is_over_when_the_metadata_are_corrected(self, scene: Scene) -> None:
        metadata = {"CertificatePassword": PASSWORD, "HostHeader": "other.example.com"}
        await scene.looked_at(await scene.upload("a.pfx", "a.example.com", metadata=metadata))
        await scene.edit("a.pfx", HostHeader="a.example.com")
        record = await scene.looked_at("a.pfx")
        assert (record.status, record.violations) == (UploadStatus.ACCEPTED, ())

    async def test_after_an_acceptance_is_followed_by_deletion_of_what_was_served(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        await scene.looked_at(await scene.upload("a.pfx", content=b"damaged", metadata={"CertificatePassword": "p"}))
        record = await scene.looked_at(await scene.delete("a.pfx"))
        assert record.status is UploadStatus.REMOVED
        assert not (await scene.row("a.example.com")).present


class TestThePassword:
    async def test_is_replaced_by_the_sealed_bundles_name_once_accepted(self, scene: Scene) -> None:
        metadata = {"certificatepassword": PASSWORD, "HostHeader": "a.example.com", "note": "kept"}
        record = await scene.looked_at(await scene.upload("a.pfx", "a.example.com", metadata=metadata))
        assert await scene.metadata("a.pfx") == {
            "HostHeader": "a.example.com",
            "note": "kept",
            "certcast_bundle": record.bundle_id,
        }
        assert record.etag == some(await scene.outside.uploads.version("a.pfx")).etag != record.source_etag

    async def test_stays_where_scrubbing_is_switched_off(self) -> None:
        scene = Scene(scrub_password=False)
        record = await scene.accepted("a.pfx", "a.example.com")
        assert await scene.metadata("a.pfx") == {"CertificatePassword": PASSWORD}
        assert record.etag == record.source_etag

    async def test_stays_out_of_rows_messages_and_logs(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        scene = Scene()
        await scene.join("i0")
        await scene.accepted("a.pfx", "a.example.com")
        await scene.looked_at(
            await scene.upload("b.pfx", "b.example.com", metadata={"CertificatePassword": "not " + PASSWORD})
        )
        stored = repr(scene.storage.tables) + repr(scene.storage.queues) + caplog.text + repr(scene.cloud)
        assert PASSWORD not in stored
        assert "PRIVATE KEY" not in stored

    async def test_edited_in_while_the_upload_was_installed_is_looked_at_soon(self, scene: Scene) -> None:
        notice = await scene.upload("a.pfx", "a.example.com", "b.example.com")

        class Editing(Mortal):
            async def __call__(self, what: str) -> None:
                if what == "blob set_metadata" and not self.steps:
                    self.steps[what] += 1
                    await scene.edit("a.pfx", HostHeader="b.example.com")

        await look_at(scene.seen_by(Editing()), notice)
        assert (await scene.metadata("a.pfx"))["CertificatePassword"] == PASSWORD
        scene.storage.clock.advance(2)
        assert await scene.recheck_due() == ["a.pfx"]
        record = await scene.record("a.pfx")
        assert record.hosts == ("b.example.com",)
        assert "CertificatePassword" not in await scene.metadata("a.pfx")
        assert not (await scene.row("a.example.com")).present


class TestAScrubbedBlob:
    async def test_needs_no_password_for_another_host_header(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("a.pfx", "a.example.com", "b.example.com")
        await scene.edit("a.pfx", HostHeader="b.example.com")
        record = await scene.looked_at("a.pfx")
        assert (record.status, record.hosts) == (UploadStatus.ACCEPTED, ("b.example.com",))
        assert not (await scene.row("a.example.com")).present
        assert (await scene.row("b.example.com")).source == "a.pfx"
        assert {key.host for key in await scene.told("i0")} == {"a.example.com", "b.example.com"}

    async def test_keeps_the_time_of_its_upload_in_elections_when_it_is_edited(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        scene.storage.clock.advance(60)
        await scene.accepted("later.pfx", "a.example.com", serial=1)
        scene.storage.clock.advance(60)
        await scene.edit("a.pfx", note="edited last")
        await scene.looked_at("a.pfx")
        assert (await scene.row("a.example.com")).source == "later.pfx"

    async def test_counts_the_seconds_to_live_of_an_edit_from_the_edit(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("a.pfx", "a.example.com", "b.example.com")
        await scene.everyone_obeys("i0")
        scene.storage.clock.advance(3600)
        await scene.beat("i0")
        await scene.edit("a.pfx", HostHeader="b.example.com")
        scene.storage.clock.advance(3)
        await scene.looked_at("a.pfx")
        await scene.everyone_obeys("i0")
        record = await scene.record("a.pfx")
        assert record.status is UploadStatus.LIVE
        assert record.seconds_to_live is not None
        assert 3 <= record.seconds_to_live < 4.5

    async def test_stays_live_when_an_edit_changes_nothing_that_is_served(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("a.pfx", "a.example.com")
        scene.storage.clock.advance(1)
        await scene.everyone_obeys("i0")
        before = await scene.record("a.pfx")
        assert before.status is UploadStatus.LIVE
        generation = (await scene.row("a.example.com")).generation
        scene.storage.clock.advance(30)
        await scene.edit("a.pfx", note="seen")
        record = await scene.looked_at("a.pfx")
        assert (record.status, record.live, record.total) == (UploadStatus.LIVE, 1, 1)
        assert record.seconds_to_live == before.seconds_to_live
        assert (await scene.row("a.example.com")).generation == generation

    async def test_with_other_content_and_the_old_marker_is_judged_as_new_content(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        marked = await scene.metadata("a.pfx")
        notice = await scene.upload("a.pfx", content=pfx("a.example.com", serial=1), metadata=marked)
        record = await scene.looked_at(notice)
        assert record.status is UploadStatus.WAITING_FOR_METADATA
        assert (await scene.row("a.example.com")).fingerprint_sha256 == issued("a.example.com").fingerprint

    async def test_with_other_content_that_needs_no_password_is_taken_as_that(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        marked = await scene.metadata("a.pfx")
        open_file = pfx("a.example.com", serial=2, password=None)
        await scene.looked_at(await scene.upload("a.pfx", content=open_file, metadata=marked))
        row = await scene.row("a.example.com")
        assert row.fingerprint_sha256 == issued("a.example.com", serial=2).fingerprint

    async def test_under_another_name_brings_nothing_that_its_content_does_not(self, scene: Scene) -> None:
        """A marker copied to one's own upload opens no other upload's bundle."""
        await scene.accepted("a.pfx", "a.example.com")
        marked = await scene.metadata("a.pfx")
        record = await scene.looked_at(await scene.upload("thief.pfx", content=b"anything", metadata=marked))
        assert record.status is not UploadStatus.ACCEPTED
        assert record.bundle_id == ""

    async def test_is_taken_up_again_with_a_new_password_in_place_of_the_marker(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        await scene.edit("a.pfx", certcast_bundle=None, CertificatePassword=PASSWORD)
        record = await scene.looked_at("a.pfx")
        assert record.status is UploadStatus.ACCEPTED
        assert "certcast_bundle" in await scene.metadata("a.pfx")


class TestAPasswordReference:
    async def test_is_resolved_and_stays_on_the_blob(self, scene: Scene) -> None:
        scene.storage.secrets["https://shop.vault.azure.net/secrets/p"] = PASSWORD
        record = await scene.looked_at(
            await scene.upload("a.pfx", "a.example.com", metadata={"CertificatePassword": REFERENCE})
        )
        assert record.status is UploadStatus.ACCEPTED
        assert await scene.metadata("a.pfx") == {"CertificatePassword": REFERENCE}

    async def test_that_cannot_be_resolved_is_the_reason_of_a_rejection(self, scene: Scene) -> None:
        record = await scene.looked_at(
            await scene.upload("a.pfx", "a.example.com", metadata={"CertificatePassword": REFERENCE})
        )
        assert record.status is UploadStatus.REJECTED
        assert codes(record) == {VerdictCode.PASSWORD_SECRET_UNAVAILABLE}
        assert "create it" in record.violations[0].detail

    async def test_that_can_be_resolved_later_is(self, scene: Scene) -> None:
        """Its role came into force, or a person made the secret."""
        await scene.join("i0")
        notice = await scene.upload("a.pfx", "a.example.com", metadata={"CertificatePassword": REFERENCE})
        assert (await scene.looked_at(notice)).status is UploadStatus.REJECTED
        looks = 0
        for _ in range(180):
            scene.storage.clock.advance(60)
            await scene.beat("i0")
            looks += len((await sweep(scene.cloud)).looked_at)
        assert 10 <= looks <= 40, "about as often as the wait has grown by a quarter"
        assert [event.kind for event in scene.storage.published] == [EventType.REJECTED]
        scene.storage.secrets["https://shop.vault.azure.net/secrets/p"] = PASSWORD
        for _ in range(60):
            scene.storage.clock.advance(60)
            await scene.beat("i0")
            await sweep(scene.cloud)
            await scene.everyone_obeys("i0")
        assert (await scene.record("a.pfx")).status is UploadStatus.LIVE

    async def test_is_tried_again_when_the_vault_does_not_answer(self) -> None:
        scene = Scene(step=Failing({"secret resolve": [UnavailableError("no answer")]}))
        scene.storage.secrets["https://shop.vault.azure.net/secrets/p"] = PASSWORD
        notice = await scene.upload("a.pfx", "a.example.com", metadata={"CertificatePassword": REFERENCE})
        await scene.handle(notice)
        scene.storage.clock.advance(2)
        await scene.recheck_due()
        assert (await scene.record("a.pfx")).status is UploadStatus.ACCEPTED


class TestWaitingForMetadata:
    @pytest.mark.parametrize(
        "content", [b"", b"damaged", b"<!DOCTYPE html><title>Sign in</title>", pfx("a.example.com")[:900]]
    )
    async def test_what_no_password_opens_does_not_wait_for_one(self, scene: Scene, content: bytes) -> None:
        record = await scene.looked_at(await scene.upload("a.pfx", content=content, metadata={}))
        assert record.status is UploadStatus.REJECTED
        assert [violation.code for violation in record.violations] == [VerdictCode.UNREADABLE_BUNDLE]
        assert await scene.rechecks() == []

    async def test_an_upload_without_password_is_looked_at_again_in_growing_intervals(self, scene: Scene) -> None:
        content = pfx("a.example.com")
        await scene.handle(await scene.upload("a.pfx", content=content, metadata={}))
        assert (await scene.record("a.pfx")).status is UploadStatus.WAITING_FOR_METADATA
        delays = []
        while waiting := await scene.rechecks():
            ((delay_s, asked),) = waiting
            assert asked.name == "a.pfx"
            delays.append(delay_s)
            scene.storage.clock.advance(delay_s)
            await scene.recheck_due()
        assert delays[:5] == [2, 5, 10, 30, 30]
        assert RECHECK_FOR_S <= sum(delays) < RECHECK_FOR_S + 30

    async def test_a_password_that_is_added_is_found_at_the_next_look(self, scene: Scene) -> None:
        await scene.join("i0")
        content = pfx("a.example.com")
        await scene.handle(await scene.upload("a.pfx", content=content, metadata={}))
        await scene.edit("a.pfx", CertificatePassword=PASSWORD)
        scene.storage.clock.advance(2)
        await scene.recheck_due()
        record = await scene.record("a.pfx")
        assert record.status is UploadStatus.ACCEPTED
        assert await scene.told("i0")
        assert await scene.rechecks() == []

    async def test_an_edit_without_a_password_starts_the_intervals_again(self, scene: Scene) -> None:
        await scene.handle(await scene.upload("a.pfx", content=pfx("a.example.com"), metadata={}))
        for delay_s in (2, 5):
            scene.storage.clock.advance(delay_s)
            await scene.recheck_due()
        await scene.edit("a.pfx", HostHeader="a.example.com")
        scene.storage.clock.advance(10)
        await scene.recheck_due()
        assert [delay_s for delay_s, _ in await scene.rechecks()] == [2]

    async def test_a_deleted_upload_is_not_waited_for(self, scene: Scene) -> None:
        await scene.handle(await scene.upload("a.pfx", content=pfx("a.example.com"), metadata={}))
        await scene.delete("a.pfx")
        scene.storage.clock.advance(2)
        await scene.recheck_due()
        assert (await scene.record("a.pfx")).status is UploadStatus.REMOVED
        assert await scene.rechecks() == []

    async def test_an_upload_that_needs_none_does_not_wait(self, scene: Scene) -> None:
        record = await scene.looked_at(await scene.upload("a.pfx", "a.example.com", password=None))
        assert record.status is UploadStatus.ACCEPTED

    def test_the_looks_end_after_a_quarter_of_an_hour(self) -> None:
        delays = [recheck_delay_s(attempt) for attempt in range(60)]
        assert delays[0] == 2
        assert None in delays
        ended = delays.index(None)
        assert set(delays[ended:]) == {None}


class TestNotYetValid:
    async def test_a_certificate_is_scheduled_and_taken_over_when_it_is_valid(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("old.pfx", "a.example.com")
        await scene.everyone_obeys("i0")
        record = await scene.accepted("new.pfx", "a.example.com", day=2)
        assert (record.status, codes(record)) == (UploadStatus.SCHEDULED, {VerdictCode.NOT_YET_VALID})
        assert "2026-03-03 11:00 UTC" in record.reason
        assert (await scene.tags("new.pfx"))["certcast_status"] == "scheduled"
        assert "CertificatePassword" not in await scene.metadata("new.pfx")
        assert (await scene.row("a.example.com")).source == "old.pfx"
        assert await scene.told("i0") == []

        ((delay_s, _),) = await scene.rechecks()
        valid_from = issued("a.example.com", day=2).certificate.not_valid_before_utc
        assert 0 < delay_s - (valid_from - START).total_seconds() < 2
        scene.storage.clock.advance(delay_s)
        await scene.beat("i0")
        await scene.recheck_due()
        await scene.everyone_obeys("i0")
        assert (await scene.row("a.example.com")).source == "new.pfx"
        new, old = await scene.record("new.pfx"), await scene.record("old.pfx")
        assert (new.status, new.violations) == (UploadStatus.LIVE, ())
        assert new.seconds_to_live is not None
        assert new.seconds_to_live < 5
        assert old.status is UploadStatus.SUPERSEDED

    async def test_one_far_ahead_is_looked_at_on_the_way_and_stays_scheduled(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com", day=20)
        looks = 0
        while (await scene.record("a.pfx")).status is UploadStatus.SCHEDULED:
            ((delay_s, _),) = await scene.rechecks()
            assert delay_s <= 7 * 24 * 3600
            scene.storage.clock.advance(delay_s)
            await scene.recheck_due()
            looks += 1
            assert looks < 10
        assert (await scene.record("a.pfx")).status is UploadStatus.ACCEPTED
        assert scene.storage.clock() - START < timedelta(days=20)

    async def test_a_renewal_under_the_same_name_leaves_what_was_live_until_it_is_valid(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        before = await scene.row("a.example.com")
        record = await scene.accepted("a.pfx", "a.example.com", day=2)
        assert record.status is UploadStatus.SCHEDULED
        assert await scene.row("a.example.com") == before
        scene.storage.clock.advance(2 * 24 * 3600)
        record = await scene.looked_at("a.pfx")
        assert record.status is UploadStatus.ACCEPTED
        assert (await scene.row("a.example.com")).fingerprint_sha256 == issued("a.example.com", day=2).fingerprint

    async def test_one_that_is_deleted_before_it_is_valid_is_never_served(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com", day=2)
        await scene.delete("a.pfx")
        scene.storage.clock.advance(2 * 24 * 3600)
        await scene.recheck_due()
        assert (await scene.record("a.pfx")).status is UploadStatus.REMOVED
        assert "bindings" not in scene.storage.tables or not scene.storage.tables["bindings"]


class TestTwoUploadsForOneHost:
    async def test_the_older_certificate_is_superseded_and_its_uploader_told_why(self, scene: Scene) -> None:
        await scene.accepted("new.pfx", "a.example.com", day=-1)
        record = await scene.accepted("old.pfx", "a.example.com", day=-9)
        assert (record.status, record.violations) == (UploadStatus.SUPERSEDED, ())
        assert record.reason == "another upload is served for its hosts"
        told = await scene.told_of("old.pfx")
        assert (told.reason, codes(told)) == ("superseded by new.pfx", {VerdictCode.OLDER_THAN_LIVE})
        assert "delete new.pfx" in told.violations[0].detail
        assert (await scene.row("a.example.com")).source == "new.pfx"
        tags = await scene.tags("old.pfx")
        assert (tags["certcast_status"], tags["certcast_reason"]) == ("superseded", record.reason)

    async def test_whichever_comes_first(self, scene: Scene) -> None:
        await scene.accepted("old.pfx", "a.example.com", day=-9)
        await scene.accepted("new.pfx", "a.example.com", day=-1)
        assert (await scene.record("old.pfx")).status is UploadStatus.SUPERSEDED
        assert (await scene.record("new.pfx")).status is UploadStatus.ACCEPTED
        assert (await scene.tags("old.pfx"))["certcast_status"] == "superseded"

    async def test_the_older_takes_over_again_when_the_newer_is_deleted(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("new.pfx", "a.example.com", day=-1)
        await scene.accepted("old.pfx", "a.example.com", day=-9)
        await scene.everyone_obeys("i0")
        scene.storage.clock.advance(60)
        await scene.beat("i0")
        await scene.looked_at(await scene.delete("new.pfx"))
        assert (await scene.row("a.example.com")).source == "old.pfx"
        old = await scene.record("old.pfx")
        assert (old.status, old.violations, old.expected) == (UploadStatus.ACCEPTED, (), ("i0",))
        scene.storage.clock.advance(3)
        await scene.everyone_obeys("i0")
        old = await scene.record("old.pfx")
        assert (old.status, old.seconds_to_live) == (UploadStatus.LIVE, 3)
        removed = await scene.record("new.pfx")
        assert (removed.status, removed.live) == (UploadStatus.REMOVED, 0)

    async def test_an_upload_that_keeps_one_of_its_hosts_is_not_superseded(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("both.pfx", "a.example.com", "b.example.com", day=-9)
        await scene.accepted("one.pfx", "a.example.com", day=-1)
        await scene.everyone_obeys("i0")
        assert (await scene.record("both.pfx")).status is UploadStatus.LIVE
        assert (await scene.row("b.example.com")).source == "both.pfx"

    async def test_a_host_let_go_of_is_not_held_against_an_upload(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com", "b.example.com", day=-9)
        await scene.accepted("new.pfx", "b.example.com", day=-1)
        await scene.edit("a.pfx", HostHeader="a.example.com")
        record = await scene.looked_at("a.pfx")
        assert record.violations == ()


class TestDeletion:
    async def test_releases_every_host_and_tells_every_instance(self, scene: Scene) -> None:
        await scene.join("i0", "i1")
        await scene.accepted("a.pfx", "a.example.com", "b.example.com")
        await scene.everyone_obeys("i0", "i1")
        record = await scene.looked_at(await scene.delete("a.pfx"))
        assert (record.status, record.live, record.total) == (UploadStatus.REMOVED, 2, 2)
        assert not (await scene.row("a.example.com")).present
        assert len(await scene.told("i0")) == 2

    async def test_counts_down_as_instances_let_go(self, scene: Scene) -> None:
        await scene.join("i0", "i1")
        await scene.accepted("a.pfx", "a.example.com")
        await scene.everyone_obeys("i0", "i1")
        await scene.looked_at(await scene.delete("a.pfx"))
        counts = []
        for name in ("i0", "i1"):
            await scene.everyone_obeys(name)
            counts.append((await scene.record("a.pfx")).live)
        assert counts == [1, 0]

    async def test_of_what_was_never_seen_is_nothing(self, scene: Scene) -> None:
        assert await look_at(scene.cloud, Notice(name="a.pfx", deletion=True)) is None
        assert scene.storage.tables["uploads"] == {}

    async def test_followed_by_the_same_upload_again_is_an_upload(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        await scene.looked_at(await scene.delete("a.pfx"))
        scene.storage.clock.advance(60)
        record = await scene.accepted("a.pfx", "a.example.com")
        assert record.status is UploadStatus.ACCEPTED
        assert record.uploaded_at == START + timedelta(seconds=60)
        assert (await scene.row("a.example.com")).present


class TestEventsAsTheyCome:
    async def test_a_doubled_event_does_nothing_the_second_time(self, scene: Scene) -> None:
        await scene.join("i0")
        notice = await scene.upload("a.pfx", "a.example.com")
        await scene.looked_at(notice)
        before = repr(scene.storage.tables) + repr(scene.storage.queues)
        watched = Mortal()
        await look_at(scene.seen_by(watched), notice)
        assert repr(scene.storage.tables) + repr(scene.storage.queues) == before
        assert watched.steps == {"uploads get": 1}

    async def test_a_doubled_deletion_does_nothing_the_second_time(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        notice = await scene.delete("a.pfx")
        await scene.looked_at(notice)
        before = repr(scene.storage.tables) + repr(scene.storage.queues)
        await scene.looked_at(notice)
        assert repr(scene.storage.tables) + repr(scene.storage.queues) == before

    async def test_a_creation_that_comes_after_its_deletion_brings_nothing_back(self, scene: Scene) -> None:
        created = await scene.upload("a.pfx", "a.example.com")
        deleted = await scene.delete("a.pfx")
        await look_at(scene.cloud, deleted)
        record = await scene.looked_at(created)
        assert record.status is UploadStatus.REMOVED
        assert record.claims == ()

    async def test_a_deletion_that_comes_after_the_next_upload_removes_nothing(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        deleted = await scene.delete("a.pfx")
        again = await scene.upload("a.pfx", "a.example.com", serial=1)
        await scene.looked_at(again)
        record = await scene.looked_at(deleted)
        assert record.status is UploadStatus.ACCEPTED
        assert (await scene.row("a.example.com")).fingerprint_sha256 == issued("a.example.com", serial=1).fingerprint

    async def test_an_event_about_a_version_overwritten_since_reads_the_new_one(self, scene: Scene) -> None:
        first = await scene.upload("a.pfx", "a.example.com")
        second = await scene.upload("a.pfx", "a.example.com", serial=1)
        record = await scene.looked_at(first)
        assert record.source_etag == second.etag
        assert (await scene.row("a.example.com")).fingerprint_sha256 == issued("a.example.com", serial=1).fingerprint
        watched = Mortal()
        await look_at(scene.seen_by(watched), second)
        assert watched.steps == {"uploads get": 1}

    async def test_events_in_the_wrong_order_end_at_the_blob_as_it_is(self, scene: Scene) -> None:
        notices = [await scene.upload("a.pfx", "a.example.com", serial=serial) for serial in range(3)]
        for notice in reversed(notices):
            await scene.looked_at(notice)
        row = await scene.row("a.example.com")
        assert row.fingerprint_sha256 == issued("a.example.com", serial=2).fingerprint
        assert row.generation == next_generation(0, scene.storage.clock())

    async def test_an_overwrite_with_other_hosts_releases_the_old_ones(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("a.pfx", "a.example.com", "b.example.com")
        await scene.told("i0")
        await scene.accepted("a.pfx", "b.example.com", "c.example.com")
        states = {host: (await scene.row(host)).present for host in ("a.example.com", "b.example.com", "c.example.com")}
        assert states == {"a.example.com": False, "b.example.com": True, "c.example.com": True}
        assert len(await scene.told("i0")) == 3

    async def test_a_move_to_another_role_waits_for_the_instances_of_that_role_only(self, scene: Scene) -> None:
        await scene.join("web0", role="web")
        await scene.join("api0", role="api")
        metadata = {"CertificatePassword": PASSWORD, "Role": "web"}
        await scene.looked_at(await scene.upload("a.pfx", "a.example.com", metadata=metadata))
        await scene.everyone_obeys("web0")
        await scene.edit("a.pfx", Role="api")
        record = await scene.looked_at("a.pfx")
        assert (record.expected, record.total) == (("api0",), 1)
        await scene.everyone_obeys("web0", "api0")
        record = await scene.record("a.pfx")
        assert (record.status, record.live, record.total) == (UploadStatus.LIVE, 1, 1)
        assert not (await scene.row("a.example.com", role="web")).present


class TestTrouble:
    async def test_that_passes_is_put_on_the_recheck_queue_and_the_event_succeeds(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        scene = Scene(step=Failing({"bindings get": [UnavailableError("the table does not answer")]}))
        notice = await scene.upload("a.pfx", "a.example.com")
        await scene.handle(notice)
        ((delay_s, asked),) = await scene.rechecks()
        assert (delay_s, asked.name) == (2, "a.pfx")
        assert "put off, it could not be handled now: the table does not answer" in caplog.text
        scene.storage.clock.advance(2)
        await scene.recheck_due()
        assert (await scene.record("a.pfx")).status is UploadStatus.ACCEPTED

    async def test_that_was_not_foreseen_is_put_off_too_with_its_stack(self, caplog: pytest.LogCaptureFixture) -> None:
        scene = Scene(step=Failing({"blob version": [ZeroDivisionError("a defect")]}))
        await scene.handle(await scene.upload("a.pfx", "a.example.com"))
        assert len(await scene.rechecks()) == 1
        assert "Traceback" in caplog.text

    async def test_with_the_queue_as_well_fails_the_event(self) -> None:
        step = Failing({"uploads get": [UnavailableError("no table")], "queue send": [UnavailableError("no queue")]})
        scene = Scene(step=step)
        notice = await scene.upload("a.pfx", "a.example.com")
        with pytest.raises(UnavailableError, match="no queue"):
            await scene.handle(notice)

    async def test_with_one_instances_queue_does_not_hold_up_the_others(self, scene: Scene) -> None:
        await scene.join("i0", "i1", "i2")
        del scene.storage.queues[queue_of("i1")]
        record = await scene.accepted("a.pfx", "a.example.com")
        assert record.etag
        assert await scene.told("i0")
        assert await scene.told("i2")
        with pytest.raises(MissingError):
            await scene.told("i1")

    async def test_with_reading_an_archived_blob_is_told_to_its_uploader(self, scene: Scene) -> None:
        await scene.join("i0")
        first = await scene.accepted("a.pfx", "a.example.com")
        archived = HeldError("reading blob a.pfx: refused (BlobArchived); upload it again into tier Hot or Cool")
        scene.cloud = scene.seen_by(Failing({"blob download": [archived]}))
        record = await scene.looked_at(await scene.upload("a.pfx", "a.example.com", serial=1))
        assert (record.status, record.etag) == (UploadStatus.REJECTED, record.source_etag)
        assert [v.code for v in record.violations] == [VerdictCode.UNREADABLE_BUNDLE]
        assert "into tier Hot or Cool." in record.violations[0].detail
        assert "stays in place" in record.reason
        assert (await scene.row("a.example.com")).bundle_id == first.bundle_id
        assert await scene.rechecks() == []

    @pytest.mark.parametrize("step", ["blob download", "bindings insert", "instances query"])
    async def test_that_may_pass_is_told_meanwhile_and_tried_again(self, scene: Scene, step: str) -> None:
        """A role assignment takes half an hour to come into force."""
        refusal = RefusedForNowError(f"{step}: refused (AuthorizationPermissionMismatch)")
        scene.cloud = scene.seen_by(Failing({step: [refusal] * 4}))
        await scene.handle(await scene.upload("a.pfx", "a.example.com"))
        for wait in (2, 5, 10, 30):
            record = await scene.record("a.pfx")
            if record.etag:
                break
            assert str(refusal) in record.reason
            scene.storage.clock.advance(wait)
            assert await scene.recheck_due() == ["a.pfx"]
        record = await scene.record("a.pfx")
        assert record.status is UploadStatus.ACCEPTED
        assert record.etag
        assert str(refusal) not in record.reason

    async def test_with_tags_is_no_trouble_where_the_account_has_none(self, scene: Scene) -> None:
        scene.storage.has_tags = False
        assert (await scene.accepted("a.pfx", "a.example.com")).status is UploadStatus.ACCEPTED

    async def test_of_a_certificate_with_an_endless_subject_is_none(self, scene: Scene) -> None:
        """Nothing bounds a subject but the file; its row must fit the table all the same."""
        subject = ",".join(f"OU={'x' * 60}{number}" for number in range(700))
        content = authority().issue("a.example.com", subject=subject).pfx(None)
        scene.storage.clock.now = scene.storage.clock.now.replace(year=2027)
        await handle_notice(scene.cloud, await scene.upload("a.pfx", content=content, metadata={}))
        assert (await scene.record("a.pfx")).judged_at is not None
        assert await scene.rechecks() == []

    async def test_of_an_instance_that_fails_is_not_the_uploads_rejection(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("a.pfx", "a.example.com")
        await scene.everyone_obeys("i0", outcome=InstallOutcome.FAILED, reason="the disk is full")
        record = await scene.record("a.pfx")
        assert (record.status, record.violations) == (UploadStatus.FAILED, ())
        assert "the disk is full" in record.reason


class Unwritable:
    """The rows of uploads, of which one takes no write."""

    def __init__(self, rows: Any, name: str) -> None:
        self._rows, self._name = rows, name

    def __getattr__(self, method: str) -> Any:
        return getattr(self._rows, method)

    async def write(self, name: str, *args: Any) -> str:
        if name == self._name:
            raise UnavailableError(f"writing row of {name}: the service answered 503")
        written: str = await self._rows.write(name, *args)
        return written


class TestAnotherUploadWhoseRowTakesNoWrite:
    """It lost its host to this one, or gets it back, and its status has to follow."""

    async def served(self, scene: Scene) -> Cloud:
        await scene.join("i0")
        await scene.accepted("old.pfx", "a.example.com")
        await scene.everyone_obeys("i0")
        cloud = scene.seen_by(unhindered)
        cloud.state.uploads = Unwritable(cloud.state.uploads, "old.pfx")  # type: ignore[assignment]
        return cloud

    async def test_keeps_no_other_from_its_end(self, scene: Scene) -> None:
        cloud = await self.served(scene)
        record = await scene.looked_at(await scene.upload("new.pfx", "a.example.com", day=0.01), cloud)
        assert (record.status, record.etag != "") == (UploadStatus.ACCEPTED, True)
        assert "CertificatePassword" not in await scene.metadata("new.pfx")
        assert (await scene.record("old.pfx")).status is UploadStatus.LIVE
        scene.storage.clock.advance(60)
        await sweep(scene.outside)
        assert (await scene.record("old.pfx")).status is UploadStatus.SUPERSEDED

    async def test_follows_by_the_sweep_also_where_it_lost_one_host_of_two(self, scene: Scene) -> None:
        await scene.join("i0")
        await scene.accepted("old.pfx", "a.example.com", "b.example.com")
        await scene.everyone_obeys("i0")
        cloud = scene.seen_by(unhindered)
        cloud.state.uploads = Unwritable(cloud.state.uploads, "old.pfx")  # type: ignore[assignment]
        undisturbed = Scene(copy.deepcopy(scene.storage))
        for each, through in ((scene, cloud), (undisturbed, undisturbed.cloud)):
            await each.looked_at(await each.upload("new.pfx", "a.example.com", day=0.01), through)
            each.storage.clock.advance(60)
            await sweep(each.outside)
        found, expected = await scene.record("old.pfx"), await undisturbed.record("old.pfx")
        assert (found.status, found.live, found.total) == (expected.status, expected.live, expected.total)
