"""The service's time, learned from the dates of its answers."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.azure.clock import ServiceClock

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


class World:
    """A machine, a service, and time that passes for both.

    Attributes:
        off_s: How far the machine's clock is from the service's.
    """

    def __init__(self, off_s: float) -> None:
        self.off_s = off_s
        self.passed_s = 1000.0
        self.clock = ServiceClock(machine=lambda: self.service_s + self.off_s, passing=lambda: self.passed_s)

    @property
    def service_s(self) -> float:
        return NOON.timestamp() + self.passed_s

    @property
    def wrong_by_s(self) -> float:
        return self.clock.now().timestamp() - self.service_s

    def ask(self, *, there_s: float = 0.05, back_s: float = 0.05) -> None:
        asked_at = self.passed_s
        self.passed_s += there_s
        date = format_datetime(datetime.fromtimestamp(self.service_s, UTC), usegmt=True)
        self.passed_s += back_s
        self.clock.answered(date, asked_at=asked_at)


def test_a_clock_that_is_right_is_left_as_it_is() -> None:
    world = World(0)
    for _ in range(20):
        world.ask()
        world.passed_s += 0.37
    assert world.wrong_by_s == pytest.approx(0, abs=0.001)


@given(
    off_s=st.floats(-1e6, 1e6),
    waits=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 30)), min_size=1, max_size=10),
)
def test_a_wrong_clock_is_within_seconds_of_the_services_after_any_answer(
    off_s: float, waits: list[tuple[float, float, float]]
) -> None:
    world = World(off_s)
    for there_s, back_s, idle_s in waits:
        world.ask(there_s=there_s, back_s=back_s)
        assert -2.1 - back_s <= world.wrong_by_s <= 2.1 + there_s
        world.passed_s += idle_s


def test_setting_the_machines_clock_does_not_move_it() -> None:
    world = World(0)
    world.ask()
    before = world.wrong_by_s
    world.off_s = -600
    assert world.wrong_by_s == before


def test_it_follows_the_services_clock_when_that_is_set() -> None:
    world = World(0)
    date = format_datetime(datetime.fromtimestamp(world.service_s + 3600, UTC), usegmt=True)
    world.clock.answered(date, asked_at=world.passed_s)
    assert world.wrong_by_s == pytest.approx(3600, abs=2)


@pytest.mark.parametrize("date", ["", "soon", "Thu, 99 Foo 2026 00:00:00 GMT"])
def test_an_answer_without_a_date_teaches_nothing(date: str) -> None:
    world = World(300)
    world.clock.answered(date, asked_at=world.passed_s)
    assert world.wrong_by_s == pytest.approx(300)


def test_it_shows_an_instant_in_utc() -> None:
    world = World(0)
    assert world.clock.now().tzinfo is UTC
    assert world.clock.now() - NOON == timedelta(seconds=1000)
