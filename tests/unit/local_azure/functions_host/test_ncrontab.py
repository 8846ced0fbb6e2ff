from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_azure.functions_host.ncrontab import parse

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
    found = parse(expression).next_after(START)
    assert found is not None
    assert f"{found:%Y-%m-%d %H:%M:%S}" == expected
    assert found.tzinfo is UTC


def test_a_day_that_no_month_has_never_comes() -> None:
    assert parse("0 0 0 31 2 *").next_after(START) is None


def test_a_moment_that_matches_is_not_its_own_next_occurrence() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert parse("0 0 * * * *").next_after(moment) == moment + timedelta(hours=1)


def test_the_leap_day_is_found_over_a_century_without_one() -> None:
    found = parse("0 0 0 29 2 *").next_after(datetime(2096, 3, 1, tzinfo=UTC))
    assert found == datetime(2104, 2, 29, tzinfo=UTC)


@given(
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
)
def test_a_daily_schedule_comes_within_a_day_at_its_time(moment: datetime, minute: int, hour: int) -> None:
    found = parse(f"7 {minute} {hour} * * *").next_after(moment)
    assert found is not None
    assert timedelta() < found - moment <= timedelta(days=1)
    assert (found.hour, found.minute, found.second, found.microsecond) == (hour, minute, 7, 0)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("60 * * * * *", "second field '60'.*from 0 to 59"),
        ("* * 24 * * *", "hour field"),
        ("* * * 0 * *", "day field"),
        ("* * * * 13 *", "month field"),
        ("* * * * * 7", "day of week field"),
        ("* * * * foo *", "'foo'"),
        ("*/0 * * * * *", "step"),
        ("*/x * * * * *", "step"),
        ("30-10 * * * * *", "ends before it begins"),
        (", * * * * *", "second field"),
    ],
)
def test_a_wrong_expression_says_which_field_and_why(expression: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(expression)
