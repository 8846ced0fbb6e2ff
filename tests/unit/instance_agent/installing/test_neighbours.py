"""What a change does to bindings beside it, which it did not name, on a server in memory."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.neighbours import neighbours_of
from instance_agent.installing.result import Result
from instance_agent.installing.sighting import Pace
from instance_agent.installing.takeover import MOST_NEIGHBOURS
from instance_agent.targets.base import (
    ApplyError,
    BindingChange,
    Install,
    InstalledBinding,
    Key,
    Remove,
    ServerUnavailableError,
)
from shared.binding import phrased
from shared.bounded import Delays
from shared.bundle import CertificateBundle
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome
from tests.fakes.target import FakeServer, FakeTarget, binding, bundle

QUICK = Pace(patience_s=0.2, confirm_s=0.02, pauses=Delays((0.01, 0.02, 0.05)))
WIDE, SHOP, BLOG = "*.example.com", "shop.example.com", "blog.example.com"
OTHER = "07" * 32


def target_with(*bound: Install, greedy: Sequence[str] = ()) -> FakeTarget:
    return FakeTarget(FakeServer(bound={change.key: change.bound for change in bound}, greedy=set(greedy)))


async def install_on(target: FakeTarget, *changes: BindingChange, earlier: Sequence[Install] = ()) -> list[Result]:
    bundles = {change.bundle_id: change.bundle for change in earlier}

    async def recall(old: InstalledBinding) -> CertificateBundle | None:
        return bundles.get(old.bundle_id)

    return await install(target, changes, target.server.probe, recall=recall, pace=QUICK)


class TestWhatIsLookedAt:
    async def test_nothing_more_where_nothing_near_is_bound(self) -> None:
        target = target_with(binding("shop.example.net"), binding(SHOP, port=444), binding("a.b.example.com"))
        results = await install_on(target, binding(WIDE, "wide"), binding("example.com", "apex"))
        assert {result.outcome for result in results} == {Outcome.LIVE}
        assert len(target.server.probes) == 2

    async def test_nothing_at_all_and_no_listing_where_an_exact_host_changes_alone(self) -> None:
        target = target_with(binding(SHOP), binding(BLOG))
        await install_on(target, binding(SHOP, "new"))
        assert target.server.probes == [SHOP]
        assert None not in target.asked

    async def test_the_exact_hosts_under_a_wildcard(self) -> None:
        target = target_with(binding(SHOP), binding(BLOG), binding("shop.example.net"))
        (result,) = await install_on(target, binding(WIDE, "wide"))
        assert (result.outcome, result.reason) == (Outcome.LIVE, "")
        assert set(target.server.probes[1:]) == {SHOP, BLOG}

    async def test_the_wildcard_above_exact_hosts_once_for_all_of_them(self) -> None:
        target = target_with(binding(WIDE, "wide"))
        await install_on(target, binding(SHOP), binding(BLOG))
        assert sum(str(name).startswith("certcast-probe-") for name in target.server.probes) == 1
        assert None not in target.asked

    async def test_the_default_beside_everything_and_everything_beside_the_default(self) -> None:
        target = target_with(binding(DEFAULT_HOST, "default"))
        await install_on(target, binding(SHOP))
        name, none, unknown = target.server.probes
        assert (name, none) == (SHOP, None)
        assert str(unknown).endswith(".invalid")
        target = target_with(binding(SHOP), binding(WIDE, "wide"))
        await install_on(target, binding(DEFAULT_HOST, "default"))
        assert len(target.server.probes) == 4

    async def test_not_more_than_a_sample_and_not_always_the_same_one(self) -> None:
        hosts = [f"h{number}.example.com" for number in range(3 * MOST_NEIGHBOURS)]
        samples = set()
        for _ in range(3):
            target = target_with(*(binding(host) for host in hosts))
            await install_on(target, binding(WIDE, "wide"))
            _, *looked_at = target.server.probes
            assert len(looked_at) == MOST_NEIGHBOURS
            samples.add(frozenset(looked_at))
        assert len(samples) > 1

    async def test_not_what_changes_in_the_same_batch(self) -> None:
        target = target_with(binding(SHOP), binding(WIDE, "wide"))
        await install_on(target, binding(SHOP, "new"), binding(WIDE, "new wide"))
        assert len(target.server.probes) == 2

    async def test_not_after_a_look_at_what_was_installed_already(self) -> None:
        target = target_with(binding(SHOP), binding(WIDE, "wide"))
        await install_on(target, binding(WIDE, "wide"))
        assert len(target.server.probes) == 1

    async def test_a_server_that_does_not_list_its_bindings_fails_no_change(self) -> None:
        target = target_with(binding(SHOP))
        listed = target.current

        async def current(keys: object = None) -> frozenset[InstalledBinding]:
            if keys is None:
                raise ServerUnavailableError("the socket is gone")
            return await listed(keys)  # type: ignore[arg-type]

        target.current = current  # type: ignore[method-assign]
        (result,) = await install_on(target, binding(WIDE, "wide"))
        assert result.outcome is Outcome.LIVE


class TestTakingOver:
    @pytest.mark.parametrize(
        ("change", "beside"), [(WIDE, SHOP), (SHOP, WIDE), (DEFAULT_HOST, SHOP), (DEFAULT_HOST, WIDE)]
    )
    async def test_a_new_binding_that_takes_a_neighbour_over_is_taken_away_again(
        self, change: str, beside: str
    ) -> None:
        target = target_with(binding(beside), greedy=[change])
        before = dict(target.server.bound)
        new = binding(change, "new")
        (result,) = await install_on(target, new)
        assert result.outcome is Outcome.PROBE_MISMATCH
        told = f"{phrased(change, 443)} is served, but {beside}:443 now gets its certificate too"
        assert result.reason == f"{told}; the binding was taken away again"
        assert target.server.bound == before
        assert target.retired == [new.bound]

    async def test_a_renewal_that_takes_a_neighbour_over_is_replaced_by_what_was_before(self) -> None:
        old = binding(WIDE, "wide")
        target = target_with(old, binding(SHOP))
        renewed = binding(WIDE, "other kind of key")
        take_over_from(target, renewed)
        (result,) = await install_on(target, renewed, earlier=[old])
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert f"but {SHOP}:443 now gets its certificate too; the one before it is served again" in result.reason
        assert target.server.bound[WIDE, 443] == old.bound

    async def test_one_that_cannot_be_taken_back_stays_and_is_told_on(self) -> None:
        target = target_with(binding(WIDE, "wide"), binding(SHOP))
        renewed = binding(WIDE, "other kind of key")
        take_over_from(target, renewed)
        (result,) = await install_on(target, renewed)
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert "could not be fetched" in result.reason
        assert target.server.bound[WIDE, 443] == renewed.bound

    async def test_a_renewal_stays_where_its_neighbour_was_taken_over_before(self) -> None:
        """Else the wildcard could never be renewed again."""
        old = binding(WIDE, "wide")
        target = target_with(old, binding(SHOP), greedy=[WIDE])
        renewed = binding(WIDE, "new wide")
        (result,) = await install_on(target, renewed, earlier=[old])
        assert result.outcome is Outcome.LIVE
        assert result.reason == f"{SHOP}:443 gets its certificate too, as it did the one before"
        assert target.server.bound[WIDE, 443] == renewed.bound
        assert [len(batch) for batch in target.applies] == [1, 1, 1]

    async def test_a_renewal_that_cannot_be_made_again_is_told(self) -> None:
        old = binding(WIDE, "wide")
        target = target_with(old, binding(SHOP), greedy=[WIDE])
        apply = target.apply

        async def apply_twice(changes: Sequence[BindingChange]) -> None:
            if len(target.applies) == 2:
                raise ApplyError("the disk is full")
            await apply(changes)

        target.apply = apply_twice  # type: ignore[method-assign]
        (result,) = await install_on(target, binding(WIDE, "new wide"), earlier=[old])
        assert result.outcome is Outcome.FAILED
        assert result.reason.endswith("; the disk is full")

    async def test_the_one_that_did_it_goes_and_the_others_stay(self) -> None:
        target = target_with(binding(SHOP), greedy=[WIDE])
        results = await install_on(target, binding("a.example.net", "a"), binding(WIDE, "wide"))
        outcomes = {result.change.host: result.outcome for result in results}
        assert outcomes == {"a.example.net": Outcome.LIVE, WIDE: Outcome.PROBE_MISMATCH}
        assert set(target.server.bound) == {(SHOP, 443), ("a.example.net", 443)}

    async def test_a_certificate_that_neighbours_share_takes_nothing_over(self) -> None:
        target = target_with(binding(SHOP, "both"), greedy=[WIDE])
        (result,) = await install_on(target, binding(WIDE, "both"))
        assert (result.outcome, result.reason) == (Outcome.LIVE, "")

    @pytest.mark.parametrize("trouble", ["shadowed", "mute"])
    async def test_a_neighbour_that_shows_something_else_or_nothing_is_no_changes_fault(self, trouble: str) -> None:
        target = target_with(binding(SHOP))
        setattr(target.server, trouble, {SHOP: OTHER} if trouble == "shadowed" else {SHOP})
        (result,) = await install_on(target, binding(WIDE, "wide"))
        assert (result.outcome, result.reason) == (Outcome.LIVE, "")

    async def test_one_of_the_same_upload_that_is_seen_late_was_not_taken_over(self) -> None:
        """It was renewed in the same batch with the same certificate, and its first handshakes failed."""
        old = [binding(SHOP, "old"), binding(WIDE, "old")]
        target = target_with(*old)
        target.server.handshakes_fail = {SHOP}
        listed = target.current

        async def current(keys: object = None) -> frozenset[InstalledBinding]:
            if keys is None:
                target.server.handshakes_fail.clear()
            return await listed(keys)  # type: ignore[arg-type]

        target.current = current  # type: ignore[method-assign]
        shop, wide = await install_on(target, binding(SHOP, "both"), binding(WIDE, "both"), earlier=old)
        assert (shop.outcome, shop.retriable) == (Outcome.FAILED, True)
        assert (wide.outcome, wide.reason) == (Outcome.LIVE, "")
        assert {each.bundle_id for each in target.server.bound.values()} == {"id of both"}

    @pytest.mark.parametrize("change", [WIDE, DEFAULT_HOST])
    async def test_one_that_somebody_took_away_before_was_not_taken_over(self, change: str) -> None:
        remembered = binding(SHOP)
        target = target_with()
        current = target.current

        async def until_read_again(keys: Collection[Key] | None = None) -> frozenset[InstalledBinding]:
            found = await current(keys)
            of_it = keys is None or remembered.key in keys
            return found | {remembered.bound} if of_it and not target.forgets else found

        target.current = until_read_again  # type: ignore[method-assign]
        (result,) = await install_on(target, binding(change, "new"))
        assert (result.outcome, result.reason) == (Outcome.LIVE, "")
        assert SHOP in target.server.probes

    async def test_one_of_which_the_server_cannot_tell_what_is_bound_was_not_taken_over(self) -> None:
        target = target_with(binding(SHOP))
        target.server.bound[SHOP, 443] = replace(binding(SHOP).bound, bundle_id="", fingerprint_sha256="")
        target.server.shadowed = {SHOP: bundle("both").fingerprint_sha256}
        (result,) = await install_on(target, binding(WIDE, "both"))
        assert (result.outcome, result.reason) == (Outcome.LIVE, "")


class TestRemoving:
    async def test_a_removed_host_is_answered_by_its_wildcard_and_looked_at_for_that(self) -> None:
        target = target_with(binding(SHOP), binding(WIDE, "wide"))
        (result,) = await install_on(target, Remove(host=SHOP, port=443))
        assert (result.outcome, result.reason) == (Outcome.REMOVED, "")

    async def test_one_that_its_wildcard_does_not_answer_for_is_removed_and_told(self) -> None:
        """As where a server's rule that keeps the host out of the wildcard was left behind."""
        target = target_with(binding(SHOP), binding(WIDE, "wide"))
        target.server.shadowed = {SHOP: OTHER}
        (result,) = await install_on(target, Remove(host=SHOP, port=443))
        assert result.outcome is Outcome.REMOVED
        wanted = bundle("wide").fingerprint_sha256[:16]
        assert result.reason == f"{SHOP}:443 serves {OTHER[:16]}… since, in place of {wanted}…"

    async def test_a_neighbour_that_a_removal_did_harm_to_is_told(self) -> None:
        target = target_with(binding(SHOP), binding(WIDE, "wide"))
        target.server.shadowed = {SHOP: OTHER}
        (result,) = await install_on(target, Remove(host=WIDE, port=443))
        assert result.outcome is Outcome.REMOVED
        assert f"{SHOP}:443 serves {OTHER[:16]}… since" in result.reason


def take_over_from(target: FakeTarget, change: Install) -> None:
    """A binding is greedy from when this certificate is bound for it, as one with another kind of key is."""
    apply = target.apply

    async def watched(changes: Sequence[BindingChange]) -> None:
        await apply(changes)
        target.server.greedy = {change.host} if target.server.bound.get(change.key) == change.bound else set()

    target.apply = watched  # type: ignore[method-assign]


def test_a_host_that_was_not_there_has_no_heir() -> None:
    wide = binding(WIDE, "wide")
    bound = {wide.key: wide.bound}
    (neighbour,) = neighbours_of([Remove(host=SHOP, port=443)], bound)
    assert neighbour.expected.host == WIDE
