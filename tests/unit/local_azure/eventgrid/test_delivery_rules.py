import pytest

from local_azure.eventgrid.delivery import RetrySchedule, Subscription
from local_azure.eventgrid.storage_event import BLOB_CREATED, BLOB_DELETED

SUBSCRIBED = "/blobServices/default/containers/certificates/"


def test_a_delivery_waits_ever_longer_and_every_second_for_a_host_that_has_not_started() -> None:
    schedule = RetrySchedule()
    assert [schedule.delay_s(failures, refused=False) for failures in range(1, 8)] == [1, 1, 2, 5, 10, 10, 10]
    assert {schedule.delay_s(failures, refused=True) for failures in range(1, 100)} == {1}
    assert schedule.time_to_live_s == 24 * 3600


def test_event_grids_own_schedule_may_be_run_through_in_less_time() -> None:
    schedule = RetrySchedule.of_azure(0.001)
    waits = [schedule.delay_s(failures, refused=refused) for failures in (1, 2, 4, 10, 29) for refused in (False, True)]
    assert waits == [0.01, 0.01, 0.03, 0.03, 0.3, 0.3, 43.2, 43.2, 43.2, 43.2]
    assert (schedule.time_to_live_s, schedule.most_attempts) == (86.4, 30)


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
