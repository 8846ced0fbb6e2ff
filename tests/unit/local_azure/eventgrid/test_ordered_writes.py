from __future__ import annotations

import asyncio

from local_azure.eventgrid.ordered_writes import WriteOrder

A, B = ("certificates", "a"), ("certificates", "b")


async def test_a_second_writer_of_a_blob_waits_until_the_first_one_has_ended_its_turn() -> None:
    order = WriteOrder()
    with order.turn([A]) as first, order.turn([A]) as second:
        await first.take()
        waiting = asyncio.create_task(second.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        first.end()
        await waiting


async def test_writers_of_different_blobs_do_not_wait() -> None:
    order = WriteOrder()
    with order.turn([A]) as first, order.turn([B]) as second:
        await first.take()
        await second.take()


async def test_a_turn_that_was_never_taken_keeps_nobody_waiting() -> None:
    order = WriteOrder()
    with order.turn([A]), order.turn([A]) as second:
        await second.take()


async def test_a_turn_taken_after_its_end_is_given_up_at_once() -> None:
    order = WriteOrder()
    with order.turn([A]) as early:
        pass
    await early.take()
    with order.turn([A]) as late:
        await late.take()


async def test_a_turn_that_ends_while_it_waits_is_given_up_once_it_comes() -> None:
    order = WriteOrder()
    with order.turn([A]) as first, order.turn([A]) as second, order.turn([A]) as third:
        await first.take()
        waiting = asyncio.create_task(second.take())
        await asyncio.sleep(0)
        second.end()
        first.end()
        await waiting
        await third.take()


async def test_two_writers_of_the_same_blobs_in_another_order_never_wait_for_each_other() -> None:
    order = WriteOrder()

    async def write(*blobs: tuple[str, str]) -> None:
        with order.turn(blobs) as turn:
            await turn.take()
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*(write(A, B) if i % 2 else write(B, A, B) for i in range(50))), 10)


async def test_nothing_is_remembered_of_blobs_nobody_is_writing() -> None:
    order = WriteOrder()
    with order.turn([A, B]) as turn:
        await turn.take()
    del turn
    assert len(order._locks) == 0
