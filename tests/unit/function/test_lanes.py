"""Turns at a host, of which some are given up while they wait: the others' come all the same."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from shared.function.lanes import CROWD, REST_S, Lanes, Rank
from tests.fakes.storage import START

HOST = ("a.example.com",)


def rank(number: int) -> Rank:
    moment: datetime = START + timedelta(seconds=number)
    return (moment, moment, str(number))


async def wait_for_a_turn(lanes: Lanes, number: int) -> None:
    async with lanes.turn(HOST, rank(number)):
        pass


async def begun(lanes: Lanes, *numbers: int) -> list[asyncio.Task[None]]:
    waiting = [asyncio.create_task(wait_for_a_turn(lanes, number)) for number in numbers]
    await asyncio.sleep(0)
    return waiting


@pytest.mark.parametrize("others", [(), (1,), (1, 2)], ids=len)
async def test_one_that_is_given_up_in_the_moment_it_would_be_its_turn_stops_no_other(others: tuple[int, ...]) -> None:
    lanes = Lanes()
    async with lanes.turn(HOST, rank(0)):
        first, *rest = await begun(lanes, 9, *others)
        first.cancel()
    async with asyncio.timeout(1):
        await asyncio.gather(*rest)
        with suppress(asyncio.CancelledError):
            await first
        await wait_for_a_turn(lanes, 0)


async def test_one_that_is_given_up_as_a_crowds_rest_ends_stops_no_other() -> None:
    lanes = Lanes()
    async with lanes.turn(HOST, rank(0)) as turn:
        first, *rest = await begun(lanes, 9, *range(1, CROWD))
        turn.moved = True
        asyncio.get_running_loop().call_later(REST_S, first.cancel)
    async with asyncio.timeout(5):
        await asyncio.gather(*rest)
    assert first.cancelled()
