"""What every target must do alike, as tests to inherit: a test module supplies the fixture `rig` and picks the classes.

`BindingContract` is for everyone; `TlsContract` adds what needs real handshakes; `OpenConnectionsContract` is for
targets that promise not to disturb open connections, `ReloadContract` for those that cannot promise it;
`RestartContract` for servers that outlive the agent; `DefaultContract` for those that an upload can give the
certificate for unknown names, `DefaultRestartContract` where such a server outlives the agent;
`HandmadeChangeContract` for rigs that can play somebody else.
"""

import asyncio
import ssl
from collections.abc import Sequence

import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.probe import name_to_probe
from instance_agent.installing.sighting import Pace
from instance_agent.targets.base import ApplyError, BindingChange, Install, InstalledBinding, Remove
from shared.bundle import CertificateBundle
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome
from tests.rigs.certificates import KeyKind
from tests.rigs.targets import (
    HandmadeRig,
    Rig,
    bind,
    change_to,
    endpoint,
    expect,
    fresh,
    fresh_default,
    given_up,
    owned,
    owned_after,
    root,
    seen,
    served,
    unfit,
)
from tests.rigs.visitors import Busy, Visitor, fingerprint_for_raw_name, trusting, trusting_nobody, visiting

SHOP = "shop.example.com"

_QUICK_TO_REPAIR = Pace(confirm_s=0.2)


class BindingContract:
    """Which certificate answers for which name, and what the target says of it.

    As the agent does, a test sees what it applied before it replaces files or takes them away: a server may go on
    reading them after its reload command has returned, and Apache ends where one is gone, or a key is not its
    certificate's.
    """

    async def test_a_fresh_server_owns_nothing_and_answers_with_the_fallback(self, rig: Rig) -> None:
        assert await rig.target.current() == frozenset()
        assert await seen(rig, rig.ports[0], "unknown.example") == rig.fallback
        assert await seen(rig, rig.ports[0], None) == rig.fallback

    async def test_a_new_host_is_served_and_reported_as_installed(self, rig: Rig) -> None:
        change = fresh(SHOP, rig.ports[0])
        await served(rig, change)
        (binding,) = await rig.target.current()
        assert change.is_done_by(binding)

    async def test_a_renewal_takes_the_place_of_the_old_certificate(self, rig: Rig) -> None:
        port = rig.ports[0]
        await served(rig, fresh(SHOP, port))
        before = await rig.target.current()
        new = fresh(SHOP, port)
        await served(rig, new)
        await rig.target.retire(list(before))
        await expect(rig, port, {SHOP: new})
        assert owned(await rig.target.current()) == owned_after(new)

    async def test_a_renewal_with_another_chain_alone_is_reported_under_its_own_bundle(self, rig: Rig) -> None:
        issued = root().intermediate().issue(SHOP)
        bare = CertificateBundle(leaf=issued.certificate, chain=(), key=issued.key)
        second = bind(issued, SHOP, rig.ports[0])
        await served(rig, change_to(bare, SHOP, rig.ports[0]))
        await rig.target.apply([second])
        (binding,) = await rig.target.current()
        assert second.is_done_by(binding)

    async def test_a_removed_host_is_no_longer_served(self, rig: Rig) -> None:
        port = rig.ports[0]
        kept, gone = fresh("kept.example.com", port), fresh("gone.example.com", port)
        await served(rig, kept, gone)
        before = [each for each in await rig.target.current() if each.host == gone.host]
        await rig.target.apply([Remove(host=gone.host, port=port)])
        await rig.target.retire(before)
        await expect(rig, port, {gone.host: rig.fallback, kept.host: kept})
        assert owned(await rig.target.current()) == owned_after(kept)

    async def test_the_last_host_can_be_removed_and_installed_again(self, rig: Rig) -> None:
        for _ in range(2):
            await served(rig, fresh(SHOP, rig.ports[0]))
            before = await rig.target.current()
            await rig.target.apply([Remove(host=SHOP, port=rig.ports[0])])
            await rig.target.retire(list(before))
            assert await rig.target.current() == frozenset()
            await expect(rig, rig.ports[0], {SHOP: rig.fallback})

    async def test_removing_what_is_not_there_and_installing_again_what_is_does_no_harm(self, rig: Rig) -> None:
        change = fresh(SHOP, rig.ports[0])
        await rig.target.apply([change])
        await rig.target.apply([change, Remove(host="nowhere.example.com", port=rig.ports[0])])
        await expect(rig, rig.ports[0], {SHOP: change})
        assert owned(await rig.target.current()) == owned_after(change)

    async def test_an_exact_host_comes_before_the_wildcard_which_covers_one_label(self, rig: Rig) -> None:
        port = rig.ports[0]
        wide, exact = fresh("*.example.com", port), fresh(SHOP, port)
        await rig.target.apply([wide, exact])
        uncovered = {"a.b.example.com": rig.fallback, "example.com": rig.fallback}
        await expect(rig, port, {SHOP: exact, "blog.example.com": wide, **uncovered})
        await rig.target.apply([Remove(host=SHOP, port=port)])
        await expect(rig, port, {SHOP: wide, "blog.example.com": wide})

    async def test_removing_a_wildcard_leaves_the_exact_host(self, rig: Rig) -> None:
        port = rig.ports[0]
        wide, exact = fresh("*.example.com", port), fresh(SHOP, port)
        await rig.target.apply([wide, exact])
        await expect(rig, port, {SHOP: exact, "blog.example.com": wide})
        await rig.target.apply([Remove(host="*.example.com", port=port)])
        await expect(rig, port, {SHOP: exact, "blog.example.com": rig.fallback})

    async def test_one_certificate_can_serve_several_hosts_and_lose_one(self, rig: Rig) -> None:
        hosts = ("one.example.com", "two.example.net", "three.example.org")
        issued = root().issue(*hosts)
        changes = {host: bind(issued, host, rig.ports[0]) for host in hosts}
        await served(rig, *changes.values())
        before = [each for each in await rig.target.current() if each.host == hosts[0]]
        await rig.target.apply([Remove(host=hosts[0], port=rig.ports[0])])
        await rig.target.retire(before)
        await expect(rig, rig.ports[0], {**changes, hosts[0]: rig.fallback})

    async def test_the_same_host_on_two_ports_has_a_certificate_for_each(self, rig: Rig) -> None:
        first, second = (fresh(SHOP, port) for port in rig.ports)
        await served(rig, first, second)
        await rig.target.apply([Remove(host=SHOP, port=first.port)])
        await expect(rig, first.port, {SHOP: rig.fallback})
        await expect(rig, second.port, {SHOP: second})

    async def test_asked_about_some_hosts_it_tells_of_those_that_are_bound_and_of_no_others(self, rig: Rig) -> None:
        port, other = rig.ports
        await served(rig, *(fresh(host, port) for host in (SHOP, "blog.example.com")), fresh("*.example.com", port))
        everything = await rig.target.current()
        asked = [(SHOP, port), ("*.example.com", port), ("unknown.example.com", port)]
        odd = [(SHOP, other), (f"*.{'.'.join(['x' * 61] * 4)}.de", port), ("no host", port), ("", port)]
        many = [(f"h{number}.example.com", port) for number in range(200)]
        for keys in (asked, [*asked, *odd], {*asked, *odd, *many}):
            found = await rig.target.current(keys)
            assert {each.key for each in found} == {(SHOP, port), ("*.example.com", port)}
            assert found < everything
        assert await rig.target.current(()) == frozenset()
        renewed = fresh(SHOP, port)
        await rig.target.apply([renewed, Remove(host="*.example.com", port=port)])
        (binding,) = await rig.target.current(asked)
        assert renewed.is_done_by(binding)

    async def test_two_hundred_changes_are_one_batch(self, rig: Rig) -> None:
        port = rig.ports[0]
        old = [fresh(f"h{i}.example.com", port) for i in range(100)]
        await rig.target.apply(old)
        await expect(rig, port, {old[-1].host: old[-1]})
        gone = [change.host for change in old[:50]]
        new = [fresh(f"h{i}.example.com", port) for i in range(50, 200)]
        await rig.target.apply([*(Remove(host=host, port=port) for host in gone), *new])
        await expect(rig, port, {**dict.fromkeys(gone, rig.fallback), **{change.host: change for change in new}})
        assert owned(await rig.target.current()) == owned_after(*new)

    async def test_a_batch_with_one_bad_change_leaves_everything_as_it_was(self, rig: Rig) -> None:
        port = rig.ports[0]
        renewed, removed = fresh("renewed.example.com", port), fresh("removed.example.com", port)
        await served(rig, renewed, removed)
        before = await rig.target.current()
        bad, again = unfit("bad.example.com", port), fresh(renewed.host, port)
        good: list[BindingChange] = [again, Remove(host=removed.host, port=port), fresh("new.example.com", port)]
        with pytest.raises(ApplyError) as caught:
            await rig.target.apply([*good, bad])
        assert caught.value.culprit in {None, bad.key}
        assert await rig.target.current() == before
        unbound = {"new.example.com": rig.fallback, "bad.example.com": rig.fallback}
        await expect(rig, port, {renewed.host: renewed, removed.host: removed, **unbound})
        await rig.target.apply(good)
        await expect(rig, port, {renewed.host: again})

    async def test_one_bad_change_among_fifty_does_not_hold_up_the_others(self, rig: Rig) -> None:
        port = rig.ports[0]
        good = {f"h{i}.example.com": fresh(f"h{i}.example.com", port) for i in range(49)}
        changes = list(good.values())
        changes.insert(31, unfit("bad.example.com", port))
        results = await install(rig.target, changes, rig.probe)
        outcomes = {result.change.host: result.outcome for result in results}
        assert outcomes == {**dict.fromkeys(good, Outcome.LIVE), "bad.example.com": Outcome.FAILED}
        await expect(rig, port, good)

    async def test_an_international_host_answers_to_its_a_label(self, rig: Rig) -> None:
        change = fresh("xn--bcher-kva.example", rig.ports[0])
        await rig.target.apply([change])
        await expect(rig, rig.ports[0], {"bücher.example": change, "bucher.example": rig.fallback})

    async def test_the_case_of_the_server_name_does_not_matter(self, rig: Rig) -> None:
        exact, wide = fresh(SHOP, rig.ports[0]), fresh("*.example.net", rig.ports[0])
        await rig.target.apply([exact, wide])
        await expect(rig, rig.ports[0], {"SHOP.Example.COM": exact, "Blog.EXAMPLE.net": wide})

    async def test_no_and_an_unknown_server_name_get_the_fallback_whatever_is_bound(self, rig: Rig) -> None:
        await served(rig, fresh(SHOP, rig.ports[0]))
        assert await seen(rig, rig.ports[0], None) == rig.fallback
        for name in ("unknown.example", "shop.example.com.evil.example", "example.com", "x" * 63):
            assert await seen(rig, rig.ports[0], name) == rig.fallback, name


class TlsContract(BindingContract):
    """What clients that verify see; for servers that speak TLS."""

    @pytest.mark.parametrize("key", ["ec", "p384", "p521", "rsa"])
    async def test_every_accepted_kind_of_key_is_served(self, rig: Rig, key: KeyKind) -> None:
        await served(rig, bind(root().issue(SHOP, key=key), SHOP, rig.ports[0]))

    @pytest.mark.parametrize("intermediates", [0, 1, 2, 3])
    async def test_a_client_that_knows_the_root_alone_can_verify_the_chain(self, rig: Rig, intermediates: int) -> None:
        issuer = root()
        for depth in range(intermediates):
            issuer = issuer.intermediate(f"certcast test intermediate {depth}")
        issued = issuer.issue(SHOP)
        await served(rig, bind(issued, SHOP, rig.ports[0]))
        async with visiting(endpoint(rig, rig.ports[0]), SHOP, context=trusting(root().root_pem)) as (visitor,):
            assert visitor.fingerprint == issued.fingerprint

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_both_versions_of_tls_are_spoken(self, rig: Rig, version: ssl.TLSVersion) -> None:
        change = fresh(SHOP, rig.ports[0])
        await served(rig, change)
        context = trusting_nobody()
        context.minimum_version = context.maximum_version = version
        async with visiting(endpoint(rig, rig.ports[0]), SHOP, context=context) as (visitor,):
            assert visitor.fingerprint == change.bundle.fingerprint_sha256

    @pytest.mark.parametrize(
        "name", [b"x/../shop.example.com", b"/etc/passwd", b"*.example.com", b"a b;c\"d'{e}", b"x" * 255]
    )
    async def test_a_hostile_server_name_gets_nothing_that_is_bound_and_harms_no_one(
        self, rig: Rig, name: bytes
    ) -> None:
        change = fresh(SHOP, rig.ports[0])
        await served(rig, change)
        found = await asyncio.to_thread(fingerprint_for_raw_name, endpoint(rig, rig.ports[0]), name)
        assert found in {None, rig.fallback}
        assert await seen(rig, rig.ports[0], SHOP) == change.bundle.fingerprint_sha256


class OpenConnectionsContract:
    """Fifty idle and four busy connections to the very host that changes live through it without an error."""

    @pytest.mark.parametrize("kind", ["another host", "a renewal", "a removal", "two hundred hosts", "a bad change"])
    async def test_open_connections_do_not_notice(self, rig: Rig, kind: str) -> None:
        await served(rig, fresh(SHOP, rig.ports[0]))
        before = await rig.target.current()
        meet = endpoint(rig, rig.ports[0])
        async with visiting(meet, SHOP, count=50) as idle, visiting(meet, SHOP, count=4) as working:
            for visitor in idle:
                await visitor.get()
            busy = Busy(working)
            await busy.answered(8)
            await self._change(rig, kind, before)
            await busy.answered(40)
            await busy.stop()
            assert busy.errors == []
            statuses = [(await visitor.get()).status for visitor in idle]
            assert len(statuses) == len(idle)

    async def _change(self, rig: Rig, kind: str, before: frozenset[InstalledBinding]) -> None:
        port = rig.ports[0]
        changes: Sequence[BindingChange]
        match kind:
            case "another host":
                changes = [fresh("blog.example.com", port)]
            case "a renewal":
                changes = [fresh(SHOP, port)]
            case "a removal":
                changes = [Remove(host=SHOP, port=port)]
            case "two hundred hosts":
                changes = [fresh(f"h{i}.example.com", port) for i in range(200)]
            case _:
                with pytest.raises(ApplyError):
                    await rig.target.apply([unfit(SHOP, port)])
                return
        await rig.target.apply(changes)
        await expect(rig, port, {each.host: each if isinstance(each, Install) else rig.fallback for each in changes})
        if kind in {"a renewal", "a removal"}:
            await rig.target.retire(list(before))


class ReloadContract:
    """What a reload costs open connections, for servers that need one."""

    async def test_a_reload_closes_idle_connections_and_cuts_no_answer_short(self, rig: Rig) -> None:
        meet = endpoint(rig, rig.ports[0])
        async with visiting(meet, "a.example", count=20) as idle, visiting(meet, "a.example", count=4) as working:
            for visitor in idle:
                await visitor.get()
            busy = Busy(working)
            await busy.answered(8)
            await served(rig, fresh("b.example.com", rig.ports[0]))
            await busy.stop()
            for error in busy.errors:
                assert not getattr(error, "partial", b""), "an answer was cut short"
            for visitor in idle:
                await self._until_closed(visitor)

    async def _until_closed(self, visitor: Visitor) -> None:
        """An old process may answer once more before it hears of the reload."""
        while True:
            try:
                await visitor.get()
            except (ConnectionError, EOFError):
                return


class RestartContract:
    """What an agent finds that was started again beside a server that went on."""

    async def test_a_restarted_agent_finds_what_was_installed_and_goes_on_from_there(self, rig: Rig) -> None:
        port = rig.ports[0]
        exact, wide = fresh("one.example.com", port), fresh("*.example.net", port)
        await rig.target.apply([exact, wide])
        before = await rig.target.current()
        await rig.restart_agent()
        assert await rig.target.current() == before
        await expect(rig, port, {exact.host: exact, "x.example.net": wide})
        results = await install(rig.target, [exact, wide], rig.probe)
        assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.LIVE]
        renewed = fresh(exact.host, port)
        await rig.target.apply([renewed, Remove(host=wide.host, port=port)])
        await expect(rig, port, {exact.host: renewed, "x.example.net": rig.fallback})
        assert owned(await rig.target.current()) == owned_after(renewed)


class DefaultContract:
    """What `Default=true` is served for: clients that ask for no name, or for one that nothing is bound for."""

    _STRANGERS = (None, "unknown.example", "a.b.example.net", "example.net", "x" * 63)

    async def test_it_answers_where_no_host_does_on_its_port_alone(self, rig: Rig) -> None:
        first, second = rig.ports
        default, exact, wide = fresh_default(first), fresh(SHOP, first), fresh("*.example.net", first)
        await served(rig, default, exact, wide, fresh(SHOP, second))
        await expect(rig, first, dict.fromkeys(self._STRANGERS, default))
        assert await seen(rig, second, None) == rig.fallback
        assert await seen(rig, second, "unknown.example") == rig.fallback
        found = await rig.target.current([(DEFAULT_HOST, first), (DEFAULT_HOST, second)])
        assert owned(found) == owned_after(default)
        assert found < await rig.target.current()

    async def test_it_is_proved_without_a_server_name(self, rig: Rig) -> None:
        change = fresh_default(rig.ports[0])
        (result,) = await install(rig.target, [change], rig.probe)
        assert (result.outcome, result.reason) == (Outcome.LIVE, "")
        assert result.seen_fingerprint_sha256 == change.bundle.fingerprint_sha256

    async def test_a_renewal_takes_its_place_and_a_removal_brings_the_fallback_back(self, rig: Rig) -> None:
        port = rig.ports[0]
        exact = fresh(SHOP, port)
        await served(rig, fresh_default(port), exact)
        before = await rig.target.current([(DEFAULT_HOST, port)])
        renewed = fresh_default(port)
        await served(rig, renewed)
        await rig.target.retire(list(before))
        (result,) = await install(rig.target, [Remove(host=DEFAULT_HOST, port=port)], rig.probe)
        assert result.outcome is Outcome.REMOVED, result.reason
        await expect(rig, port, {**dict.fromkeys(self._STRANGERS, rig.fallback), SHOP: exact})
        assert owned(await rig.target.current()) == owned_after(exact)

    async def test_hosts_come_and_go_beside_it(self, rig: Rig) -> None:
        port = rig.ports[0]
        default, exact = fresh_default(port), fresh(SHOP, port)
        await served(rig, default)
        await expect(rig, port, {SHOP: default})
        await served(rig, exact)
        await expect(rig, port, {None: default})
        (result,) = await install(rig.target, [Remove(host=SHOP, port=port)], rig.probe)
        assert result.outcome is Outcome.REMOVED, result.reason
        await expect(rig, port, {SHOP: default, None: default})

    async def test_one_certificate_is_the_default_and_a_wildcards_and_ceases_to_be_the_default(self, rig: Rig) -> None:
        port = rig.ports[0]
        issued = root().issue("*.example.net")
        default, wide = bind(issued, DEFAULT_HOST, port), bind(issued, "*.example.net", port)
        await served(rig, default, wide)
        await expect(rig, port, {None: default, "unknown.example": default})
        (result,) = await install(rig.target, [Remove(host=DEFAULT_HOST, port=port)], rig.probe)
        assert result.outcome is Outcome.REMOVED, result.reason
        await expect(rig, port, {None: rig.fallback, "unknown.example": rig.fallback, "a.example.net": wide})

    async def test_the_default_of_each_port_is_its_own(self, rig: Rig) -> None:
        first, second = (fresh_default(port) for port in rig.ports)
        await served(rig, first, second)
        await rig.target.apply([Remove(host=DEFAULT_HOST, port=first.port)])
        await expect(rig, first.port, {None: rig.fallback})
        await expect(rig, second.port, {None: second, "unknown.example": second})

    async def test_a_bad_one_leaves_everything_as_it_was(self, rig: Rig) -> None:
        port = rig.ports[0]
        exact, default = fresh(SHOP, port), fresh_default(port)
        await served(rig, exact, default)
        with pytest.raises(ApplyError):
            await rig.target.apply([unfit(DEFAULT_HOST, port), fresh("new.example.com", port)])
        await expect(rig, port, {None: default, SHOP: exact, "new.example.com": default})
        assert owned(await rig.target.current()) == owned_after(exact, default)


class DefaultRestartContract:
    """For rigs whose servers outlive the agent and that can play somebody else."""

    async def test_a_restarted_agent_finds_its_default(self, rig: HandmadeRig) -> None:
        change = fresh_default(rig.ports[0])
        await served(rig, change)
        await rig.restart_agent()
        (binding,) = await rig.target.current()
        assert change.is_done_by(binding)
        assert await seen(rig, change.port, None) == change.bundle.fingerprint_sha256

    async def test_a_default_that_somebody_changed_is_put_right(self, rig: HandmadeRig) -> None:
        change, theirs = fresh_default(rig.ports[0]), fresh_default(rig.ports[0])
        await served(rig, change)
        await rig.tamper(DEFAULT_HOST, change.port, theirs.bundle)
        await expect(rig, change.port, {None: theirs})
        await self._made_good(rig, change)
        await rig.untie(DEFAULT_HOST, change.port)
        await given_up(rig, change)  # a server may take no other reload while this one is under way
        await self._made_good(rig, change)

    async def _made_good(self, rig: HandmadeRig, change: Install) -> None:
        rig.target.forget()
        (result,) = await install(rig.target, [change], rig.probe, pace=_QUICK_TO_REPAIR)
        assert result.outcome is Outcome.LIVE, result.reason
        await expect(rig, change.port, {None: change, "unknown.example": change})


class HandmadeChangeContract:
    """What somebody else changed by the server's own means is made good once the server is read and looked at again.

    As the agent does, a test tells the target to forget what it read before, and makes the same changes again.
    """

    @pytest.mark.parametrize("host", [SHOP, "*.example.net"])
    async def test_a_certificate_that_somebody_replaced_is_served_again(self, rig: HandmadeRig, host: str) -> None:
        ours, other = await self._bound(rig, host)
        theirs = root().issue(host).bundle()
        await rig.tamper(host, ours.port, theirs)
        await expect(rig, ours.port, {name_to_probe(host): theirs.fingerprint_sha256})
        await self._make_good(rig, ours, other)

    @pytest.mark.parametrize("host", [SHOP, "*.example.net"])
    async def test_a_binding_that_somebody_took_away_is_bound_again(self, rig: HandmadeRig, host: str) -> None:
        ours, other = await self._bound(rig, host)
        await rig.untie(host, ours.port)
        await expect(rig, ours.port, {name_to_probe(host): rig.fallback})
        await self._make_good(rig, ours, other)

    @pytest.mark.parametrize("kind", ["replaced", "took away"])
    async def test_what_somebody_changed_can_still_be_renewed_and_removed(self, rig: HandmadeRig, kind: str) -> None:
        ours, other = await self._bound(rig, SHOP)
        for change in (fresh(SHOP, ours.port), Remove(host=SHOP, port=ours.port)):
            if kind == "replaced":
                theirs = root().issue(SHOP).bundle()
                await rig.tamper(SHOP, ours.port, theirs)
                await expect(rig, ours.port, {SHOP: theirs.fingerprint_sha256})
            else:
                await rig.untie(SHOP, ours.port)
                await expect(rig, ours.port, {SHOP: rig.fallback})
            rig.target.forget()
            (result,) = await install(rig.target, [change], rig.probe, pace=_QUICK_TO_REPAIR)
            renewed = isinstance(change, Install)
            assert result.outcome is (Outcome.LIVE if renewed else Outcome.REMOVED), result.reason
            await expect(rig, ours.port, {SHOP: change if isinstance(change, Install) else rig.fallback})
        await expect(rig, ours.port, {other.host: other})
        assert owned(await rig.target.current()) == owned_after(other)

    async def _bound(self, rig: HandmadeRig, host: str) -> tuple[Install, Install]:
        """The binding that somebody is to change, and one beside it."""
        ours, other = fresh(host, rig.ports[0]), fresh("other.example.org", rig.ports[0])
        await served(rig, ours, other)
        return ours, other

    async def _make_good(self, rig: HandmadeRig, ours: Install, other: Install) -> None:
        rig.target.forget()
        (result,) = await install(rig.target, [ours], rig.probe, pace=_QUICK_TO_REPAIR)
        assert result.outcome is Outcome.LIVE, result.reason
        await expect(rig, ours.port, {name_to_probe(ours.host): ours, other.host: other})
        rig.target.forget()
        assert owned(await rig.target.current()) == owned_after(ours, other)
