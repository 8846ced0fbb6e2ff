from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_azure.functions_host.timers import next_after, parse_schedule
from shared.errors import ConfigurationError

START = datetime(2026, 3, 14, 9, 26, 53, 589793, tzinfo=UTC)  # a Saturday


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * * *", "2026-03-14 09:26:54"),
        ("0 * * * * *", "2026-03-14 09:27:00"),
        ("*/5 * * * * *", "2026-03-14 09:26:55"),
        ("0 */5 * * * *", "2026-03-14 09:30:00"),
        ("0 5/20 * * * *", "2026-03-14 09:45:00"),
        ("0 10-30/10 * * * *", "2026-03-14 09:30:00"),
        ("30 26 9 * * *", "2026-03-15 09:26:30"),
        ("0 30 9 * * 1-5", "2026-03-16 09:30:00"),
        ("0 30 9 * Jan Mon", "2027-01-04 09:30:00"),
        ("0 0 0 1 january *", "2027-01-01 00:00:00"),
        ("0 0 8,20 * * Sunday", "2026-03-15 08:00:00"),
        ("0 0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 0 13 * 5", "2026-11-13 00:00:00"),
        ("*/15 * * * *", "2026-03-14 09:30:00"),
        ("59 59 23 31 12 *", "2026-12-31 23:59:59"),
    ],
)
def test_the_next_occurrence_is_the_first_moment_all_fields_allow(expression: str, expected: str) -> None:
    found = next_after(parse_schedule(expression, "it"), START)
    assert found is not None
    assert f"{found:%Y-%m-%d %H:%M:%S}" == expected
    assert found.tzinfo is UTC


def test_a_day_that_no_month_has_never_comes() -> None:
    assert next_after(parse_schedule("0 0 0 31 2 *", "it"), START) is None


def test_a_moment_that_matches_is_not_its_own_next_occurrence() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert next_after(parse_schedule("0 0 * * * *", "it"), moment) == moment + timedelta(hours=1)


def test_the_leap_day_is_found_over_a_century_without_one() -> None:
    found = next_after(parse_schedule("0 0 0 29 2 *", "it"), datetime(2096, 3, 1, tzinfo=UTC))
    assert found == datetime(2104, 2, 29, tzinfo=UTC)


@given(
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
)
def test_a_daily_schedule_comes_within_a_day_at_its_time(moment: datetime, minute: int, hour: int) -> None:
    found = next_after(parse_schedule(f"7 {minute} {hour} * * *", "it"), moment)
    assert found is not None
    assert timedelta() < found - moment <= timedelta(days=1)
    assert (found.hour, found.minute, found.second, found.microsecond) == (hour, minute, 7, 0)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * *", "has 7 fields"),
        ("@hourly", "has 1 fields"),
        ("60 * * * * *", "has '60' as its second"),
        ("* * 24 * * *", "has '24' as its hour"),
        ("* * * 0 * *", "has '0' as its day"),
        ("* * * * 13 *", "has '13' as its month"),
        ("* * * * * 7", "has '7' as its day of week"),
        ("* * * * * 0-7", "has '0-7' as its day of week"),
        ("* * * * foo *", "has 'foo' as its month"),
        ("mon * * * * *", "has 'mon' as its second"),
        ("*/0 * * * * *", "has '*/0' as its second"),
        ("*/x * * * * *", "has '*/x' as its second"),
        ("30-10 * * * * *", "has '30-10' as its second"),
        (", * * * * *", "has ',' as its second"),
        ("* * * L * *", "has 'L' as its day"),
        ("* * * 15W * *", "has '15W' as its day"),
        ("* * * ? * *", "has '?' as its day"),
        ("* * * * * 1#2", "has '1#2' as its day of week"),
        ("R * * * * *", "has 'R' as its second"),
    ],
)
def test_a_wrong_expression_says_which_field_and_how_it_is_written(expression: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_schedule(expression, "it")
    assert str(caught.value) == (
        f"it: the schedule {expression!r} {reason}, which is not NCRONTAB: write second, minute, hour, day, month and"
        " day of week, such as 0 */5 * * * *"
    )
