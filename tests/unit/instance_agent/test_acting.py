"""From desired rows to changes on the server and reports: what is due, what is told, what is tried again."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from instance_agent.acting import Actor
from instance_agent.desired import Desired, desired_of, desired_rows
from instance_agent.memory import Attempt
from shared.binding import ANY_ROLE, BindingState, DesiredBinding
from shared.bundle import bundle_id
from shared.errors import UnavailableError
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome, InstallReport, encode
from shared.state.wholeness import Wholeness, tell_wholeness
from tests.fakes.edges import FakeBundles, FakeStorage
from tests.fakes.processes import Failing, Mortal
from tests.fakes.storage import START
from tests.fakes.target import FakeServer, FakeTarget
from tests.fakes.virtual_time import VirtualLoop, run
from tests.rigs.agents import actor, desired, served
from tests.rigs.scenes import issued


class Machine:
    """A server, the actor over it, and bundles to install."""

    def __init__(self, *, step: Mortal | Failing | None = None, server: FakeServer | None = None) -> None:
        self.storage = FakeStorage()
        self.target = FakeTarget(server)
        self.server = self.target.server
        self.actor: Actor = actor(self.storage, self.target, step) if step else actor(self.storage, self.target)

    async def row(
        self,
        host: str,
        *,
        generation: int = 1,
        serial: int = 0,
        present: bool = True,
        role: str = ANY_ROLE,
        covers: str | None = None,
        sealed: bool = True,
    ) -> DesiredBinding:
        bundle = issued(covers or host, serial=serial).bundle()
        identity = bundle_id(bundle, b"")
        if sealed:
            await self.storage.cloud().bundles.seal(identity, bundle.to_pem())
        return DesiredBinding(
            role=role,
            host=host,
            port=443,
            state=BindingState.PRESENT if present else BindingState.ABSENT,
            generation=generation,
            changed_at=START,
            bundle_id=identity if present else "",
            fingerprint_sha256=bundle.fingerprint_sha256 if present else "",
            source="a.pfx" if present else "",
        )

    async def say_whole(self, *, whole: bool = True) -> None:
        """Say what a sweep found that begins now."""
        await tell_wholeness(FakeBundles(self.storage), Wholeness(at=self.storage.clock(), whole=whole))

    async def do(self, *rows: DesiredBinding, whole: bool = False) -> Sequence[Attempt]:
        """One round as the agent makes it; returns what it would report."""
        attempts = await self.actor.act(await self.actor.due(desired(*rows), whole=whole))
        news = self.actor.memory.unreported(attempts)
        self.actor.memory.remember(attempts, news)
        self.actor.memory.told(news)
        return news


@pytest.fixture
def machine() -> Machine:
    return Machine()


def outcomes(attempts: Sequence[Attempt]) -> dict[str, InstallOutcome]:
    return {attempt.report.host: attempt.report.outcome for attempt in attempts}


HOST = "a.example.com"


class TestActing:
    async def test_a_row_is_installed_proved_and_told_with_its_stages(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        (attempt,) = await machine.do(row)
        report = attempt.report
        assert (report.outcome, report.generation, report.source) == (InstallOutcome.LIVE, 1, "a.pfx")
        assert report.fingerprint_sha256 == row.fingerprint_sha256
        assert set(report.stages_ms) == {"fetch", "apply", "probe"}
        assert served(machine.server) == {HOST: row.bundle_id}

    async def test_many_rows_are_one_batch_and_each_bundle_is_fetched_once(self) -> None:
        watched = Mortal()
        machine = Machine(step=watched)
        shared = [await machine.row(f"h{number}.example.com", covers="*.example.com") for number in range(20)]
        assert len(await machine.do(*shared)) == 20
        assert len(machine.target.applies) == 1
        assert watched.steps["bundle open"] == 1

    async def test_an_absent_row_is_taken_away_and_told(self, machine: Machine) -> None:
        await machine.do(await machine.row(HOST))
        (attempt,) = await machine.do(await machine.row(HOST, generation=2, present=False))
        assert (attempt.report.outcome, attempt.report.source) == (InstallOutcome.REMOVED, "")
        assert served(machine.server) == {}

    async def test_an_absent_row_of_what_was_never_here_is_told_without_touching_the_server(
        self, machine: Machine
    ) -> None:
        (attempt,) = await machine.do(await machine.row(HOST, present=False))
        assert attempt.report.outcome is InstallOutcome.REMOVED
        assert machine.target.applies == []

    async def test_a_bundle_that_does_not_cover_the_host_is_never_installed(self, machine: Machine) -> None:
        """The Function checked it; the agent runs elevated and checks it again."""
        (attempt,) = await machine.do(await machine.row(HOST, covers="evil.example.net"))
        assert attempt.report.outcome is InstallOutcome.FAILED
        assert attempt.report.reason == "the certificate is for evil.example.net, not for a.example.com; not installed"
        assert machine.target.applies == []

    async def test_a_wildcard_covers_one_label_and_its_own_binding(self, machine: Machine) -> None:
        rows = [
            await machine.row(host, covers="*.example.com")
            for host in ("*.example.com", "a.example.com", "b.a.example.com", "example.com")
        ]
        live, failed = InstallOutcome.LIVE, InstallOutcome.FAILED
        assert outcomes(await machine.do(*rows)) == {
            "*.example.com": live,
            "a.example.com": live,
            "b.a.example.com": failed,
            "example.com": failed,
        }

    async def test_one_bad_row_does_not_hold_up_the_others(self, machine: Machine) -> None:
        good, bad = await machine.row("good.example.com"), await machine.row("bad.example.com")
        machine.target.breaks_on = {"bad.example.com"}
        assert outcomes(await machine.do(good, bad, await machine.row("gone.example.com", sealed=False))) == {
            "good.example.com": InstallOutcome.LIVE,
            "bad.example.com": InstallOutcome.FAILED,
            "gone.example.com": InstallOutcome.FAILED,
        }

    async def test_a_refusal_is_told_with_the_servers_reason(self, machine: Machine) -> None:
        machine.target.refuses = {HOST: "IIS before 10 takes no wildcards"}
        (attempt,) = await machine.do(await machine.row(HOST))
        assert (attempt.report.outcome, attempt.report.reason) == (
            InstallOutcome.REFUSED,
            "IIS before 10 takes no wildcards",
        )

    async def test_the_endless_words_of_a_server_are_cut_to_fit_a_report(self, machine: Machine) -> None:
        machine.target.refuses = {HOST: "no " * 50_000}
        (attempt,) = await machine.do(await machine.row(HOST))
        assert len(encode(InstallReport(instance="i0", reports=(attempt.report,))).encode()) < 40_000

    def test_after_a_mismatch_the_bundle_before_is_had_again_from_the_vault(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def work(loop: VirtualLoop) -> None:
            monkeypatch.setattr("instance_agent.installing.sighting.time.monotonic", loop.time)
            machine = Machine()
            old = await machine.row(HOST)
            await machine.do(old)
            machine.server.shadowed[HOST] = "07" * 32
            (attempt,) = await machine.do(await machine.row(HOST, generation=2, serial=1))
            assert attempt.report.outcome is InstallOutcome.PROBE_MISMATCH
            assert served(machine.server) == {HOST: old.bundle_id}

        run(work)

    async def test_a_server_that_is_down_leaves_everything_to_be_tried_again(self, machine: Machine) -> None:
        rows = [await machine.row(f"h{number}.example.com") for number in range(3)]
        due = await machine.actor.due(desired(*rows), whole=False)
        machine.server.down = True
        attempts = await machine.actor.act(due)
        assert all(attempt.again for attempt in attempts)
        assert set(outcomes(attempts).values()) == {InstallOutcome.FAILED}
        machine.actor.memory.remember(attempts, attempts)
        machine.actor.memory.told(attempts)
        machine.server.down = False
        assert set(outcomes(await machine.do(*rows)).values()) == {InstallOutcome.LIVE}


class TestWhatIsDue:
    async def test_what_is_as_it_should_be_is_not_done_again(self, machine: Machine) -> None:
        rows = [await machine.row(f"h{number}.example.com") for number in range(3)]
        await machine.do(*rows)
        assert await machine.actor.due(desired(*rows), whole=True) == []
        assert await machine.do(*rows) == []
        assert len(machine.target.applies) == 1

    async def test_a_new_generation_is_due_and_told_even_when_the_server_has_it_already(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        await machine.do(row)
        (attempt,) = await machine.do(replace(row, generation=2))
        assert (attempt.report.generation, attempt.report.outcome) == (2, InstallOutcome.LIVE)
        assert len(machine.target.applies) == 1

    async def test_a_binding_that_was_changed_behind_our_back_is_put_right_and_told(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        await machine.do(row)
        machine.server.bound.clear()
        await machine.do(row)
        assert served(machine.server) == {HOST: row.bundle_id}

    async def test_after_a_restart_everything_is_looked_at_and_told_once_more(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        await machine.do(row)
        machine.actor = actor(machine.storage, machine.target)
        (attempt,) = await machine.do(row)
        assert attempt.report.outcome is InstallOutcome.LIVE
        assert len(machine.target.applies) == 1

    async def test_a_refusal_stands_until_the_row_changes(self, machine: Machine) -> None:
        machine.target.refuses = {HOST: "never"}
        row = await machine.row(HOST)
        await machine.do(row)
        assert await machine.actor.due(desired(row), whole=False) == []
        assert await machine.actor.due(desired(replace(row, generation=2)), whole=False) != []

    async def test_a_passing_failure_is_due_again_and_told_when_it_is_over(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        machine.actor = actor(machine.storage, machine.target, Failing({"bundle open": [UnavailableError("busy")]}))
        (failed,) = await machine.do(row)
        assert (failed.report.outcome, failed.again) == (InstallOutcome.FAILED, True)
        (succeeded,) = await machine.do(row)
        assert succeeded.report.outcome is InstallOutcome.LIVE

    async def test_the_same_failure_twice_is_told_once(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        step = Failing({"bundle open": [UnavailableError("busy"), UnavailableError("busy")]})
        machine.actor = actor(machine.storage, machine.target, step)
        assert len(await machine.do(row)) == 1
        assert len(await machine.do(row)) == 0
        assert len(await machine.do(row)) == 1

    async def test_what_was_not_reported_is_news_still(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        attempts = await machine.actor.act(await machine.actor.due(desired(row), whole=False))
        machine.actor.memory.remember(attempts, machine.actor.memory.unreported(attempts))
        assert await machine.actor.due(desired(row), whole=False) == [], "it is not installed again to be told of"
        assert machine.actor.memory.owes
        owed = machine.actor.memory.unreported([])
        assert outcomes(owed) == {HOST: InstallOutcome.LIVE}
        machine.actor.memory.told(owed)
        assert not machine.actor.memory.owes
        assert machine.actor.memory.unreported([]) == []

    async def test_what_is_asked_for_long_after_it_was_told_is_told_again_once(self, machine: Machine) -> None:
        """The first report may be lost, and a hint that comes twice asks for one."""
        await machine.do(await machine.row(HOST), await machine.row("other.example.com"))
        asked = [(HOST, 443)]
        machine.storage.clock.advance(59)
        assert machine.actor.memory.unreported([], asked) == []
        machine.storage.clock.advance(1)
        (again,) = machine.actor.memory.unreported([], asked)
        assert (again.report.host, again.report.outcome) == (HOST, InstallOutcome.LIVE)
        assert again.report.finished_at == machine.storage.clock()
        machine.actor.memory.remember([], [again])
        machine.actor.memory.told([again])
        assert machine.actor.memory.unreported([], asked) == []
        assert machine.actor.memory.unreported([], [("unknown.example.com", 443)]) == []

    async def test_a_failure_that_goes_on_is_told_again_when_a_hint_asks(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        step = Failing({"bundle open": [UnavailableError("busy"), UnavailableError("busy")]})
        machine.actor = actor(machine.storage, machine.target, step)
        await machine.do(row)
        machine.storage.clock.advance(60)
        attempts = await machine.actor.act(await machine.actor.due(desired(row), whole=False))
        assert machine.actor.memory.unreported(attempts) == []
        assert outcomes(machine.actor.memory.unreported(attempts, [(HOST, 443)])) == {HOST: InstallOutcome.FAILED}

    async def test_a_row_of_another_role_for_the_same_host_is_news(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        await machine.do(row)
        (attempt,) = await machine.do(replace(row, role="web"))
        assert attempt.report.role == "web"

    async def test_a_binding_without_a_row_is_removed_once_the_tables_were_found_whole_and_not_before(
        self, machine: Machine
    ) -> None:
        kept, stray = await machine.row("kept.example.com"), await machine.row("stray.example.com")
        await machine.do(kept, stray)
        await machine.say_whole()  # by a sweep that began before anything was seen to be lacking
        assert await machine.do(kept, whole=True) == []
        machine.storage.clock.advance(60)
        assert await machine.do(kept, whole=True) == []
        assert set(served(machine.server)) == {"kept.example.com", "stray.example.com"}
        await machine.say_whole(whole=False)
        assert await machine.do(kept, whole=True) == []
        await machine.say_whole()
        assert await machine.actor.due(desired(kept), whole=False) == []
        assert await machine.do(kept, whole=True) == []
        assert set(served(machine.server)) == {"kept.example.com"}

    async def test_a_row_older_than_the_one_obeyed_is_obeyed_once_the_tables_were_found_whole(
        self, machine: Machine
    ) -> None:
        old, new = await machine.row(HOST, generation=7), await machine.row(HOST, generation=8, serial=1)
        await machine.do(replace(new, changed_at=START + timedelta(hours=1)))
        for whole in (False, True):
            assert await machine.actor.due(desired(old), whole=whole) == []
        machine.storage.clock.advance(60)
        await machine.say_whole()
        (attempt,) = await machine.do(old, whole=True)
        assert (attempt.report.generation, served(machine.server)) == (7, {HOST: old.bundle_id})

    async def test_another_roles_row_is_not_obeyed_in_place_of_one_that_is_gone(self, machine: Machine) -> None:
        mine, for_all = await machine.row(HOST, role="web"), await machine.row(HOST, serial=1)
        await machine.do(mine)
        one = Desired(rows={(HOST, 443): for_all}, named=frozenset({for_all.key}))
        both = replace(one, named=frozenset({for_all.key, mine.key}))
        for whole in (False, True):
            assert await machine.actor.due(one, whole=whole) == []
            assert await machine.actor.due(both, whole=whole) == [for_all]

    async def test_nothing_is_removed_when_there_are_no_rows_at_all(self, machine: Machine) -> None:
        """An emptied table is likelier than a platform without tenants."""
        await machine.do(await machine.row(HOST))
        assert await machine.do(whole=True) == []
        assert set(served(machine.server)) == {HOST}

    async def test_a_server_that_does_not_know_bundles_is_compared_by_the_leaf(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        await machine.do(row)
        key = (HOST, 443)
        machine.server.bound[key] = replace(machine.server.bound[key], bundle_id="")
        assert await machine.actor.due(desired(row), whole=True) == []
        machine.server.bound[key] = replace(machine.server.bound[key], fingerprint_sha256="00" * 32)
        assert await machine.actor.due(desired(row), whole=True) == [row]


class TestAsking:
    async def test_a_hint_asks_the_server_about_its_own_hosts_alone_and_a_reconcile_about_all(
        self, machine: Machine
    ) -> None:
        await machine.do(await machine.row("other.example.com"), await machine.row("blog.example.com"))
        machine.target.asked.clear()
        await machine.do(await machine.row(HOST))
        above = {("*.example.com", 443), (DEFAULT_HOST, 443)}
        assert machine.target.asked == [frozenset({(HOST, 443)}), frozenset({(HOST, 443), *above})]
        machine.target.asked.clear()
        await machine.actor.due(desired(await machine.row(HOST)), whole=True)
        assert machine.target.asked == [None]

    async def test_a_hint_about_what_was_taken_away_on_the_server_brings_it_back(self, machine: Machine) -> None:
        row = await machine.row(HOST)
        await machine.do(row)
        assert await machine.actor.due(desired(row), whole=False) == []
        del machine.server.bound[HOST, 443]
        assert await machine.actor.due(desired(row), whole=False) == [row]


class TestCounting:
    async def test_proved_and_failing_are_counted_by_how_each_ended_last(self, machine: Machine) -> None:
        good, bad = await machine.row("good.example.com"), await machine.row("bad.example.com", sealed=False)
        await machine.do(good, bad)
        assert (machine.actor.memory.proved, machine.actor.memory.failing) == (1, 1)
        await machine.do(replace(good, generation=2, state=BindingState.ABSENT, bundle_id=""))
        assert (machine.actor.memory.proved, machine.actor.memory.failing) == (0, 1)


class TestPreview:
    async def test_says_what_would_be_done_and_does_nothing(self, machine: Machine) -> None:
        kept, new = await machine.row("kept.example.com"), await machine.row("new.example.com")
        gone = await machine.row("gone.example.com")
        never = await machine.row("never.example.com", present=False)
        await machine.do(kept, gone)
        before = dict(machine.server.bound)
        fresh = actor(machine.storage, machine.target)
        removed = replace(gone, generation=2, state=BindingState.ABSENT, bundle_id="")
        assert [(step.action, step.row.host) for step in await fresh.preview(desired(kept, new, removed, never))] == [
            ("remove", "gone.example.com"),
            ("keep", "kept.example.com"),
            ("install", "new.example.com"),
        ]
        assert machine.server.bound == before

    async def test_names_a_binding_that_has_no_row(self, machine: Machine) -> None:
        kept, stray = await machine.row("kept.example.com"), await machine.row("stray.example.com")
        await machine.do(kept, stray)
        assert [step.row.host for step in await machine.actor.preview(desired(kept))] == ["kept.example.com"]
        machine.storage.clock.advance(60)
        await machine.say_whole()
        assert [(step.action, step.row.host) for step in await machine.actor.preview(desired(kept))] == [
            ("keep", "kept.example.com"),
            ("remove", "stray.example.com"),
        ]


class TestDesiredRows:
    @staticmethod
    async def stored(*rows: DesiredBinding) -> FakeStorage:
        storage = FakeStorage()
        for row in rows:
            await storage.state().bindings.update(row.key, lambda _, row=row: row)  # type: ignore[misc]
        return storage

    @staticmethod
    def row(host: str, role: str, *, present: bool = True, minute: int = 0) -> DesiredBinding:
        state = BindingState.PRESENT if present else BindingState.ABSENT
        at = START + timedelta(minutes=minute)
        return DesiredBinding(role=role, host=host, port=443, state=state, generation=1, changed_at=at)

    async def test_an_instance_reads_the_rows_for_all_and_for_its_role(self) -> None:
        everyone, web, api = self.row("a", ANY_ROLE), self.row("b", "web"), self.row("c", "api")
        storage = await self.stored(everyone, web, api)
        assert set((await desired_rows(storage.state(), "web")).rows) == {("a", 443), ("b", 443)}
        assert set((await desired_rows(storage.state(), ANY_ROLE)).rows) == {("a", 443)}

    async def test_its_roles_row_overrides_the_one_for_all_and_only_while_it_is_present(self) -> None:
        storage = await self.stored(
            self.row("a", ANY_ROLE), self.row("a", "web"), self.row("b", ANY_ROLE), self.row("b", "web", present=False)
        )
        rows = (await desired_rows(storage.state(), "web")).rows
        assert {host: row.role for (host, _), row in rows.items()} == {"a": "web", "b": ANY_ROLE}

    @pytest.mark.parametrize(("count", "of", "requests"), [(3, 1000, 8), (3, 40, 2), (150, 10_000, 2)])
    async def test_some_rows_are_read_alike_one_by_one_and_all_at_once(
        self, count: int, of: int, requests: int
    ) -> None:
        rows = [self.row(f"h{number}", role) for number in range(count) for role in (ANY_ROLE, "web")]
        storage = await self.stored(*rows, self.row("unasked", ANY_ROLE))
        keys = [(f"h{number}", 443) for number in range(count)]
        counted = Mortal()
        found = (await desired_of(storage.state(counted), "web", [*keys, ("unknown", 443)], of=of)).rows
        assert counted.steps.total() == requests
        assert set(found) == set(keys)
        assert {row.role for row in found.values()} == {"web"}
