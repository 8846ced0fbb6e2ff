from __future__ import annotations

import pytest

from local_azure.eventgrid.delivery import EVENT_GRID_SCHEDULE, LOCAL_SCHEDULE, Subscription
from local_azure.eventgrid.storage_event import BLOB_CREATED, BLOB_DELETED

SUBSCRIBED = "/blobServices/default/containers/certificates/"


def test_event_grid_waits_ever_longer_and_gives_up_after_a_day_or_thirty_attempts() -> None:
    waits_s = [EVENT_GRID_SCHEDULE.delay_s(failures, refused=False) for failures in range(1, 13)]
    assert waits_s == [10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 12 * 3600, 12 * 3600]
    assert EVENT_GRID_SCHEDULE.delay_s(1, refused=True) == 10
    assert (EVENT_GRID_SCHEDULE.max_attempts, EVENT_GRID_SCHEDULE.time_to_live_s) == (30, 24 * 3600)


def test_on_one_machine_a_host_that_has_not_started_is_tried_every_second_for_as_long_as_it_takes() -> None:
    assert {LOCAL_SCHEDULE.delay_s(failures, refused=True) for failures in range(1, 100)} == {1}
    assert LOCAL_SCHEDULE.max_attempts is None


@pytest.mark.parametrize(
    ("event_type", "subject", "wanted"),
    [
        (BLOB_CREATED, f"{SUBSCRIBED}blobs/a.pfx", True),
        (BLOB_DELETED, f"{SUBSCRIBED}blobs/a.pfx", True),
        (BLOB_CREATED, f"{SUBSCRIBED.upper()}blobs/a.pfx", True),
        (BLOB_CREATED, "/blobServices/default/containers/certificates2/blobs/a.pfx", False),
        ("Microsoft.Storage.BlobTierChanged", f"{SUBSCRIBED}blobs/a.pfx", False),
    ],
)
def test_a_subscription_filters_by_type_and_by_the_beginning_of_the_subject(
    event_type: str, subject: str, *, wanted: bool
) -> None:
    subscription = Subscription(endpoint="http://127.0.0.1:1/?code=secret-key", subject_begins_with=SUBSCRIBED)
    assert subscription.wants(event_type, subject) is wanted
    assert "secret-key" not in repr(subscription)
