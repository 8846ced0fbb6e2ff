"""Optimistic writes of typed rows."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConflictError
from shared.state.keys import upload_key
from shared.state.records import UploadRecord, UploadStatus
from shared.state.rows import MAX_WRITE_TRIES, Rows
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Mortal
from tests.fakes.virtual_time import Interleaving, VirtualLoop, run
from tests.rigs.some import some


def rows(storage: FakeStorage, step: Mortal | None = None) -> Rows[str, UploadRecord]:
    return (storage.state(step) if step else storage.state()).uploads


def upload(revision: int = 1) -> UploadRecord:
    return UploadRecord(name="a.pfx", revision=revision, status=UploadStatus.RECEIVED)


def counting(known: UploadRecord | None) -> UploadRecord:
    return upload(1 if known is None else known.revision + 1)


class TestUpdate:
    async def test_a_row_that_is_not_there_is_inserted(self, storage: FakeStorage) -> None:
        update = await rows(storage).update("a.pfx", counting)
        assert (update.before, update.after, update.changed) == (None, upload(1), True)
        assert await rows(storage).get("a.pfx") == upload(1)

    @pytest.mark.parametrize("answer", [lambda known: known, lambda _: None, lambda _: upload(1)])
    async def test_what_changes_nothing_is_not_written(
        self, answer: Callable[[UploadRecord | None], UploadRecord | None], storage: FakeStorage
    ) -> None:
        await rows(storage).update("a.pfx", counting)
        watched = Mortal()
        update = await rows(storage, watched).update("a.pfx", answer)
        assert (update.before, update.after, update.changed) == (upload(1), upload(1), False)
        assert watched.steps == {"uploads get": 1}

    async def test_an_error_of_the_decision_is_passed_on_and_nothing_is_written(self, storage: FakeStorage) -> None:

        def refuse(_: UploadRecord | None) -> UploadRecord:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await rows(storage).update("a.pfx", refuse)
        assert await rows(storage).get("a.pfx") is None

    @given(st.data())
    def test_in_whatever_order_many_write_each_writes_once(self, data: st.DataObject) -> None:
        async def work(loop: VirtualLoop) -> int:
            storage = FakeStorage(loop.clock)
            order = Interleaving(loop, lambda processes: data.draw(st.sampled_from(processes)))
            writers = [storage.state(order.step(str(number))).uploads for number in range(4)]
            await asyncio.gather(*(writer.update("a.pfx", counting) for writer in writers))
            return some(await storage.state().uploads.get("a.pfx")).revision

        assert run(work) == 4

    def test_a_row_that_others_keep_writing_is_given_up_after_thirty_tries(self) -> None:
        async def work(loop: VirtualLoop) -> Mortal:
            storage = FakeStorage(loop.clock)
            watched = Mortal()

            class Busy(Mortal):
                async def __call__(self, what: str) -> None:
                    await watched(what)
                    if what in {"uploads insert", "uploads replace"}:
                        await storage.state().uploads.update("a.pfx", counting)

            with pytest.raises(ConflictError, match=r"blob/a\.pfx is written by too many") as caught:
                await rows(storage, Busy()).update("a.pfx", lambda _: upload(1000))
            assert caught.value.retriable
            return watched

        steps = run(work).steps
        assert steps["uploads get"] == MAX_WRITE_TRIES == 30

    async def test_a_write_over_a_version_that_is_not_the_last_is_a_conflict(self) -> None:
        table = rows(FakeStorage())
        await table.update("a.pfx", counting)
        known = await table.find("a.pfx")
        await table.update("a.pfx", counting)
        with pytest.raises(ConflictError):
            await table.write("a.pfx", upload(9), known)
        with pytest.raises(ConflictError):
            await table.write("a.pfx", upload(9), None)
        assert known is not None
        with pytest.raises(ConflictError):
            await table.remove("a.pfx", known)
        assert await table.get("a.pfx") == upload(2)

    async def test_a_row_of_another_form_counts_as_none_is_named_once_and_written_over(
        self, storage: FakeStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        await storage.table("uploads").insert(*upload_key("a.pfx"), {"name": "a.pfx"})
        table = rows(storage)
        assert [await table.get("a.pfx"), await table.get("a.pfx")] == [None, None]
        assert caplog.text.count("table uploads: row blob/a.pfx is passed over: not a UploadRecord") == 1
        await table.update("a.pfx", counting)
        assert await table.get("a.pfx") == upload(1)
