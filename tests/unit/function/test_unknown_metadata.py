"""Metadata keys that certcast does not know, from the upload to what its uploader reads."""

import pytest

from shared.state.document import upload_document
from shared.state.records import UploadStatus
from shared.verdict import VerdictCode
from tests.rigs.scenes import PASSWORD, Scene


class TestMetadataThatIsNotKnown:
    async def test_is_warned_of_in_status_and_tags_and_keeps_nothing_from_being_served(self, scene: Scene) -> None:
        metadata = {"CertificatePassword": PASSWORD, "HostHeaders": "a.example.com", "project": "x"}
        record = await scene.looked_at(await scene.upload("a.pfx", "a.example.com", metadata=metadata))
        assert record.status is UploadStatus.ACCEPTED
        warnings = upload_document(record)["warnings"]
        assert [warning["code"] for warning in warnings] == ["unknown_metadata"] * 2
        assert warnings[0]["detail"] == "The metadata key HostHeaders is not known. Did you mean HostHeader?"
        assert warnings[1]["detail"].startswith("The metadata key project is not known, and left as it is")
        reason = (await scene.tags("a.pfx"))["certcast_reason"]
        assert "unknown_metadata: The metadata key HostHeaders is not known." in reason

    async def test_stays_warned_of_once_the_password_was_removed(self, scene: Scene) -> None:
        metadata = {"CertificatePassword": PASSWORD, "Host": "a.example.com"}
        await scene.looked_at(await scene.upload("a.pfx", "a.example.com", metadata=metadata))
        await scene.edit("a.pfx", SiteName="shop")
        assert len((await scene.looked_at("a.pfx")).warnings) == 1
        await scene.edit("a.pfx", Host=None)
        assert (await scene.looked_at("a.pfx")).warnings == ()

    async def test_and_may_be_the_password_is_the_first_reason_why_it_does_not_open(self, scene: Scene) -> None:
        record = await scene.looked_at(await scene.upload("a.pfx", "a.example.com", metadata={"Password": PASSWORD}))
        assert record.status is UploadStatus.WAITING_FOR_METADATA
        first, second = record.violations
        assert first.code is VerdictCode.INVALID_METADATA
        assert first.detail == (
            "No CertificatePassword is set, but a key Password is: rename it to CertificatePassword."
        )
        assert second.code is VerdictCode.UNREADABLE_BUNDLE
        assert (await scene.tags("a.pfx"))["certcast_reason"].startswith("invalid_metadata: No CertificatePassword is")
        assert PASSWORD not in repr(upload_document(record))
        await scene.edit("a.pfx", Password=None, CertificatePassword=PASSWORD)
        record = await scene.looked_at("a.pfx")
        assert (record.status, record.warnings) == (UploadStatus.ACCEPTED, ())

    async def test_and_holds_a_password_too_is_said_to_keep_it(self, scene: Scene) -> None:
        metadata = {"CertificatePassword": PASSWORD, "pfx_password": PASSWORD}
        record = await scene.looked_at(await scene.upload("a.pfx", "a.example.com", metadata=metadata))
        [warning] = record.warnings
        assert warning.detail == (
            "The metadata key pfx_password is not known, and CertificatePassword is set: delete pfx_password. certcast "
            "does not remove what it holds, which every reader of the container can read."
        )

    @pytest.mark.parametrize("metadata", [{}, {"Password": PASSWORD}])
    async def test_is_not_the_reason_where_no_password_opens_the_file(
        self, scene: Scene, metadata: dict[str, str]
    ) -> None:
        record = await scene.looked_at(await scene.upload("a.pfx", content=b"<html>", metadata=metadata))
        assert record.status is UploadStatus.REJECTED
        assert [violation.code for violation in record.violations] == [VerdictCode.UNREADABLE_BUNDLE]
        assert len(record.warnings) == len(metadata)
        assert upload_document(record)["waiting_for"] is None
        assert await scene.rechecks() == []
        await scene.looked_at(await scene.upload("a.pfx", "a.example.com", metadata=metadata))
        record = await scene.record("a.pfx")
        assert record.status is UploadStatus.WAITING_FOR_METADATA
        assert "Set CertificatePassword; `openssl pkcs12" in record.violations[-1].detail
