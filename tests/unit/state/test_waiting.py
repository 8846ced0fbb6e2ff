"""What each status waits for, as its row tells."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.state.records import UploadRecord, UploadStatus
from shared.state.waiting import waiting_for
from tests.rigs.some import some

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
ROW = UploadRecord(
    name="shop.pfx",
    revision=1,
    status=UploadStatus.RECEIVED,
    judged_at=NOW,
    fanned_out_at=NOW + timedelta(seconds=1),
    not_before=NOW + timedelta(days=1),
    total=3,
    live=1,
)

WAITS = {
    UploadStatus.RECEIVED: ("the look at it that has begun", None),
    UploadStatus.WAITING_FOR_METADATA: ("CertificatePassword in its metadata", ROW.judged_at),
    UploadStatus.SCHEDULED: ("2030-01-03 03:04 UTC, when it becomes valid", ROW.judged_at),
    UploadStatus.ACCEPTED: ("proof from 2 of 3 instances", ROW.fanned_out_at),
    UploadStatus.REMOVED: ("1 instance to show that it is served no more", ROW.fanned_out_at),
}


@pytest.mark.parametrize("status", UploadStatus)
def test_every_status_that_is_not_final_waits_for_something(status: UploadStatus) -> None:
    found = waiting_for(replace(ROW, status=status))
    if status not in WAITS:
        assert found is None
        return
    assert found is not None
    what, since = WAITS[status]
    assert found.what.startswith(what)
    assert found.since == since


@pytest.mark.parametrize("status", UploadStatus)
def test_what_keeps_a_newer_version_is_told_whatever_the_status(status: UploadStatus) -> None:
    found = waiting_for(replace(ROW, status=status, held_up="the vault does not answer", held_up_since=NOW))
    assert found is not None
    newer = "" if status is UploadStatus.RECEIVED else " at the version uploaded since"
    assert (found.what, found.since) == (f"another look{newer}, after this one: the vault does not answer", NOW)


def test_without_instances_one_is_waited_for_and_a_removal_that_is_done_waits_for_none() -> None:
    lonely = replace(ROW, status=UploadStatus.ACCEPTED, total=0, live=0)
    found = [some(waiting_for(each)).what for each in (lonely, replace(lonely, role="web"))]
    assert found == ["an instance that runs", "an instance of role web that runs"]
    assert waiting_for(replace(ROW, status=UploadStatus.REMOVED, live=0)) is None
