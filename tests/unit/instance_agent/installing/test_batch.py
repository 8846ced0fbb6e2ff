"""What of a batch is applied, and how the good changes are found among the bad."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.installing.applying import apply_all
from instance_agent.installing.batch import after_failure, triage
from instance_agent.targets.base import (
    ApplyError,
    BindingChange,
    Install,
    InstalledBinding,
    Remove,
    ServerUnavailableError,
)
from tests.fakes.target import FakeTarget, binding

OTHER = "07" * 32


class TestPlanning:
    changes = st.lists(
        st.builds(
            lambda host, name: Remove(host=host, port=443) if name is None else binding(host, name),
            st.sampled_from([f"h{i}.example.com" for i in range(8)]),
            st.sampled_from([None, "old", "new"]),
        ),
        unique_by=lambda change: change.key,
    )

    @given(changes, changes, st.sets(st.sampled_from([f"h{i}.example.com" for i in range(8)])))
    def test_every_change_has_one_place_and_only_what_differs_is_applied(
        self, there: list[BindingChange], changes: list[BindingChange], refused: set[str]
    ) -> None:
        table = {each.key: each.bound for each in there if isinstance(each, Install)}
        planned = triage(changes, table, lambda change: "never" if change.host in refused else None)
        everything = [change for change, _ in planned.refused]
        assert Counter([*everything, *planned.unchanged, *planned.absent, *planned.pending]) == Counter(changes)
        assert {change.host for change in everything} == {
            change.host for change in changes if isinstance(change, Install) and change.host in refused
        }
        assert all(change.is_done_by(table[change.key]) for change in planned.unchanged)
        assert not {change.key for change in planned.absent} & table.keys()
        for change in planned.pending:
            assert change.key in table if isinstance(change, Remove) else not change.is_done_by(table.get(change.key))

    def test_two_changes_for_one_host_and_port_are_a_mistake_of_the_caller(self) -> None:
        with pytest.raises(ValueError, match="same host and port"):
            triage([binding("a.example.com"), Remove(host="a.example.com", port=443)], {}, lambda _: None)

    @pytest.mark.parametrize(
        ("change", "done"),
        [
            (lambda there: there, True),
            (lambda there: replace(there, bundle_id=""), True),
            (lambda there: replace(there, bundle_id="id of the same leaf with another chain"), False),
            (lambda there: replace(there, fingerprint_sha256=OTHER), False),
            (lambda there: replace(there, site="other"), False),
            (lambda there: replace(there, site="Shop"), False),
            (lambda there: replace(there, site="Shop", site_in_any_case=True), True),
            (lambda there: replace(there, site="other", site_in_any_case=True), False),
            (lambda there: replace(there, site=None, site_in_any_case=True), False),
            (lambda there: replace(there, port=444), False),
            (lambda _: None, False),
        ],
    )
    def test_a_binding_is_unchanged_only_when_leaf_bundle_and_site_are(
        self, change: Callable[[InstalledBinding], InstalledBinding | None], *, done: bool
    ) -> None:
        wanted = binding("a.example.com", site="shop")
        assert wanted.is_done_by(change(wanted.bound)) is done

    def test_a_change_that_names_no_site_is_content_with_any(self) -> None:
        assert binding("a.example.com").is_done_by(binding("a.example.com", site="shop").bound)


class TestHalving:
    @given(st.integers(1, 40), st.integers(-1, 45))
    def test_a_failed_batch_loses_nothing_and_gets_smaller(self, size: int, culprit: int) -> None:
        batch = tuple(Remove(host=f"h{i}", port=443) for i in range(size))
        blamed, rest = after_failure(batch, (f"h{culprit}", 443))
        assert sorted(change.host for part in (*rest, (blamed,) if blamed else ()) for change in part) == sorted(
            change.host for change in batch
        )
        assert all(0 < len(part) < size for part in rest)
        if culprit in range(size):
            assert blamed == batch[culprit]

    @given(size=st.integers(0, 60), bad=st.sets(st.integers(0, 59)), names_culprits=st.booleans())
    def test_the_good_are_applied_the_bad_are_not_and_it_does_not_take_too_many_tries(
        self, size: int, bad: set[int], *, names_culprits: bool
    ) -> None:
        changes = [binding(f"h{i}.example.com") for i in range(size)]
        bad_hosts = {f"h{i}.example.com" for i in bad if i < size}
        target = FakeTarget(names_culprits=names_culprits)
        target.breaks_on = bad_hosts
        decided = asyncio.run(apply_all(target.apply, changes))
        assert Counter(each.change.host for each in decided) == Counter(change.host for change in changes)
        assert {each.change.host for each in decided if each.failure} == bad_hosts
        assert {host for host, _ in target.server.bound} == {change.host for change in changes} - bad_hosts
        bound = len(bad_hosts) + 1
        if not names_culprits:
            bound = 2 * len(bad_hosts) * math.ceil(math.log2(max(size, 2))) + 1
        assert len(target.applies) <= bound

    async def test_a_server_that_is_down_is_neither_halved_nor_asked_again(self) -> None:
        target = FakeTarget()
        target.server.down = True
        decided = await apply_all(target.apply, [binding(f"h{i}.example.com") for i in range(10)])
        assert len(target.applies) == 1
        assert all(each.retriable and "start it" in each.failure for each in decided)
        assert len(decided) == 10

    async def test_a_server_that_goes_down_on_the_way_leaves_what_was_applied_and_fails_the_rest(self) -> None:
        changes = [binding(f"h{i}.example.com") for i in range(8)]
        done: list[str] = []

        async def apply(batch: Sequence[BindingChange]) -> None:
            if len(batch) == 8:
                raise ApplyError("one of these")
            if done:
                raise ServerUnavailableError("gone")
            done.extend(change.host for change in batch)

        decided = await apply_all(apply, changes)
        assert [each.change.host for each in decided if not each.failure] == [f"h{i}.example.com" for i in range(4)]
        assert [each.change.host for each in decided if each.failure] == [f"h{i}.example.com" for i in range(4, 8)]

    async def test_a_culprit_that_is_not_in_the_batch_is_not_believed(self) -> None:
        async def apply(batch: Sequence[BindingChange]) -> None:
            if any(change.host == "bad" for change in batch):
                raise ApplyError("an odd server", culprit=("elsewhere", 443))

        decided = await apply_all(apply, [Remove(host=host, port=443) for host in ("a", "bad", "b")])
        assert [each.change.host for each in decided if each.failure] == ["bad"]

    async def test_a_defect_of_the_target_met_by_one_change_does_not_hold_up_the_others(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def apply(batch: Sequence[BindingChange]) -> None:
            if any(change.host == "odd" for change in batch):
                raise ZeroDivisionError("a secret of the server")

        decided = await apply_all(apply, [Remove(host=host, port=443) for host in ("a", "odd", "b")])
        (failed,) = [each for each in decided if each.failure]
        assert failed.change.host == "odd"
        assert "ZeroDivisionError" in failed.failure
        assert "secret" not in failed.failure
        assert "does not declare" in caplog.text

    async def test_an_apply_that_fails_after_the_cancellation_is_noted(self, caplog: pytest.LogCaptureFixture) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def apply(_: Sequence[BindingChange]) -> None:
            begun.set()
            await go_on.wait()
            raise ApplyError("the disk is full")

        work = asyncio.create_task(apply_all(apply, [binding("a.example.com")]))
        await begun.wait()
        work.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert "the disk is full" in caplog.text
