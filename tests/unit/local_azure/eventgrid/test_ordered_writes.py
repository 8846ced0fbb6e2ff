import asyncio

from local_azure.eventgrid.ordered_writes import WriteOrder

A, B = ("certificates", "a"), ("certificates", "b")


async def test_a_second_writer_of_a_blob_waits_until_the_first_one_has_ended_its_slot() -> None:
    order = WriteOrder()
    with order.slot([A]) as first, order.slot([A]) as second:
        await first.take()
        waiting = asyncio.create_task(second.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        first.end()
        await waiting


async def test_writers_of_different_blobs_do_not_wait() -> None:
    order = WriteOrder()
    with order.slot([A]) as first, order.slot([B]) as second:
        await first.take()
        await second.take()


async def test_a_slot_that_was_never_taken_keeps_no_other_waiting() -> None:
    order = WriteOrder()
    with order.slot([A]), order.slot([A]) as second:
        await second.take()


async def test_a_slot_taken_after_its_end_is_given_up_at_once() -> None:
    order = WriteOrder()
    with order.slot([A]) as early:
        pass
    await early.take()
    with order.slot([A]) as late:
        await late.take()


async def test_a_slot_that_ends_while_it_waits_is_given_up_once_it_comes() -> None:
    order = WriteOrder()
    with order.slot([A]) as first, order.slot([A]) as second, order.slot([A]) as third:
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
        with order.slot(blobs) as slot:
            await slot.take()
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*(write(A, B) if i % 2 else write(B, A, B) for i in range(50))), 10)


async def test_nothing_is_remembered_of_blobs_that_are_not_being_written() -> None:
    order = WriteOrder()
    with order.slot([A, B]) as slot:
        await slot.take()
    del slot
    assert len(order._locks) == 0
