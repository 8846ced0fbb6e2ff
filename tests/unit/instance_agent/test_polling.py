"""How long an agent waits between two looks at its queue."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.polling import BUSY_S, QUIET_S, SPREAD_S, Polling, until_shared, wait_of
from tests.fakes.virtual_time import VirtualLoop
from tests.rigs.virtual_tests import on_virtual_time

LONGEST_S = st.floats(min_value=0.1, max_value=60)
WAIT_S = st.floats(min_value=BUSY_S, max_value=60)


@given(LONGEST_S, st.floats(min_value=QUIET_S, max_value=1e9))
def test_after_a_while_without_hints_the_wait_is_the_longest(longest_s: float, quiet_s: float) -> None:
    assert wait_of(longest_s, quiet_s=quiet_s) == longest_s


@given(LONGEST_S)
def test_just_after_a_hint_an_agent_is_busy(longest_s: float) -> None:
    assert wait_of(longest_s, quiet_s=0) is None


@pytest.mark.parametrize(
    ("quiet_s", "wait_ms"),
    [(1, None), (2.4, None), (2.5, 62.5), (4.9, 62.5), (5, 125), (10, 250), (19.9, 250), (20, 500)],
)
def test_the_wait_doubles_as_the_quiet_goes_on(quiet_s: float, wait_ms: float | None) -> None:
    wait_s = wait_of(0.5, quiet_s=quiet_s)
    assert (wait_s and wait_s * 1000) == wait_ms


@given(LONGEST_S, st.floats(min_value=0, max_value=30), st.floats(min_value=0, max_value=30))
def test_every_wait_divides_the_longest_and_grows_with_the_quiet(longest_s: float, one: float, other: float) -> None:
    shorter, longer = sorted(wait_of(longest_s, quiet_s=quiet_s) or 0 for quiet_s in (one, other))
    assert (wait_of(longest_s, quiet_s=max(one, other)) or 0) == longer
    for wait_s in {shorter, longer} - {0}:
        assert wait_s > BUSY_S
        assert (longest_s / wait_s).is_integer()


@given(WAIT_S, st.floats(min_value=-1e10, max_value=1e10), st.floats(min_value=0, max_value=1000))
def test_the_next_moment_is_near_whatever_the_clock_shows(wait_s: float, at_s: float, least_s: float) -> None:
    left_s = until_shared(wait_s, at_s=at_s, least_s=least_s)
    assert min(least_s, wait_s) <= left_s <= 2 * wait_s
    assert left_s >= BUSY_S / 2


def test_a_moment_just_looked_at_is_not_looked_at_again() -> None:
    assert until_shared(0.5, at_s=1000.499, least_s=0) == pytest.approx(0.501)
    assert until_shared(0.5, at_s=1000.001, least_s=0) == pytest.approx(0.499)
    assert until_shared(0.5, at_s=1000.2, least_s=0.4) == pytest.approx(0.8)


class Machine:
    """An agent's looks, on a clock that can be set."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.off = timedelta()
        self.polling = Polling(lambda: loop.clock() + self.off)

    async def looks(self, *, for_s: float, took_s: float = 0.0, taken: int = 0) -> list[float]:
        """When it looks, in seconds since the first look, if each takes so long and finds so much."""
        loop = asyncio.get_running_loop()
        began, seen = loop.time(), []
        while loop.time() - began < for_s:
            seen.append(loop.time() - began)
            self.polling.begin()
            await asyncio.sleep(took_s)
            await asyncio.sleep(self.polling.pause_s(0.5, taken=taken))
        return seen


def gaps(looks: list[float]) -> Iterator[float]:
    return (later - earlier for earlier, later in pairwise(looks))


@on_virtual_time(Machine)
class TestAnAgent:
    async def test_looks_twenty_times_a_second_while_hints_come(self, machine: Machine) -> None:
        assert len(await machine.looks(for_s=10, taken=1)) == pytest.approx(200, abs=2)

    async def test_makes_as_many_looks_after_a_hint_as_the_docs_say(self, machine: Machine) -> None:
        assert len(await machine.looks(for_s=QUIET_S)) == pytest.approx(170, abs=5)

    async def test_that_is_answered_slowly_asks_less_often(self, machine: Machine) -> None:
        assert len(await machine.looks(for_s=2, took_s=0.1)) == 4
        assert max(gaps(await machine.looks(for_s=60, took_s=10))) <= 10 + 2 * 0.5

    async def test_whose_batch_took_long_looks_again_at_once(self, machine: Machine) -> None:
        assert max(gaps(await machine.looks(for_s=60, took_s=10, taken=1))) == pytest.approx(10 + BUSY_S)

    @pytest.mark.parametrize("off_s", [-86_400.3, -0.2, 0.2, 3600.7])
    async def test_whose_clock_is_set_goes_on_looking_as_often(self, machine: Machine, off_s: float) -> None:
        await machine.looks(for_s=60)
        machine.off = timedelta(seconds=off_s)
        assert max(gaps(await machine.looks(for_s=10))) <= 0.5 + BUSY_S

    async def test_whose_clock_leaps_at_every_look_still_looks(self, machine: Machine) -> None:
        await machine.looks(for_s=60)
        start = datetime(2000, 1, 1, tzinfo=UTC)
        machine.polling._now = lambda: start + timedelta(seconds=asyncio.get_running_loop().time() * 1e6)
        assert max(gaps(await machine.looks(for_s=60))) <= 1

    async def test_looks_at_the_moments_that_all_share(self, machine: Machine) -> None:
        await machine.looks(for_s=60)
        later = [machine.polling._now().timestamp() + at for at in await machine.looks(for_s=10)]
        assert all((at - later[1]) % 0.5 < SPREAD_S or (at - later[1]) % 0.5 > 0.5 - SPREAD_S for at in later[1:])
