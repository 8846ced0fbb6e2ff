"""An instance's row and queue, and two agents that claim the same id."""

import asyncio
import os
from dataclasses import replace

import pytest

from instance_agent.config import AgentSettings
from instance_agent.registration import Registration, SupersededError, agent_version
from shared.errors import ConfigurationError
from shared.state.records import HEARTBEAT_S, InstanceRecord
from tests.fakes.edges import FakeQueues, FakeStorage
from tests.fakes.virtual_time import VirtualLoop
from tests.rigs.agents import settings
from tests.rigs.virtual_tests import on_virtual_time


class Place:
    """One storage account, on virtual time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.storage = FakeStorage(loop.clock)
        self.state = self.storage.state()
        self.queues = FakeQueues(self.storage)

    def begin(self, chosen: AgentSettings | None = None, *, pid: int | None = None) -> Registration:
        begun = Registration.begin(chosen or settings(), target_version="fake 1.0", now=self.storage.clock())
        if pid is not None:
            host, _, rest = begun.session.partition("/")
            begun = replace(begun, session=f"{host}/{pid}/{rest.partition('/')[2]}")
        return begun

    async def register(self, chosen: AgentSettings | None = None, *, pid: int | None = None) -> Registration:
        begun = self.begin(chosen, pid=pid)
        await begun.register(self.state, self.queues, self.storage.clock)
        return begun

    async def row(self) -> InstanceRecord:
        found = await self.state.instances.get("i0")
        assert found is not None
        return found

    async def beating(self, registration: Registration) -> None:
        """Another agent's heartbeats, until cancelled."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await registration.heartbeat(self.state, self.storage.clock())


in_a_place = on_virtual_time(Place)

NO_ONES_PID = 2**22 + 1
"""Beyond the numbers that Linux gives to processes."""


@in_a_place
async def test_the_row_says_all_there_is_to_know_and_the_queues_are_there(place: Place) -> None:
    await place.register(settings(role="web", host="vm7"))
    row = await place.row()
    assert (row.id, row.role, row.host, row.target_kind, row.target_version) == (
        "i0",
        "web",
        "vm7",
        "fake",
        "fake 1.0",
    )
    assert row.agent_version == agent_version() != "unknown"
    assert (row.ready, row.stopped) == (False, False)
    assert {settings().queue, settings().poison_queue} <= set(place.storage.queues)


@in_a_place
async def test_the_queue_is_there_before_the_row(place: Place) -> None:
    """Everyone who sees the row sends to the queue."""

    async def watching(what: str) -> None:
        if what.startswith("instances ") and what != "instances get":
            assert settings().queue in place.storage.queues

    begun = place.begin()
    await begun.register(place.storage.state(watching), FakeQueues(place.storage, watching), place.storage.clock)


@in_a_place
async def test_a_heartbeat_keeps_the_row_and_says_how_far_the_agent_is(place: Place) -> None:
    registration = await place.register()
    await asyncio.sleep(30)
    await registration.heartbeat(place.state, place.storage.clock(), bindings=5, failing=1, ready=True)
    row = await place.row()
    assert (row.bindings, row.failing, row.ready) == (5, 1, True)
    assert (row.last_seen - row.started_at).total_seconds() == 30


@in_a_place
async def test_a_heartbeat_brings_a_reaped_row_back(place: Place) -> None:
    registration = await place.register()
    place.storage.tables["instances"].clear()
    await registration.heartbeat(place.state, place.storage.clock(), ready=True)
    assert (await place.row()).session == registration.session


@in_a_place
async def test_a_heartbeat_after_another_agent_took_the_id_is_refused(place: Place) -> None:
    first = await place.register()
    await first.heartbeat(place.state, place.storage.clock(), stopped=True)
    second = await place.register(settings(host="other"))
    with pytest.raises(SupersededError, match="i0 was taken over by an agent on other"):
        await first.heartbeat(place.state, place.storage.clock())
    assert (await place.row()).session == second.session


@in_a_place
class TestASecondAgent:
    @pytest.mark.parametrize("host", ["machine-of-i0", "elsewhere"])
    async def test_with_the_id_of_a_running_one_is_refused_with_what_to_do(self, place: Place, host: str) -> None:
        # A pid of a process that runs, so that it cannot be told from its number that the agent is gone.
        first = await place.register(pid=os.getppid())
        beats = asyncio.ensure_future(place.beating(first))
        await asyncio.sleep(7)
        with pytest.raises(ConfigurationError, match=r"i0 is in use .* own CERTCAST_INSTANCE, or stop the other"):
            await place.register(settings(host=host))
        assert (await place.row()).session == first.session
        beats.cancel()
        assert asyncio.get_running_loop().time() < 60

    async def test_whose_predecessor_here_was_killed_need_not_wait(self, place: Place) -> None:
        await place.register(pid=NO_ONES_PID)
        second = await place.register()
        assert (await place.row()).session == second.session
        assert asyncio.get_running_loop().time() == 0

    async def test_whose_predecessor_stopped_need_not_wait(self, place: Place) -> None:
        first = await place.register(settings(host="elsewhere"))
        await first.heartbeat(place.state, place.storage.clock(), stopped=True)
        await place.register()
        assert asyncio.get_running_loop().time() == 0

    async def test_whose_predecessor_elsewhere_is_silent_takes_over_after_more_than_a_heartbeat(
        self, place: Place
    ) -> None:
        await place.register(settings(host="elsewhere"))
        second = await place.register()
        assert (await place.row()).session == second.session
        assert HEARTBEAT_S < asyncio.get_running_loop().time() < 3 * HEARTBEAT_S

    async def test_is_not_fooled_by_clocks_that_differ(self, place: Place) -> None:
        """The first one's clock is an hour behind: it looks long silent, and runs."""
        first = await place.register(settings(host="elsewhere"))
        row = await place.row()
        hour_ago = replace(row, last_seen=row.last_seen.replace(hour=row.last_seen.hour - 1))
        await place.state.instances.update("i0", lambda _: hour_ago)
        beats = asyncio.ensure_future(place.beating(first))
        with pytest.raises(ConfigurationError, match="in use"):
            await place.register()
        beats.cancel()

    async def test_that_is_the_same_process_registers_again_at_once(self, place: Place) -> None:
        first = await place.register()
        place.storage.queues.clear()
        await first.register(place.state, place.queues, place.storage.clock)
        assert settings().queue in place.storage.queues
        assert asyncio.get_running_loop().time() == 0

    async def test_that_waits_sees_that_the_first_one_stops(self, place: Place) -> None:
        first = await place.register(settings(host="elsewhere"))
        waiting = asyncio.ensure_future(place.register())
        await asyncio.sleep(5)
        await first.heartbeat(place.state, place.storage.clock(), stopped=True)
        second = await waiting
        assert (await place.row()).session == second.session
        assert asyncio.get_running_loop().time() < 10
