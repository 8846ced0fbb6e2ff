"""What becomes of a batch: proof by probe, undoing and cleaning up, on a server in memory."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.probe import ProbeError
from instance_agent.installing.result import Result
from instance_agent.installing.sighting import Pace
from instance_agent.targets.base import ApplyError, BindingChange, Install, InstalledBinding, Remove
from shared.bounded import Delays
from shared.bundle import CertificateBundle
from shared.errors import UnavailableError
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome
from tests.fakes.target import FALLBACK, FakeServer, FakeTarget, binding, bundle

QUICK = Pace(patience_s=0.2, confirm_s=0.02, pauses=Delays((0.01, 0.02, 0.05)))
OTHER = "07" * 32


def target_with(*bound: Install) -> FakeTarget:
    return FakeTarget(FakeServer(bound={change.key: change.bound for change in bound}))


async def install_on(
    target: FakeTarget, *changes: BindingChange, earlier: Sequence[Install] = (), pace: Pace = QUICK
) -> list[Result]:
    """Install with the target's own probe; `earlier` bundles can be recalled."""
    bundles = {change.bundle_id: change.bundle for change in earlier}

    async def recall(old: InstalledBinding) -> CertificateBundle | None:
        return bundles.get(old.bundle_id)

    return await install(target, changes, target.server.probe, recall=recall, pace=pace)


class TestInstalling:
    async def test_a_batch_is_applied_at_once_and_each_change_is_reported_in_its_place(self) -> None:
        target = target_with(binding("gone.example.com"), binding("renewed.example.com"))
        changes: list[BindingChange] = [
            binding("new.example.com", "new"),
            Remove(host="gone.example.com", port=443),
            binding("renewed.example.com", "new"),
            Remove(host="never-there.example.com", port=443),
        ]
        results = await install_on(target, *changes)
        assert [result.change for result in results] == changes
        assert [result.outcome for result in results] == [
            Outcome.LIVE, Outcome.REMOVED, Outcome.LIVE, Outcome.REMOVED,
        ]  # fmt: skip
        assert len(target.applies) == 1
        assert results[0].seen_fingerprint_sha256 == bundle("new").fingerprint_sha256
        assert results[1].seen_fingerprint_sha256 == FALLBACK
        assert not any(result.reason for result in results)
        assert set(results[0].stages_ms) == {"apply", "probe"}
        assert all(took >= 0 for took in results[0].stages_ms.values())

    async def test_the_server_is_asked_about_the_batch_and_what_is_above_its_hosts(self) -> None:
        target = target_with(binding("gone.example.com"), binding("other.example.com"))
        await install_on(
            target,
            binding("new.example.org", "new"),
            Remove(host="gone.example.com", port=443),
            Remove(host="gone.example.org", port=443),
        )
        hosts = ("new.example.org", "gone.example.org", "*.example.org", "gone.example.com", "*.example.com", "*")
        assert target.asked == [frozenset((host, 443) for host in hosts)]

    async def test_what_was_replaced_or_removed_is_cleaned_up_and_nothing_else(self) -> None:
        target = target_with(binding("a.example.com"), binding("b.example.com"), binding("c.example.com"))
        before = target.server.bound
        await install_on(
            target,
            binding("a.example.com", "new"),
            Remove(host="b.example.com", port=443),
            binding("c.example.com"),
            binding("d.example.com"),
        )
        assert target.retired == [before["a.example.com", 443], before["b.example.com", 443]]

    async def test_what_is_installed_already_is_looked_at_but_not_applied_again(self) -> None:
        target = target_with(binding("a.example.com"))
        (result,) = await install_on(target, binding("a.example.com"))
        assert result.outcome is Outcome.LIVE
        assert result.seen_fingerprint_sha256 == bundle("old").fingerprint_sha256
        assert target.server.probes == ["a.example.com"]
        assert target.applies == []

    async def test_what_should_be_installed_but_is_not_seen_is_installed_again(self) -> None:
        target = target_with(binding("a.example.com"), binding("b.example.com"))
        target.server.shadowed = {"a.example.com": OTHER}
        results = await install_on(target, binding("a.example.com"), binding("b.example.com"))
        assert [[change.host for change in batch] for batch in target.applies] == [["a.example.com"]]
        assert [result.outcome for result in results] == [Outcome.PROBE_MISMATCH, Outcome.LIVE]
        assert "it stays bound, as it was before" in results[0].reason
        assert target.retired == []

    async def test_a_change_the_server_can_never_take_is_refused_and_not_tried(self) -> None:
        target = FakeTarget()
        target.refuses = {"*.example.com": "IIS before 10 has no wildcard bindings"}
        results = await install_on(target, binding("*.example.com"), binding("a.example.com"))
        assert [result.outcome for result in results] == [Outcome.REFUSED, Outcome.LIVE]
        assert results[0].reason == "IIS before 10 has no wildcard bindings"
        assert not results[0].retriable
        assert [len(batch) for batch in target.applies] == [1]

    @pytest.mark.parametrize("names_culprits", [True, False])
    async def test_a_bad_change_fails_with_the_servers_words_and_the_others_go_live(
        self, *, names_culprits: bool
    ) -> None:
        target = FakeTarget(names_culprits=names_culprits)
        target.breaks_on = {"h3.example.com"}
        results = await install_on(target, *(binding(f"h{i}.example.com") for i in range(10)))
        failed = [result for result in results if result.outcome is Outcome.FAILED]
        assert [result.change.host for result in failed] == ["h3.example.com"]
        assert failed[0].reason == "the server does not take h3.example.com:443"
        assert not failed[0].retriable
        assert sum(result.outcome is Outcome.LIVE for result in results) == 9

    async def test_a_server_that_does_not_tell_what_it_has_fails_everything_for_now(self) -> None:
        target = FakeTarget()
        target.server.down = True
        results = await install_on(target, binding("a.example.com"), Remove(host="b.example.com", port=443))
        assert [(result.outcome, result.retriable) for result in results] == [(Outcome.FAILED, True)] * 2
        assert target.applies == []

    async def test_an_empty_batch_does_nothing(self) -> None:
        target = FakeTarget()
        assert await install_on(target) == []
        assert target.applies == []


class TestProof:
    async def test_a_reload_that_takes_a_moment_is_waited_for(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.stale_looks = 3
        (result,) = await install_on(target, binding("a.example.com", "new"))
        assert result.outcome is Outcome.LIVE

    async def test_a_wildcard_is_proved_under_a_name_no_exact_binding_has(self) -> None:
        target = FakeTarget()
        (result,) = await install_on(target, binding("*.example.com", "new"))
        assert result.outcome is Outcome.LIVE
        (name,) = target.server.probes
        assert name is not None
        assert name.startswith("certcast-probe-")

    async def test_never_more_handshakes_at_once_than_the_pace_allows(self) -> None:
        target = FakeTarget()
        running = most = 0

        async def probe(address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1
            return await target.server.probe(address, sni, timeout_s=timeout_s)

        changes = [binding(f"h{i}.example.com") for i in range(100)]
        results = await install(target, changes, probe, pace=replace(QUICK, at_once=5, patience_s=20))
        assert {result.outcome for result in results} == {Outcome.LIVE}
        assert most == 5

    async def test_a_listener_that_no_one_answers_at_fails_for_now_and_keeps_the_new_binding(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.deaf = True
        (result,) = await install_on(target, binding("a.example.com", "new"), earlier=[binding("a.example.com")])
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        assert "did not accept a connection" in result.reason
        assert target.server.bound["a.example.com", 443].bundle_id == "id of new"
        assert target.retired == []

    async def test_a_server_without_a_listener_is_believed_and_the_report_says_so(self) -> None:
        target = FakeTarget()
        target.has_listener = False
        (result,) = await install_on(target, binding("a.example.com"))
        assert result.outcome is Outcome.LIVE
        assert result.seen_fingerprint_sha256 == ""
        assert "not looked at" in result.reason

    async def test_a_removed_certificate_that_is_still_served_is_a_failure(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.shadowed = {"a.example.com": bundle("old").fingerprint_sha256}
        (result,) = await install_on(target, Remove(host="a.example.com", port=443))
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        assert "still served" in result.reason
        assert target.retired == []

    async def test_a_removed_host_whose_handshake_fails_is_removed(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.handshakes_fail = {"a.example.com"}
        (result,) = await install_on(target, Remove(host="a.example.com", port=443))
        assert result.outcome is Outcome.REMOVED

    @pytest.mark.parametrize("kind", ["mute", "handshakes_fail"])
    async def test_a_removed_binding_that_the_server_only_half_had_is_believed_to_be_gone(self, kind: str) -> None:
        half = replace(binding("a.example.com").bound, bundle_id="", fingerprint_sha256="")
        target = FakeTarget(FakeServer(bound={half.key: half}))
        setattr(target.server, kind, {"a.example.com"})
        (result,) = await install_on(target, Remove(host="a.example.com", port=443))
        assert result.outcome is Outcome.REMOVED
        assert "still served" not in result.reason

    async def test_a_removed_binding_is_not_said_to_be_served_by_another_that_the_server_only_half_has(self) -> None:
        target = FakeTarget()
        for host in ("a.example.com", "*.example.com"):
            half = replace(binding(host).bound, bundle_id="", fingerprint_sha256="")
            target.server.bound[half.key] = half
        target.server.shadowed = {"a.example.com": OTHER}
        (result,) = await install_on(target, Remove(host="a.example.com", port=443))
        assert (result.outcome, result.reason) == (Outcome.REMOVED, "")

    async def test_a_certificate_that_a_wildcard_of_ours_goes_on_serving_is_removed_from_the_host_all_the_same(
        self,
    ) -> None:
        target = target_with(binding("a.example.com"), binding("*.example.com"))
        (result,) = await install_on(target, Remove(host="a.example.com", port=443))
        assert result.outcome is Outcome.REMOVED
        assert "*.example.com" in result.reason

    async def test_removing_host_and_wildcard_together_is_proved_for_both(self) -> None:
        target = target_with(binding("a.example.com"), binding("*.example.com"))
        results = await install_on(
            target, Remove(host="a.example.com", port=443), Remove(host="*.example.com", port=443)
        )
        assert [(result.outcome, result.reason) for result in results] == [(Outcome.REMOVED, "")] * 2

    async def test_a_removed_certificate_that_is_the_servers_default_as_well_is_removed(self) -> None:
        target = target_with(binding("a.example.com"))
        old = target.server.bound["a.example.com", 443]
        target.server.bound["a.example.com", 443] = replace(old, fingerprint_sha256=FALLBACK)
        (result,) = await install_on(target, Remove(host="a.example.com", port=443))
        assert result.outcome is Outcome.REMOVED
        assert "unknown names" in result.reason

    async def test_trouble_while_cleaning_up_fails_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        target = target_with(binding("a.example.com"))
        target.retire_error = OSError("the store is locked")
        (result,) = await install_on(target, binding("a.example.com", "new"))
        assert result.outcome is Outcome.LIVE
        assert "the store is locked" in caplog.text


class TestMismatch:
    async def test_the_old_certificate_is_bound_and_seen_again(self) -> None:
        old = binding("a.example.com", site="shop")
        target = target_with(old, binding("b.example.com"))
        before = dict(target.server.bound)
        target.server.shadowed = {"a.example.com": OTHER}

        async def heal() -> None:
            while len(target.applies) < 2:  # noqa: ASYNC110 - the fake has no event for its second batch
                await asyncio.sleep(0)
            target.server.shadowed = {}

        healing = asyncio.create_task(heal())
        (result,) = await install_on(target, binding("a.example.com", "new", site="shop"), earlier=[old])
        await healing
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert f"serves {OTHER[:16]}…" in result.reason
        assert "the one before it is served again" in result.reason
        assert target.server.bound == before
        assert [each.bundle_id for each in target.retired] == ["id of new"]

    async def test_what_was_seen_is_reported_with_the_targets_explanation(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.shadowed = {"a.example.com": OTHER}
        target.explanation = "the catch-all binding *:443 answers first"
        (result,) = await install_on(target, binding("a.example.com", "new"), earlier=[binding("a.example.com")])
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert result.seen_fingerprint_sha256 == OTHER
        assert f"serves {OTHER[:16]}… in place of {bundle('new').fingerprint_sha256[:16]}…" in result.reason
        assert "the catch-all binding *:443 answers first" in result.reason
        assert "bound again but not seen either" in result.reason

    async def test_all_mismatches_are_undone_in_one_batch_and_the_rest_stays_live(self) -> None:
        old = [binding(f"h{i}.example.com") for i in range(6)]
        target = target_with(*old)
        target.server.shadowed = {f"h{i}.example.com": OTHER for i in range(3)}
        results = await install_on(target, *(binding(each.host, "new") for each in old), earlier=old)
        assert [result.outcome for result in results] == [Outcome.PROBE_MISMATCH] * 3 + [Outcome.LIVE] * 3
        assert [len(batch) for batch in target.applies] == [6, 3]
        assert [target.server.bound[each.key].bundle_id for each in old] == ["id of old"] * 3 + ["id of new"] * 3
        undone = [(f"h{i}.example.com", "id of new") for i in range(3)]
        replaced = [(f"h{i}.example.com", "id of old") for i in range(3, 6)]
        assert [(each.host, each.bundle_id) for each in target.retired] == undone + replaced

    async def test_a_host_that_had_nothing_has_nothing_again(self) -> None:
        target = FakeTarget()
        target.server.shadowed = {"a.example.com": OTHER}
        (result,) = await install_on(target, binding("a.example.com"))
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert "taken away again" in result.reason
        assert target.server.bound == {}
        assert [(each.key, each.bundle_id) for each in target.retired] == [(("a.example.com", 443), "id of old")]

    async def test_cleaning_up_after_what_was_undone_may_fail(self, caplog: pytest.LogCaptureFixture) -> None:
        target = FakeTarget()
        target.server.shadowed = {"a.example.com": OTHER}
        target.retire_error = OSError("the store is locked")
        (result,) = await install_on(target, binding("a.example.com"))
        assert "taken away again" in result.reason
        assert "cleaning up after 1 bindings that are gone failed" in caplog.text

    async def test_the_new_certificate_stays_where_the_old_cannot_be_had(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.shadowed = {"a.example.com": OTHER}
        (result,) = await install_on(target, binding("a.example.com", "new"))
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert "could not be fetched" in result.reason
        assert target.server.bound["a.example.com", 443].bundle_id == "id of new"
        assert target.retired == []

    async def test_a_recalled_bundle_with_another_leaf_is_not_installed(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.shadowed = {"a.example.com": OTHER}
        impostor = replace(binding("a.example.com"), bundle=bundle("new"))
        (result,) = await install_on(target, binding("a.example.com", "new"), earlier=[impostor])
        assert "could not be fetched" in result.reason

    async def test_a_store_that_cannot_be_asked_for_the_old_bundle_is_reported_as_a_mismatch_all_the_same(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.shadowed = {"a.example.com": OTHER}

        async def recall(_: InstalledBinding) -> CertificateBundle | None:
            raise UnavailableError("the storage account does not answer")

        changes = [binding("a.example.com", "new")]
        (result,) = await install(target, changes, target.server.probe, recall=recall, pace=QUICK)
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert "could not be fetched" in result.reason

    async def test_an_undo_that_the_server_does_not_take_is_told(self) -> None:
        old = binding("a.example.com")
        target = target_with(old)
        target.server.shadowed = {"a.example.com": OTHER}

        async def recall(_: InstalledBinding) -> CertificateBundle | None:
            target.apply_error = ApplyError("the disk is full")
            return old.bundle

        changes = [binding("a.example.com", "new")]
        (result,) = await install(target, changes, target.server.probe, recall=recall, pace=QUICK)
        assert "undoing it failed: the disk is full" in result.reason
        assert target.retired == []


class TestNotSeen:
    """A look that shows no certificate is no other certificate."""

    @pytest.mark.parametrize("kind", ["mute", "handshakes_fail"])
    async def test_a_binding_of_which_nothing_is_seen_stays_and_is_to_be_tried_again(self, kind: str) -> None:
        old = binding("a.example.com")
        target = target_with(old)
        setattr(target.server, kind, {"a.example.com"})
        (result,) = await install_on(target, binding("a.example.com", "new"), earlier=[old])
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        assert "a.example.com:443 is bound, but no certificate was seen: " in result.reason
        assert result.seen_fingerprint_sha256 == ""
        assert target.server.bound["a.example.com", 443].bundle_id == "id of new"
        assert (len(target.applies), target.retired) == (1, [])

    async def test_it_is_looked_at_again_but_not_applied_again_by_the_same_process(self) -> None:
        target, change, unseen = FakeTarget(), binding("a.example.com"), dict[tuple[str, int], str]()
        target.server.mute = {"a.example.com"}
        for _ in range(3):
            (result,) = await install(target, [change], target.server.probe, pace=QUICK, unseen=unseen)
            assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        assert len(target.applies) == 1
        target.server.mute = set()
        (result,) = await install(target, [change], target.server.probe, pace=QUICK, unseen=unseen)
        assert result.outcome is Outcome.LIVE
        assert (len(target.applies), unseen) == (1, {})

    async def test_nothing_is_kept_of_one_that_was_removed(self) -> None:
        target, unseen = FakeTarget(), dict[tuple[str, int], str]()
        target.server.mute = {"a.example.com"}
        await install(target, [binding("a.example.com")], target.server.probe, pace=QUICK, unseen=unseen)
        assert unseen
        gone = Remove(host="a.example.com", port=443)
        await install(target, [gone], target.server.probe, pace=QUICK, unseen=unseen)
        assert unseen == {}

    async def test_another_process_applies_it_once_more_since_the_first_may_have_ended_half_way(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.mute = {"a.example.com"}
        await install_on(target, binding("a.example.com"))
        assert len(target.applies) == 1

    async def test_another_certificate_seen_later_is_undone_as_ever(self) -> None:
        old = binding("a.example.com")
        target, unseen = target_with(old), dict[tuple[str, int], str]()
        target.server.mute = {"a.example.com"}
        new = binding("a.example.com", "new")
        await install(target, [new], target.server.probe, pace=QUICK, unseen=unseen)
        target.server.mute, target.server.shadowed = set(), {"a.example.com": OTHER}
        (result,) = await install(target, [new], target.server.probe, pace=QUICK, unseen=unseen)
        assert result.outcome is Outcome.PROBE_MISMATCH

    async def test_the_right_certificate_in_a_handshake_that_no_client_finishes_is_told_and_stays(self) -> None:
        target, change = FakeTarget(), binding("a.example.com")
        shown = change.bundle.fingerprint_sha256

        async def probe(address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
            del address, sni, timeout_s
            raise ProbeError("failed the TLS handshake: bad signature", reached=True, shown=shown)

        (result,) = await install(target, [change], probe, pace=QUICK)
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        assert "shows its certificate, which no client can make use of: failed the TLS handshake" in result.reason
        assert set(target.server.bound) == {change.key}

    async def test_another_certificate_in_such_a_handshake_is_another_certificate(self) -> None:
        target = FakeTarget()

        async def probe(address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
            del address, sni, timeout_s
            raise ProbeError("failed the TLS handshake: bad signature", reached=True, shown=OTHER)

        (result,) = await install(target, [binding("a.example.com")], probe, pace=QUICK)
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert target.server.bound == {}

    async def test_a_removed_host_of_which_nothing_is_seen_is_removed_by_the_servers_word_alone(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.mute = {"a.example.com"}
        (result,) = await install_on(target, Remove(host="a.example.com", port=443))
        assert result.outcome is Outcome.REMOVED
        assert "is unbound, but what is served there now could not be seen: " in result.reason

    async def test_a_listener_that_is_slow_is_waited_for_before_a_removal_is_believed(self) -> None:
        target = target_with(binding("a.example.com"))
        looks = 0

        async def probe(address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
            nonlocal looks
            looks += 1
            if looks < 3:
                raise ProbeError("did not finish", reached=True, silent=True, timed_out=True)
            return await target.server.probe(address, sni, timeout_s=timeout_s)

        (result,) = await install(target, [Remove(host="a.example.com", port=443)], probe, pace=QUICK)
        assert (result.outcome, result.reason, looks) == (Outcome.REMOVED, "", 3)

    async def test_a_listener_that_is_gone_serves_nothing_any_more(self) -> None:
        target = target_with(binding("a.example.com"))
        target.server.deaf = True
        (result,) = await install_on(target, Remove(host="a.example.com", port=443))
        assert (result.outcome, result.reason) == (Outcome.REMOVED, "")


class TestTheDefault:
    async def test_it_is_proved_without_a_name_and_with_an_unknown_one(self) -> None:
        target = FakeTarget()
        (result,) = await install_on(target, binding(DEFAULT_HOST))
        assert result.outcome is Outcome.LIVE
        none, unknown = target.server.probes
        assert none is None
        assert re.fullmatch(r"certcast-probe-[0-9a-f]{8}\.invalid", str(unknown))

    async def test_a_server_that_gives_it_only_to_clients_without_a_name_is_told_on(self) -> None:
        target = FakeTarget()

        async def probe(address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
            return OTHER if sni else await target.server.probe(address, sni, timeout_s=timeout_s)

        (result,) = await install(target, [binding(DEFAULT_HOST)], probe, pace=QUICK)
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert "to clients that ask for an unknown name" in result.reason

    async def test_one_that_refuses_clients_without_a_name_is_told_too_and_keeps_it(self) -> None:
        target = FakeTarget()
        target.server.mute = {""}
        (result,) = await install_on(target, binding(DEFAULT_HOST))
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        assert set(target.server.bound) == {(DEFAULT_HOST, 443)}

    async def test_a_removed_host_that_it_now_answers_for_with_the_same_certificate_is_removed(self) -> None:
        target = target_with(binding("a.example.com"), binding(DEFAULT_HOST))
        (result,) = await install_on(target, Remove(host="a.example.com", port=443))
        assert result.outcome is Outcome.REMOVED
        assert "still served there for clients that ask for no name or an unknown one" in result.reason

    async def test_a_wildcard_with_another_certificate_is_nearer_than_the_default(self) -> None:
        target = target_with(binding("a.example.com"), binding("*.example.com", "wide"), binding(DEFAULT_HOST))
        (result,) = await install_on(target, Remove(host="a.example.com", port=443))
        assert (result.outcome, result.reason) == (Outcome.REMOVED, "")
        assert result.seen_fingerprint_sha256 == bundle("wide").fingerprint_sha256

    async def test_its_removal_is_seen(self) -> None:
        target = target_with(binding(DEFAULT_HOST))
        (result,) = await install_on(target, Remove(host=DEFAULT_HOST, port=443))
        assert (result.outcome, result.reason) == (Outcome.REMOVED, "")
        assert result.seen_fingerprint_sha256 == FALLBACK

    async def test_one_that_is_served_after_its_removal_is_a_failure_and_no_servers_own_default(self) -> None:
        target = target_with(binding(DEFAULT_HOST))
        target.server.shadowed = {"": bundle("old").fingerprint_sha256}
        (result,) = await install_on(target, Remove(host=DEFAULT_HOST, port=443))
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)


class TestCancellation:
    async def test_an_apply_in_hand_is_finished_and_then_the_cancellation_is_obeyed(self) -> None:
        target = FakeTarget()
        target.gate = asyncio.Event()
        work = asyncio.create_task(install_on(target, binding("a.example.com")))
        await target.in_apply.wait()
        for _ in range(3):
            work.cancel()
            await asyncio.sleep(0.01)
        assert not work.done()
        target.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert set(target.server.bound) == {("a.example.com", 443)}
        assert target.server.probes == []

    async def test_what_was_cut_short_before_its_proof_is_proved_when_it_comes_again(self) -> None:
        target = FakeTarget()
        looked = asyncio.Event()

        async def never_answers(address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
            del address, sni, timeout_s
            looked.set()
            await asyncio.Event().wait()
            raise AssertionError

        work = asyncio.create_task(install(target, [binding("a.example.com")], never_answers, pace=QUICK))
        await looked.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        (result,) = await install_on(target, binding("a.example.com"))
        assert result.outcome is Outcome.LIVE
        assert len(target.applies) == 1


async def test_every_change_has_exactly_one_result_whatever_the_server_does() -> None:
    """A batch in which everything happens at once."""
    old = [binding(f"{kind}.example.com") for kind in ("same", "renewed", "shadowed", "removed", "lingering")]
    target = target_with(*old)
    target.breaks_on = {"bad.example.com"}
    target.refuses = {"refused.example.com": "never"}
    target.server.shadowed = {"shadowed.example.com": OTHER, "lingering.example.com": bundle("old").fingerprint_sha256}
    changes: list[BindingChange] = [
        binding("bad.example.com"),
        old[0],
        binding("renewed.example.com", "new"),
        Remove(host="absent.example.com", port=443),
        binding("shadowed.example.com", "new"),
        binding("refused.example.com"),
        Remove(host="removed.example.com", port=443),
        binding("fresh.example.com", "new"),
        Remove(host="lingering.example.com", port=443),
    ]
    results = await install_on(target, *changes, earlier=old)
    assert [(result.change.host.partition(".")[0], result.outcome.value) for result in results] == [
        ("bad", "failed"),
        ("same", "live"),
        ("renewed", "live"),
        ("absent", "removed"),
        ("shadowed", "probe_mismatch"),
        ("refused", "refused"),
        ("removed", "removed"),
        ("fresh", "live"),
        ("lingering", "failed"),
    ]
