"""Uploads whose password was removed, copied, moved and restored: what there is to open them with, and what is not."""

from dataclasses import replace

import pytest

from shared.errors import CertcastError
from shared.state.records import UploadRecord, UploadStatus
from shared.verdict import VerdictCode
from tests.rigs.scenes import PASSWORD, Scene


class TestAScrubbedUpload:
    async def test_whose_bundle_is_gone_is_told_that_its_password_is(self, scene: Scene) -> None:
        """Someone deleted the bundle, or the upload was undeleted after it was swept away."""
        record = await scene.accepted("a.pfx", "a.example.com")
        del scene.storage.bundles[record.bundle_id]
        await scene.edit("a.pfx", note="edited")
        await removed_elsewhere(await scene.looked_at("a.pfx"))
        await scene.edit("a.pfx", CertificatePassword=PASSWORD)
        assert (await scene.looked_at("a.pfx")).status is UploadStatus.ACCEPTED

    async def test_copied_into_another_installation_is_told_that_its_password_was_removed(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        blob, elsewhere = scene.storage.uploads["a.pfx"], Scene()
        notice = await elsewhere.upload("a.pfx", content=blob.content, metadata=blob.metadata)
        await removed_elsewhere(await elsewhere.looked_at(notice))
        assert await elsewhere.rechecks() == []
        notice = await elsewhere.upload("a.pfx", "a.example.com")
        assert (await elsewhere.looked_at(notice)).status is UploadStatus.ACCEPTED

    async def test_copied_with_its_bundle_but_without_the_key_is_told_so_too(self, scene: Scene) -> None:
        record = await scene.accepted("a.pfx", "a.example.com")
        blob, elsewhere = scene.storage.uploads["a.pfx"], Scene()
        elsewhere.storage.bundles[record.bundle_id] = replace(scene.storage.bundles[record.bundle_id], key="theirs")
        notice = await elsewhere.upload("a.pfx", content=blob.content, metadata=blob.metadata)
        await removed_elsewhere(await elsewhere.looked_at(notice))

    async def test_whose_own_bundle_cannot_be_opened_for_now_is_not_turned_down(self, scene: Scene) -> None:
        """The setting lost a key that seals no more and opens still."""
        record = await scene.accepted("a.pfx", "a.example.com")
        scene.storage.bundles[record.bundle_id].key = "the one before"
        await scene.edit("a.pfx", HostHeader="a.example.com")
        with pytest.raises(CertcastError, match="sealed under another key"):
            await scene.looked_at("a.pfx")
        scene.storage.bundles[record.bundle_id].key = "key"
        assert (await scene.looked_at("a.pfx")).status is UploadStatus.ACCEPTED

    async def test_copied_under_another_name_is_served_as_that(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com", "b.example.com")
        blob = scene.storage.uploads["a.pfx"]
        metadata = {**blob.metadata, "HostHeader": "b.example.com"}
        record = await scene.looked_at(await scene.upload("copy.pfx", content=blob.content, metadata=metadata))
        assert (record.status, record.hosts) == (UploadStatus.ACCEPTED, ("b.example.com",))

    async def test_restored_from_before_its_password_was_removed_is_as_any_upload(self, scene: Scene) -> None:
        """A version or snapshot that was promoted has the metadata that it had, the password with it."""
        await scene.accepted("a.pfx", "a.example.com")
        await scene.looked_at(await scene.delete("a.pfx"))
        record = await scene.looked_at(await scene.upload("a.pfx", "a.example.com"))
        assert record.status is UploadStatus.ACCEPTED
        assert "CertificatePassword" not in await scene.metadata("a.pfx")

    async def test_undeleted_while_its_bundle_is_there_is_served_again(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        blob = scene.storage.uploads["a.pfx"]
        await scene.looked_at(await scene.delete("a.pfx"))
        record = await scene.looked_at(await scene.upload("a.pfx", content=blob.content, metadata=blob.metadata))
        assert record.status is UploadStatus.ACCEPTED


async def removed_elsewhere(record: UploadRecord) -> None:
    assert record.status is UploadStatus.REJECTED
    [violation] = record.violations
    assert violation.code is VerdictCode.UNREADABLE_BUNDLE
    assert "was removed by certcast: upload the original file with its CertificatePassword" in violation.detail
