"""The fleet in memory: it says what `certcast status` says, soon after that changed, however it changed."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.errors import UnavailableError
from shared.function.board import Board, View
from shared.function.board.board import AGAIN_S, PATIENCE_S, REFRESH_S
from shared.function.board.holding import OVERLAP, PASSING_S, PORTION_EVERY_S, PORTION_ROWS
from shared.messages import InstallOutcome
from shared.ports import StoredEntity
from shared.state.document import status_document
from shared.state.keys import upload_key
from shared.state.records import SILENT_AFTER, UPLOADS_TABLE, UploadRecord, UploadStatus
from shared.state.tables import State
from shared.state.telling import with_reasons
from tests.fakes.edges import FakeStorage, FakeTable, Step, unhindered
from tests.fakes.processes import Failing, StandingStill
from tests.fakes.storage import START
from tests.rigs.rows import registered
from tests.rigs.scenes import Scene


class Looking:
    """A process whose board somebody looks at; what passes is the storage's own time.

    Attributes:
        rows: How many rows of uploads were read.
    """

    def __init__(self, storage: FakeStorage, step: Step = unhindered, **bounds: Any) -> None:
        self.storage = storage
        self.rows = 0
        self.state = self._state(step)
        # A look waits as long as it takes, unless a test is about that: the machine may have much to do.
        self.board = Board(passing=self._passing, **{"patience_s": 20, **bounds})

    def _passing(self) -> float:
        return (self.storage.clock() - START).total_seconds()

    def _state(self, step: Step) -> State:
        looking = self

        class Counted(FakeTable):
            async def query(self, *arguments: Any, **asked: Any) -> AsyncIterator[StoredEntity]:
                async for entity in super().query(*arguments, **asked):
                    looking.rows += 1
                    yield entity

        others = {
            name: self.storage.table(name, step) for name in ("bindings", "instances", "installations", "history")
        }
        return State(uploads=Counted(self.storage, UPLOADS_TABLE, step), **others)

    async def look(self, *, after_s: float = REFRESH_S) -> View:
        """A look some time after the last one."""
        self.storage.clock.advance(after_s)
        return await self.board.view(self.state, self.storage.clock)

    async def names(self, *, after_s: float = REFRESH_S) -> list[str]:
        return [upload["name"] for upload in (await self.look(after_s=after_s)).uploads]


@pytest.fixture
def looking(storage: FakeStorage) -> Looking:
    return Looking(storage)


async def put(storage: FakeStorage, name: str, **others: Any) -> None:
    usual = UploadRecord(name=name, revision=1, status=UploadStatus.REJECTED)
    await storage.state().uploads.overwrite(name, replace(usual, **others))


async def truth(storage: FakeStorage, now: datetime | None = None) -> dict[str, Any]:
    """What `certcast status --json` prints."""
    state, now = storage.state(), now or storage.clock()
    records = [known.value async for known in state.uploads.all()]
    instances = [known async for known in state.instances.all()]
    known = {each.value.id: each for each in instances}
    return status_document(await with_reasons(state, records, now, instances=known), instances, now=now)


class TestWhatIsShown:
    async def test_is_what_the_status_command_tells(self, scene: Scene, looking: Looking) -> None:
        await scene.join("web-0", "web-1")
        await scene.accepted("old.pfx", "a.test")
        await scene.accepted("new.pfx", "a.test", day=1)
        await scene.everyone_obeys("web-0", "web-1")
        await scene.looked_at(await scene.upload("bad.pfx", content=b"no certificate"))
        await scene.accepted("gone.pfx", "b.test")
        await scene.looked_at(await scene.delete("gone.pfx"))
        view, told = await looking.look(), await truth(scene.storage)
        assert view.uploads == told["uploads"]
        assert view.instances == told["instances"]
        assert [(upload["name"], upload["status"], upload["reason"]) for upload in view.uploads][1:] == [
            ("gone.pfx", "removed", told["uploads"][1]["reason"]),
            ("new.pfx", "scheduled", told["uploads"][2]["reason"]),
            ("old.pfx", "live", ""),
        ]
        assert view.complete
        assert (view.note, view.trouble, view.as_of) == ("", "", scene.storage.clock())

    async def test_names_who_is_served_in_an_uploads_place_also_where_only_that_changes(
        self, scene: Scene, looking: Looking
    ) -> None:
        await scene.accepted("old.pfx", "a.test", day=-9)
        await scene.accepted("new.pfx", "a.test", day=-5)
        assert {upload["name"]: upload["reason"] for upload in (await looking.look()).uploads}["old.pfx"].endswith(
            "new.pfx"
        )
        await scene.accepted("newer.pfx", "a.test", day=-1)
        told = {upload["name"]: upload["reason"] for upload in (await looking.look()).uploads}
        assert told["old.pfx"] == told["new.pfx"] == "superseded by newer.pfx"

    async def test_is_no_upload_whose_removal_was_over_before_the_next_look(
        self, scene: Scene, looking: Looking
    ) -> None:
        await scene.join("web-0")
        for letter in "ab":
            await scene.accepted(f"{letter}.pfx", f"{letter}.test")
        await scene.everyone_obeys("web-0")
        before = await looking.look()
        await scene.looked_at(await scene.delete("a.pfx"))
        await scene.everyone_obeys("web-0")
        view = await looking.look()
        assert [upload["name"] for upload in view.uploads] == ["b.pfx"]
        assert (view.uploads, view.summary.served) == ((await truth(scene.storage))["uploads"], 1)
        assert view.version != before.version

    async def test_counts_no_instance_that_has_gone_silent_though_no_row_is_written(
        self, scene: Scene, looking: Looking
    ) -> None:
        await scene.join("web-0", "web-1")
        await scene.accepted("a.pfx", "a.test")
        await scene.everyone_obeys("web-0", "web-1")
        [before] = (await looking.look()).uploads
        assert (before["live"], before["missing"]) == (2, [])
        scene.storage.clock.advance(SILENT_AFTER.total_seconds())
        await scene.beat("web-0")
        view = await looking.look()
        [after] = view.uploads
        assert (after["live"], after["missing"]) == (1, ["web-1"])
        assert "instance web-1 silent" in view.summary.line

    async def test_that_time_alone_changes_is_seconds_old_at_most(self, scene: Scene, looking: Looking) -> None:
        await scene.join("web-0", "web-1")
        await scene.accepted("a.pfx", "a.test")
        await scene.everyone_obeys("web-0", "web-1")
        await scene.beat("web-1", stopped=True)
        for _ in range(20):
            scene.storage.clock.advance(7)
            await scene.beat("web-0")
            [shown] = (await looking.look()).uploads
            then = scene.storage.clock() - timedelta(seconds=PASSING_S + REFRESH_S)
            assert shown["reason"] in {
                (await truth(scene.storage, then + timedelta(seconds=second)))["uploads"][0]["reason"]
                for second in range(13)
            }

    async def test_what_an_instance_serves_is_counted_before_its_next_heartbeat(
        self, scene: Scene, looking: Looking
    ) -> None:
        await scene.join("web-0")
        assert (await looking.look()).instances[0]["bindings"] == 0
        await scene.accepted("a.pfx", "a.test")
        await scene.everyone_obeys("web-0")
        assert (await looking.look()).instances[0]["bindings"] == 1


class TestReading:
    async def test_brings_only_what_was_written_since(self, storage: FakeStorage, looking: Looking) -> None:
        for number in range(30):
            await put(storage, f"{number:02}.pfx")
        await looking.look()
        await looking.look(after_s=OVERLAP.total_seconds() + PORTION_EVERY_S)  # a portion, which is all of them
        await put(storage, "05.pfx", reason="another one")
        looking.rows = 0
        view = await looking.look()
        assert view.uploads[5]["reason"] == "another one"
        assert looking.rows == 1

    async def test_sees_a_row_that_another_server_wrote_by_a_clock_that_is_behind(
        self, storage: FakeStorage, looking: Looking
    ) -> None:
        await put(storage, "a.pfx")
        await looking.look(after_s=60)
        await put(storage, "late.pfx")
        row = storage.tables[UPLOADS_TABLE][upload_key("late.pfx")]
        row.written_at -= OVERLAP - timedelta(seconds=1)
        assert "late.pfx" in await looking.names()

    async def test_finds_within_a_round_that_a_row_is_gone(self, storage: FakeStorage, looking: Looking) -> None:
        names = [f"{number:04}.pfx" for number in range(2 * PORTION_ROWS + 10)]
        for name in names:
            await put(storage, name)
        assert await looking.names() == names
        for gone in (names[0], names[PORTION_ROWS], names[-1]):
            del storage.tables[UPLOADS_TABLE][upload_key(gone)]
        for _ in range(3):
            shown = await looking.names(after_s=PORTION_EVERY_S + 1)
        assert shown == [name for name in names if name not in {names[0], names[PORTION_ROWS], names[-1]}]

    async def test_keeps_within_its_bound_and_says_so_until_all_fit_again(self, storage: FakeStorage) -> None:
        looking = Looking(storage, most=3)
        for name in "abcde":
            await put(storage, name)
        view = await looking.look()
        assert (len(view.uploads), view.complete) == (3, False)
        assert "more than 3 uploads" in view.note
        del storage.tables[UPLOADS_TABLE][upload_key("a")], storage.tables[UPLOADS_TABLE][upload_key("d")]
        for _ in range(3):
            view = await looking.look(after_s=PORTION_EVERY_S + 1)
        assert ([upload["name"] for upload in view.uploads], view.complete, view.note) == (["b", "c", "e"], True, "")

    async def test_is_shared_by_all_who_look_at_the_same_time(self, storage: FakeStorage) -> None:
        standing = StandingStill("instances query")
        looking = Looking(storage, standing)
        await put(storage, "a.pfx")
        looks = [asyncio.create_task(looking.look(after_s=0)) for _ in range(50)]
        await standing.reached.wait()
        standing.go_on.set()
        views = await asyncio.gather(*looks)
        assert looking.rows == 2  # the first reading, and what was written meanwhile
        assert {view.version for view in views} == {views[0].version}

    async def test_that_takes_long_is_waited_for_a_moment_and_then_told_of(self, storage: FakeStorage) -> None:
        standing = StandingStill("uploads query")
        looking = Looking(storage, standing, patience_s=0.01)
        view = await looking.look()
        assert (view.complete, view.note, list(view.uploads)) == (
            False,
            "the uploads are being read: 0 so far",
            [],
        )
        standing.go_on.set()
        await put(storage, "a.pfx")
        async with asyncio.timeout(5):
            while not (view := await looking.look()).complete:
                pass
        assert [upload["name"] for upload in view.uploads] == ["a.pfx"]
        assert PATIENCE_S <= 0.25

    async def test_shows_those_that_were_read_so_far(self, storage: FakeStorage) -> None:
        for number in range(PORTION_ROWS + 1):
            await put(storage, f"{number:04}.pfx")
        reached, queries = asyncio.Event(), 0

        async def third(what: str) -> None:
            nonlocal queries
            queries += what == "uploads query"
            if queries == 3:
                reached.set()
                await asyncio.Event().wait()

        looking = Looking(storage, third, patience_s=0.01)
        await looking.look()
        await reached.wait()
        view = await looking.look()
        assert (view.complete, view.rows_read, len(view.uploads)) == (False, PORTION_ROWS, PORTION_ROWS)
        assert view.note == f"the uploads are being read: {PORTION_ROWS} so far"

    async def test_that_fails_leaves_what_there_was_and_is_told_of_until_it_succeeds(
        self, storage: FakeStorage
    ) -> None:
        failing = Failing({})
        looking = Looking(storage, failing)
        await put(storage, "a.pfx")
        before = await looking.look()
        failing.errors["uploads query"] = [UnavailableError("reading table uploads: the service answered 503")]
        await put(storage, "b.pfx")
        view = await looking.look()
        assert (view.as_of, len(view.uploads)) == (before.as_of, 1)
        assert view.trouble == "reading table uploads: the service answered 503"
        assert view.version != before.version
        view = await looking.look(after_s=AGAIN_S)
        assert (view.trouble, len(view.uploads), view.as_of) == ("", 2, storage.clock())

    async def test_that_fails_after_rows_were_read_tells_of_them_the_next_time(
        self, storage: FakeStorage, scene: Scene
    ) -> None:
        failing = Failing({})
        looking = Looking(storage, failing)
        await scene.accepted("old.pfx", "a.test", day=-9)
        await looking.look()
        await scene.accepted("new.pfx", "a.test", day=-1)
        failing.errors["bindings get"] = [UnavailableError("reading a row of table bindings: the service answered 503")]
        assert (await looking.look()).trouble
        storage.clock.advance(60)
        assert (await looking.look(after_s=AGAIN_S)).uploads == (await truth(storage))["uploads"]

    async def test_that_fails_for_a_fault_of_ours_is_raised_and_tried_again(self, storage: FakeStorage) -> None:
        looking = Looking(storage, Failing({"instances query": [ZeroDivisionError("of ours")]}))
        with pytest.raises(ZeroDivisionError):
            await looking.look()
        assert "the Function's log" in (await looking.look()).trouble
        assert (await looking.look(after_s=AGAIN_S)).complete

    async def test_goes_on_in_another_loop_where_the_one_before_ended_in_the_middle(self) -> None:
        storage = FakeStorage()
        await put(storage, "a.pfx")
        looking = Looking(storage, StandingStill("uploads query"), patience_s=0.01)

        def ended() -> None:
            asyncio.run(looking.look())

        await asyncio.to_thread(ended)
        looking.state = storage.state()
        assert await looking.names(after_s=AGAIN_S) == ["a.pfx"]

    async def test_is_forgotten_when_nobody_looks(self, storage: FakeStorage) -> None:
        looking = Looking(storage, forget_s=0.01)
        await put(storage, "a.pfx")
        await looking.look()
        del storage.tables[UPLOADS_TABLE][upload_key("a.pfx")]
        await asyncio.sleep(0.05)
        assert await looking.names(after_s=0) == []


class TestTheVersion:
    async def test_stays_while_nothing_but_heartbeats_come(self, scene: Scene, looking: Looking) -> None:
        await scene.join("web-0")
        await put(scene.storage, "a.pfx")
        versions = set()
        for _ in range(10):
            await scene.beat("web-0")
            versions.add((await looking.look()).version)
        assert len(versions) == 1

    @pytest.mark.parametrize("change", ["an upload", "an instance", "a new upload", "an upload's row is gone"])
    async def test_differs_when_anything_changed(self, scene: Scene, looking: Looking, change: str) -> None:
        await scene.join("web-0")
        await put(scene.storage, "a.pfx")
        before = (await looking.look()).version
        match change:
            case "an upload":
                await put(scene.storage, "a.pfx", reason="another")
            case "an instance":
                await scene.outside.state.instances.overwrite("web-0", registered("web-0", failing=3))
            case "a new upload":
                await put(scene.storage, "b.pfx")
            case _:
                scene.storage.tables[UPLOADS_TABLE].clear()
        assert (await looking.look(after_s=PORTION_EVERY_S + 1)).version != before


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_it_comes_to_what_the_status_command_tells(seed: int) -> None:
    """Uploads, renewals, removals, reports, restarts and lost rows at random; after a round both say the same."""
    chance, scene = random.Random(seed), Scene()  # noqa: S311 - a test's
    looking = Looking(scene.storage)
    hosts, names, instances = ("a.test", "b.test"), ("1.pfx", "2.pfx", "3.pfx"), ("web-0", "web-1")
    await scene.join(*instances)

    async def upload() -> None:
        await scene.accepted(chance.choice(names), chance.choice(hosts), day=chance.choice((-3, -2, -1, 5)))

    async def remove() -> None:
        with suppress(AssertionError):
            await scene.looked_at(await scene.delete(chance.choice(names)))

    async def obey() -> None:
        outcome = chance.choice((None, None, InstallOutcome.FAILED))
        await scene.everyone_obeys(chance.choice(instances), outcome=outcome, reason="why" if outcome else "")

    async def lose() -> None:
        rows = scene.storage.tables[UPLOADS_TABLE]
        if rows and chance.random() < 0.3:
            del rows[chance.choice(sorted(rows))]

    async def beat() -> None:
        await scene.beat(chance.choice(instances), stopped=chance.random() < 0.3)

    for _ in range(25):
        for _ in range(chance.randint(1, 3)):
            await chance.choice((upload, upload, remove, obey, obey, lose, beat))()
        await looking.look(after_s=chance.choice((0, REFRESH_S, 20, 100)))
    for _ in range(2):
        scene.storage.clock.advance(PORTION_EVERY_S + PASSING_S)
        view = await looking.look()
    told = await truth(scene.storage)
    assert view.uploads == told["uploads"]
    assert view.instances == told["instances"]
