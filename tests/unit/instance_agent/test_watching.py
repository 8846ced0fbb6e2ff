"""What an agent does about what something else changes on its server: found, put right, told; and what is no change."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from instance_agent.agent import RECONCILE_S, Agent
from instance_agent.config import DEFAULT_PROOF_CYCLE_S
from instance_agent.proof.drifts import REPAIR_WAITS
from instance_agent.targets.base import ApplyError, Key
from instance_agent.watching import UNSEEN_S
from shared.errors import UnavailableError
from shared.function.results import fold
from shared.messages import BindingReport, InstallOutcome
from shared.phrasing import day
from shared.state.records import UploadStatus
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing
from tests.fakes.target import FakeServer, FakeTarget, binding
from tests.rigs.agents import agent, served
from tests.rigs.scenes import Scene
from tests.rigs.some import some
from tests.rigs.virtual_tests import on_virtual_time

HOST = "a.example.com"
KEY: Key = (HOST, 443)
OTHERS = "ee" * 32
CYCLE_S = DEFAULT_PROOF_CYCLE_S
RECONCILED_S = RECONCILE_S * 1.3


class Platform(Scene):
    """A platform that enters each report at once, as the Function does."""

    def __init__(self, storage: FakeStorage) -> None:
        super().__init__(storage)
        self._news: list[BindingReport] = []

    async def enter(self) -> None:
        while True:
            for report in await self.reports():
                self._news += report.reports
                await fold(self.cloud, report)
            await asyncio.sleep(1)

    async def news(self) -> Sequence[BindingReport]:
        """What was reported since this was asked last."""
        await asyncio.sleep(2)
        news, self._news = self._news, []
        return news


in_a_scene = on_virtual_time(lambda loop: Platform(FakeStorage(loop.clock)))


@pytest.fixture(autouse=True)
def _patience_passes_with_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def passing() -> float:
        return asyncio.get_running_loop().time()

    clock = SimpleNamespace(monotonic=passing, perf_counter=passing)
    monkeypatch.setattr("instance_agent.installing.sighting.time", clock)


@asynccontextmanager
async def serving(scene: Platform, each: Agent) -> AsyncIterator[Agent]:
    """A running agent that is ready, stopped at the end."""
    entering = asyncio.ensure_future(scene.enter())
    task = asyncio.ensure_future(each.run())
    while not each.ready:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.5)
    yield each
    each.stop()
    await task
    entering.cancel()


def replaced(server: FakeServer) -> None:
    """Somebody binds a certificate of theirs, by the server's own means."""
    server.replace({**server.bound, KEY: binding(HOST, "theirs").bound})


def lost(server: FakeServer) -> None:
    server.replace({})


def overlaid(server: FakeServer) -> None:
    """Somebody has another certificate served, and the server says that ours is."""
    server.overlaid[HOST] = OTHERS


@in_a_scene
class TestAChange:
    @pytest.mark.parametrize(
        ("somebody", "within_s", "sentence"),
        [
            (replaced, RECONCILED_S, "changed behind certcast's back at {at}; put right"),
            (lost, RECONCILED_S, "was no longer bound, noticed at {at}; bound again"),
            (overlaid, CYCLE_S, "changed behind certcast's back at {at}; put right"),
        ],
    )
    async def test_is_found_put_right_and_told(
        self,
        scene: Platform,
        somebody: Callable[[FakeServer], None],
        within_s: float,
        sentence: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        server = FakeServer()
        async with serving(scene, agent(scene.storage, server=server)) as one:
            record = await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.news()
            somebody(server)
            await asyncio.sleep(within_s)
            assert served(server) == {HOST: record.bundle_id}
            assert server.overlaid == {}
            (report,) = await scene.news()
            at = some(report.drifted_at)
            assert (report.outcome, report.reason) == (InstallOutcome.LIVE, sentence.format(at=day(at)))
            assert (one.actor.drifts.found, one.actor.drifts.repaired) == (1, 1)
            assert f"{HOST}:443 {sentence.format(at=day(at)).partition(';')[0]}" in caplog.text
            await asyncio.sleep(2 * CYCLE_S)
            assert await scene.news() == [], "once is enough"

    async def test_of_a_renewed_binding_is_not_told_of_the_renewal(self, scene: Platform) -> None:
        server = FakeServer()
        async with serving(scene, agent(scene.storage, server=server)) as one:
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            replaced(server)
            await scene.accepted("a.pfx", HOST, serial=1)
            await asyncio.sleep(RECONCILED_S)
            assert [(each.reason, each.drifted_at) for each in await scene.news()] == [("", None)] * 2
            assert one.actor.drifts.found == 0

    async def test_of_a_removed_binding_that_is_bound_again_is_taken_away_again(self, scene: Platform) -> None:
        server = FakeServer()
        async with serving(scene, agent(scene.storage, server=server)):
            await scene.accepted("a.pfx", HOST)
            await scene.accepted("b.pfx", "b.example.com")
            await asyncio.sleep(5)
            before = dict(server.bound)
            await scene.looked_at(await scene.delete("a.pfx"))
            await asyncio.sleep(5)
            await scene.news()
            server.replace(before)
            await asyncio.sleep(RECONCILED_S)
            assert set(served(server)) == {"b.example.com"}
            (report,) = await scene.news()
            assert report.outcome is InstallOutcome.REMOVED
            assert report.reason.startswith("was bound again behind certcast's back at ")
            assert report.reason.endswith("; removed again")

    async def test_that_cannot_be_put_right_is_told_with_what_was_seen_and_tried_again(self, scene: Platform) -> None:
        server = FakeServer()
        target = FakeTarget(server)
        async with serving(scene, agent(scene.storage, target=target)) as one:
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.news()
            server.shadowed[HOST] = OTHERS
            await asyncio.sleep(CYCLE_S)
            (report, *more) = await scene.news()
            assert more == []
            assert report.outcome is InstallOutcome.PROBE_MISMATCH
            assert report.fingerprint_sha256 == OTHERS
            assert report.reason.startswith(f"changed behind certcast's back at {day(some(report.drifted_at))}, and ")
            assert f"serves {OTHERS[:16]}… in place of" in report.reason
            assert one.actor.memory.failing == 1
            tries = len(target.applies)
            await asyncio.sleep(CYCLE_S)
            assert 5 <= len(target.applies) - tries <= 8, "seldom, as each may be a reload"
            server.shadowed.clear()
            await asyncio.sleep(REPAIR_WAITS[99] + RECONCILED_S)
            (report,) = await scene.news()
            assert report.outcome is InstallOutcome.LIVE
            assert report.reason.endswith("; put right")
            assert (one.actor.drifts.found, one.actor.drifts.repaired) == (1, 1)

    async def test_that_the_server_does_not_let_be_put_right_is_told_so(self, scene: Platform) -> None:
        target = FakeTarget()
        async with serving(scene, agent(scene.storage, target=target)):
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.news()
            target.apply_error = ApplyError("the disk is full")
            replaced(target.server)
            await asyncio.sleep(RECONCILED_S)
            (report,) = await scene.news()
            assert report.outcome is InstallOutcome.FAILED
            assert report.reason.endswith(", and could not be put right: the disk is full")
            target.apply_error = None
            await asyncio.sleep(RECONCILED_S)
            (report,) = await scene.news()
            assert (report.outcome, report.reason[-11:]) == (InstallOutcome.LIVE, "; put right")

    async def test_whose_report_cannot_be_made_is_told_later(self, scene: Platform) -> None:
        server, step = FakeServer(), Failing({})
        async with serving(scene, agent(scene.storage, server=server, step=step)):
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.news()
            step.errors["queue send"] = [UnavailableError("the results queue does not answer")]
            overlaid(server)
            await asyncio.sleep(CYCLE_S)
            (report,) = await scene.news()
            assert report.reason.endswith("; put right")

    async def test_in_the_middle_of_a_hint_about_the_same_host_is_told_once(self, scene: Platform) -> None:
        """Both read the server, in turn; the second finds it put right."""
        server = FakeServer()
        one = agent(scene.storage, server=server)
        async with serving(scene, one):
            record = await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.news()
            for _ in range(5):
                replaced(server)
                overlaid(server)
                await asyncio.gather(one.reconcile(), one._watch._look_again(KEY), scene.looked_at("a.pfx"))
                assert served(server) == {HOST: record.bundle_id}
                assert server.overlaid == {}
                await asyncio.sleep(3600)
            assert one.actor.drifts.found == one.actor.drifts.repaired == 5
            told = [report.reason for report in await scene.news()]
            assert len(told) == len(set(told)) == 5

    async def test_by_one_that_does_it_again_and_again_is_put_right_ever_more_seldom(self, scene: Platform) -> None:
        target = FakeTarget()
        server = target.server

        async def fight() -> None:
            while True:
                await asyncio.sleep(1)
                replaced(server)

        async with serving(scene, agent(scene.storage, target=target)) as one:
            record = await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.news()
            fighting = asyncio.ensure_future(fight())
            await asyncio.sleep(4 * 3600)
            fighting.cancel()
            assert len(target.applies) <= 4 * 14
            reports = await scene.news()
            assert 8 <= len(reports) <= 4 * 26
            texts = [report.reason for report in reports]
            often = [text for text in texts if " times in the last hour; put right" in text]
            assert often
            assert all(
                text.endswith(f"look for another program that writes what the server has for {HOST}:443")
                for text in often
            )
            assert any("it will be put right at " in text for text in texts)
            await asyncio.sleep(RECONCILED_S + REPAIR_WAITS[99])
            assert served(server) == {HOST: record.bundle_id}
            assert one.actor.memory.failing == 0

    async def test_of_everything_at_once_is_put_right_in_few_batches_and_delays_no_one(self, scene: Platform) -> None:
        """Somebody put a listener in front of all, say: what is tried in vain may be a reload each time."""
        target = FakeTarget()
        target.in_slices = False
        server = target.server
        hosts = [f"h{number}.example.com" for number in range(30)]
        async with serving(scene, agent(scene.storage, target=target, proof_cycle_s=60)) as one:
            await scene.accepted("a.pfx", *hosts)
            await asyncio.sleep(5)
            await scene.news()
            server.shadowed.update(dict.fromkeys(hosts, OTHERS))
            before = len(target.applies)
            for number in range(15):
                await asyncio.sleep(45)
                name = f"new{number}.example.com"
                await scene.accepted(f"{number}.pfx", name)
                await asyncio.sleep(15)
                assert name in served(server)
            assert one.actor.drifts.found == 30
            assert len(target.applies) - before - 15 <= 30
            by_host = Counter(report.host for report in await scene.news() if report.host in hosts)
            assert set(by_host) == set(hosts)
            assert max(by_host.values()) <= 4
            server.shadowed.clear()
            await asyncio.sleep(REPAIR_WAITS[99] + RECONCILED_S)
            assert one.actor.memory.failing == 0
            assert one.actor.drifts.repaired == 30


@in_a_scene
class TestNoChange:
    async def test_is_what_an_agent_finds_when_it_starts(self, scene: Platform) -> None:
        server = FakeServer()
        record = await scene.accepted("a.pfx", HOST)
        async with serving(scene, agent(scene.storage, server=server)):
            await scene.news()
        replaced(server)
        async with serving(scene, agent(scene.storage, server=server)) as one:
            assert served(server) == {HOST: record.bundle_id}
            assert [(each.outcome, each.reason) for each in await scene.news()] == [(InstallOutcome.LIVE, "")]
            assert one.actor.drifts.found == 0

    async def test_is_what_the_agent_changes_itself(self, scene: Platform) -> None:
        server = FakeServer()
        settings_cycle = 60
        one = agent(scene.storage, server=server, proof_cycle_s=settings_cycle)
        async with serving(scene, one):
            for serial in range(40):
                await scene.accepted("a.pfx", HOST, serial=serial)
                await scene.accepted("b.pfx", "b.example.com", serial=serial)
                await asyncio.sleep(7.3)
                if serial % 5 == 4:
                    await scene.looked_at(await scene.delete("b.pfx"))
                    await asyncio.sleep(7.3)
            assert one.actor.drifts.found == 0
            assert {(each.outcome, each.reason) for each in await scene.news()} <= {
                (InstallOutcome.LIVE, ""),
                (InstallOutcome.REMOVED, ""),
            }

    async def test_is_a_look_in_the_middle_of_a_renewal(self, scene: Platform) -> None:
        target = FakeTarget()
        one = agent(scene.storage, target=target)
        async with serving(scene, one):
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            target.gate = asyncio.Event()
            target.in_apply.clear()
            renewed = await scene.accepted("a.pfx", HOST, serial=1)
            await target.in_apply.wait()
            overlaid(target.server)  # the renewal's certificate is served before the agent knows that it is
            looking = asyncio.ensure_future(one._watch._look_at(KEY))
            await asyncio.sleep(5)
            assert not looking.done(), "it waits for its turn"
            target.gate.set()
            await looking
            assert served(target.server) == {HOST: renewed.bundle_id}
            assert one.actor.drifts.found == 0

    async def test_is_a_server_that_is_restarted(self, scene: Platform) -> None:
        server = FakeServer()
        async with serving(scene, agent(scene.storage, server=server, proof_cycle_s=60)) as one:
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.news()
            for _ in range(20):
                server.down = True
                await asyncio.sleep(15)
                server.down = False
                await asyncio.sleep(200)
            assert one.actor.drifts.found == 0
            assert await scene.news() == []


@in_a_scene
class TestWhatIsNotSeen:
    async def test_for_long_is_told_and_not_rolled_back_and_told_again_when_it_is_seen(self, scene: Platform) -> None:
        server = FakeServer()
        async with serving(scene, agent(scene.storage, server=server)) as one:
            record = await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.news()
            server.deaf = True
            await asyncio.sleep(CYCLE_S + 2 * UNSEEN_S)
            (report, *_) = await scene.news()
            assert (report.outcome, report.drifted_at) == (InstallOutcome.FAILED, None)
            assert report.reason.startswith(f"not seen served for more than {UNSEEN_S} s until ")
            assert report.reason.endswith("did not accept a connection in 5.0 s")
            assert served(server) == {HOST: record.bundle_id}
            server.deaf = False
            await asyncio.sleep(RECONCILED_S)
            (report,) = await scene.news()
            assert report.outcome is InstallOutcome.LIVE
            assert one.actor.drifts.found == 0

    async def test_for_a_moment_is_not_told(self, scene: Platform) -> None:
        server = FakeServer()
        async with serving(scene, agent(scene.storage, server=server, proof_cycle_s=60)) as one:
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.news()
            for _ in range(50):
                server.handshakes_fail.add(HOST)
                await asyncio.sleep(UNSEEN_S - 25)
                server.handshakes_fail.clear()
                await asyncio.sleep(60)
            assert await scene.news() == []
            assert one.actor.memory.proved == 1


@in_a_scene
class TestLooks:
    async def test_are_made_once_a_cycle_and_cost_the_account_nothing(self, scene: Platform) -> None:
        server = FakeServer()
        async with serving(scene, agent(scene.storage, server=server)) as one:
            await scene.accepted("a.pfx", HOST, "b.example.com")
            await asyncio.sleep(5)
            server.probes.clear()
            await asyncio.sleep(2 * CYCLE_S)
            assert 2 <= server.probes.count(HOST) <= 3
            assert 2 <= server.probes.count("b.example.com") <= 3
            proof = one.actor.proofs.known[KEY]
            assert some(proof.at) > scene.storage.clock().timestamp() - CYCLE_S
            assert proof.not_after == (await scene.record("a.pfx")).not_after

    async def test_are_not_made_where_there_is_nothing_to_see(self, scene: Platform) -> None:
        target = FakeTarget()
        target.has_listener = False
        async with serving(scene, agent(scene.storage, target=target)):
            await asyncio.sleep(CYCLE_S)
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(2 * CYCLE_S)
            assert target.server.probes == []
            assert [report.outcome for report in await scene.news()] == [InstallOutcome.LIVE]

    async def test_at_more_than_there_is_time_for_are_said_to_be_so_once(
        self, scene: Platform, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving(scene, agent(scene.storage, proof_cycle_s=5)):
            await scene.accepted("a.pfx", *(f"h{number}.example.com" for number in range(30)))
            await asyncio.sleep(600)
        (line,) = [each.getMessage() for each in caplog.records if "CERTCAST_PROOF_CYCLE" in each.getMessage()]
        assert line == (
            "30 bindings cannot all be looked at within CERTCAST_PROOF_CYCLE, 5 s, at 5 handshakes a second: a cycle "
            "takes 6 s"
        )

    async def test_whose_row_cannot_be_read_are_made_again_soon(self, scene: Platform) -> None:
        server, step = FakeServer(), Failing({})
        async with serving(scene, agent(scene.storage, server=server, step=step)):
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            await scene.news()
            overlaid(server)
            step.errors["bindings query"] = [UnavailableError("the table does not answer")] * 40
            await asyncio.sleep(CYCLE_S + 600)
            assert server.overlaid == {}
            (report,) = await scene.news()
            assert report.reason.endswith("; put right")

    async def test_find_what_an_upload_then_says_of_itself(self, scene: Platform) -> None:
        server = FakeServer()
        async with serving(scene, agent(scene.storage, server=server)):
            await scene.accepted("a.pfx", HOST)
            await asyncio.sleep(5)
            server.shadowed[HOST] = OTHERS
            await asyncio.sleep(CYCLE_S)
            record = await scene.record("a.pfx")
            assert record.status is UploadStatus.FAILED
            assert "changed behind certcast's back" in record.reason
