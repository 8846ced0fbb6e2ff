"""An instance's row and queue, and what becomes of an id that others use or write under."""

import asyncio
import os
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from instance_agent.config import AgentSettings
from instance_agent.identity import Identity
from instance_agent.registration import MOST_MOVES, Progress, Registration
from shared import VERSION
from shared.state.records import HEARTBEAT_S, SILENT_AFTER, InstanceRecord
from tests.fakes.edges import FakeQueues, FakeStorage, Step, unhindered
from tests.fakes.virtual_time import VirtualLoop
from tests.rigs.agents import settings
from tests.rigs.virtual_tests import on_virtual_time

SERVER = "the fake server"
ELSEWHERE = settings(host="elsewhere")


class Place:
    """One storage account, on virtual time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.storage = FakeStorage(loop.clock)
        self.state = self.storage.state()
        self.progress = Progress(bindings=0, failing=0, ready=False)

    def begin(
        self, chosen: AgentSettings | None = None, *, server: str = SERVER, step: Step = unhindered
    ) -> Registration:
        return Registration(
            chosen or settings(),
            server=server,
            state=self.storage.state(step),
            queues=FakeQueues(self.storage, step),
            now=self.storage.clock,
            progress=lambda: self.progress,
        )

    async def register(self, chosen: AgentSettings | None = None, *, server: str = SERVER) -> Registration:
        begun = self.begin(chosen, server=server)
        assert await begun.register()
        return begun

    async def row(self, instance: str = "i0") -> InstanceRecord:
        found = await self.state.instances.get(instance)
        assert found is not None
        return found

    async def rewrite(self, instance: str = "i0", **columns: Any) -> None:
        """What anyone who may write the table can do: change some columns of a row."""
        await self.state.instances.update(instance, lambda row: replace(row, **columns) if row else None)


in_a_place = on_virtual_time(Place)

NO_ONES_PID = 2**22 + 1
"""Beyond the numbers that Linux gives to processes."""


@in_a_place
async def test_the_row_says_all_there_is_to_know_and_the_queues_are_there(place: Place) -> None:
    begun = place.begin(settings(role="web", host="vm7"))
    begun.target_version = "fake 1.0"
    await begun.register()
    row = await place.row()
    assert (row.id, row.role, row.host, row.target_kind, row.target_version) == (
        "i0",
        "web",
        "vm7",
        "fake",
        "fake 1.0",
    )
    assert row.agent_version == VERSION
    assert (row.ready, row.stopped, row.asked_id) == (False, False, "")
    assert {settings().queue, settings().poison_queue} <= set(place.storage.queues)
    assert begun.trouble == ""


@in_a_place
async def test_the_queue_is_there_before_the_row(place: Place) -> None:
    """Everyone who sees the row sends to the queue."""

    async def watching(what: str) -> None:
        if what.startswith("instances ") and what != "instances get":
            assert settings().queue in place.storage.queues

    await place.begin(step=watching).register()


@in_a_place
async def test_a_heartbeat_says_how_far_the_agent_is(place: Place) -> None:
    registration = await place.register()
    await asyncio.sleep(30)
    place.progress = Progress(bindings=5, failing=1, ready=True)
    assert not await registration.beat()
    row = await place.row()
    assert (row.bindings, row.failing, row.ready) == (5, 1, True)
    assert (row.last_seen - row.started_at).total_seconds() == 30


@in_a_place
async def test_a_heartbeat_registers_where_that_was_not_possible_before(place: Place) -> None:
    begun = place.begin()
    assert await begun.beat(), "nothing was reported under this id"
    assert settings().queue in place.storage.queues
    assert not await begun.beat()


@in_a_place
async def test_a_heartbeat_brings_a_reaped_row_back(place: Place) -> None:
    registration = await place.register()
    before = await place.row()
    place.storage.tables["instances"].clear()
    assert not await registration.beat()
    assert (await place.row()).session == before.session


@in_a_place
async def test_leaving_says_that_no_one_need_wait_and_of_another_nothing(place: Place) -> None:
    first = await place.register()
    await first.leave()
    assert (await place.row()).stopped
    second = await place.register(ELSEWHERE)
    await first.leave()
    row = await place.row()
    assert (row.host, row.stopped) == ("elsewhere", False)
    await second.leave()
    await place.begin(settings("i1")).leave()
    assert await place.state.instances.get("i1") is None


@in_a_place
class TestASecondAgent:
    async def test_elsewhere_serves_at_once_under_an_id_derived_from_its_machine_and_server(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        await place.register()
        first = await place.row()
        second = await place.register(ELSEWHERE)
        derived = f"i0~{Identity.of('i0', host='elsewhere', server=SERVER).mark}"
        assert second.instance == second.settings.instance == derived
        assert second.trouble == f"id i0 is in use elsewhere; runs as {derived}"
        assert second.trouble in caplog.text
        assert await place.row() == first
        row = await place.row(derived)
        assert (row.id, row.asked_id, row.host) == (derived, "i0", "elsewhere")
        assert second.settings.queue != settings().queue
        assert {second.settings.queue, second.settings.poison_queue} <= set(place.storage.queues)
        assert asyncio.get_running_loop().time() == 0

    async def test_that_starts_again_has_the_same_id_and_queue(self, place: Place) -> None:
        await place.register()
        before = await place.register(ELSEWHERE)
        again = await place.register(ELSEWHERE)
        assert again.settings == before.settings

    async def test_on_one_machine_for_another_server_is_another_instance(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await place.register()
        row = await place.row()
        # Told apart by their processes, of which the other one runs.
        await place.rewrite(session=row.session.replace(f"/{os.getpid()}/", f"/{os.getppid()}/"))
        second = await place.register(server="another server")
        assert second.instance.startswith("i0~")
        monkeypatch.setattr(os, "kill", _no_such_process)
        third = await place.register(server="a third server")
        assert third.instance == "i0"

    async def test_for_the_same_server_follows_one_that_ended_and_need_not_wait(self, place: Place) -> None:
        """It has the server's lock, so the other one cannot be running, whatever process has its number now."""
        await place.register()
        row = await place.row()
        await place.rewrite(session=row.session.replace(f"/{os.getpid()}/", f"/{os.getppid()}/"))
        assert (await place.register()).instance == "i0"
        assert asyncio.get_running_loop().time() == 0

    async def test_follows_one_that_stopped_or_is_silent(self, place: Place) -> None:
        first = await place.register(ELSEWHERE)
        await first.leave()
        assert (await place.register()).instance == "i0"
        await asyncio.sleep(SILENT_AFTER.total_seconds())
        assert (await place.register(ELSEWHERE)).instance == "i0"

    @pytest.mark.parametrize("off", [timedelta(days=-4000), timedelta(hours=-1), timedelta(days=36_500)])
    async def test_is_not_fooled_by_clocks_that_differ(self, place: Place, off: timedelta) -> None:
        await place.register(ELSEWHERE)
        row = await place.row()
        wrong = replace(row, last_seen=row.last_seen + off, started_at=row.started_at + off)
        await place.state.instances.update("i0", lambda _: wrong)
        assert (await place.register()).instance != "i0"

    async def test_that_writes_its_row_in_the_same_instant_has_another_id(self, place: Place) -> None:
        second = place.begin(ELSEWHERE)
        seen = 0

        async def meanwhile(what: str) -> None:
            nonlocal seen
            if what == "instances insert" and not seen:
                seen += 1
                assert await second.register()

        first = place.begin(step=meanwhile)
        assert await first.register()
        assert second.instance == "i0"
        assert first.instance == first._identity.derived_id
        assert {row.value.session async for row in place.state.instances.all()} == {
            first._identity.session,
            second._identity.session,
        }

    async def test_on_a_copy_of_the_machine_ends_up_under_an_id_of_its_own(self, place: Place) -> None:
        """Neither host name nor machine id tells them apart: the later one takes the id for its own of before."""
        first = await place.register()
        second = await place.register()
        assert first.instance == second.instance == "i0"
        assert await first.beat()
        assert first.instance == first._identity.derived_id
        third = await place.register()
        assert await second.beat(), "the third has the id, as the second had it"
        assert await first.beat(), "the second has the derived id now, which is the first's by its mark too"
        assert len({first.instance, second.instance, third.instance}) == 3
        for each in (first, second, third):
            assert not await each.beat()

    async def test_that_is_the_same_process_registers_again_under_the_same_id(self, place: Place) -> None:
        first = await place.register()
        place.storage.queues.clear()
        assert not await first.register()
        assert first.instance == "i0"
        assert settings().queue in place.storage.queues


@in_a_place
class TestARowThatOthersWrite:
    @pytest.mark.parametrize("session", ["elsewhere/1/x", "", "\0", "x/²/" + "0" * 17, "h/" + "9" * 5000 + "/x"])
    async def test_with_another_session_has_the_agent_move_on_with_row_and_queue(
        self, place: Place, session: str
    ) -> None:
        one = await place.register()
        await place.rewrite(session=session)
        assert await one.beat()
        assert one.instance == one._identity.derived_id
        assert one.settings.queue in place.storage.queues
        assert (await place.row(one.instance)).session == one._identity.session
        assert not await one.beat()
        await place.rewrite(one.instance, session=session)
        assert await one.beat()
        assert one.instance not in {"i0", one._identity.derived_id}
        assert one.instance.startswith("i0~")

    @pytest.mark.parametrize("session", ["elsewhere/1/x", "x/²/" + "0" * 17, "h/" + "9" * 5000 + "/x", "//", ""])
    async def test_keeps_no_agent_from_starting(self, place: Place, session: str) -> None:
        await place.register(ELSEWHERE)
        await place.rewrite(session=session)
        assert (await place.register()).instance.startswith("i0~")

    @pytest.mark.parametrize("columns", [{"x": "1"}, {}, {"session": 5}, {"started_at": "0001-01-01T00:00:00+23:59"}])
    async def test_so_that_it_cannot_be_read_is_written_again(self, place: Place, columns: dict[str, object]) -> None:
        key = ("instance", "i0")
        table = place.storage.tables.setdefault("instances", {})
        one = await place.register()
        whole = dict(table[key].columns)
        table[key].columns = {**(whole if "started_at" in columns else {}), **columns}  # type: ignore[dict-item]
        assert not await one.beat()
        assert (await place.row()).session == one._identity.session
        table[key].columns = dict(columns)  # type: ignore[arg-type]
        assert (await place.register()).instance == "i0"

    async def test_loses_what_they_wrote_at_the_next_heartbeat(self, place: Place) -> None:
        one = await place.register()
        before = await place.row()
        lies = {"role": "db", "host": "nowhere", "target_kind": "x", "asked_id": "you"}
        await place.rewrite(**lies)
        await place.rewrite(id="another")
        await asyncio.sleep(HEARTBEAT_S)
        assert not await one.beat()
        assert await place.row() == replace(before, last_seen=place.storage.clock())

    async def test_without_end_is_left_three_times_an_hour_and_overwritten_from_then_on(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        one = await place.register()
        moved = []
        for _ in range(100):
            await place.rewrite(one.instance, session="elsewhere/1/x")
            moved.append(await one.beat())
            assert (await place.row(one.instance)).session == one._identity.session
            await asyncio.sleep(HEARTBEAT_S)
        assert sum(moved) == MOST_MOVES
        assert "its row is written by others again and again; it stays" in caplog.text
        await asyncio.sleep(3600)
        await place.rewrite(one.instance, session="elsewhere/1/x")
        assert await one.beat()

    async def test_in_the_very_moment_is_overwritten_in_the_end(self, place: Place) -> None:
        async def meanwhile(what: str) -> None:
            if what == "instances replace":
                table = place.storage.tables["instances"]
                table["instance", "i0"].etag = place.storage.new_etag()

        one = place.begin(step=meanwhile)
        await one.register()
        assert not await one.beat()
        assert (await place.row()).last_seen == place.storage.clock()


class TestIdentity:
    def test_a_mark_is_of_machine_and_server(self) -> None:
        marks = {Identity.of("i0", host=host, server=server).mark for host in ("a", "b") for server in ("x", "y")}
        assert len(marks) == 4
        one, again = (Identity.of("i0", host="a", server="x") for _ in range(2))
        assert (one.mark, one.derived_id) == (again.mark, again.derived_id)
        assert one.session != again.session

    @pytest.mark.parametrize("pid", [str(NO_ONES_PID), "999999999"])
    def test_a_process_of_this_machine_that_is_gone_has_ended(self, pid: str) -> None:
        one, other = Identity.of("i0", host="a", server="x"), Identity.of("i0", host="a", server="y")
        gone = other.session.replace(f"/{os.getpid()}/", f"/{pid}/")
        assert one.has_ended(gone)
        assert not one.has_ended(other.session)
        assert not one.has_ended(gone.replace("a/", "b/"))


def _no_such_process(_pid: int, _signal: int) -> None:
    raise ProcessLookupError
