"""What every target must do alike, as tests to inherit: a test module supplies the fixture `rig` and picks the classes.

`BindingContract` is for everyone; `TlsContract` adds what needs real handshakes; `OpenConnectionsContract` is for
targets that promise not to disturb open connections; `RestartContract` for servers that outlive the agent.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest

from instance_agent.installing.installer import install
from instance_agent.targets.base import ApplyError, Install, Remove
from shared.bundle import CertificateBundle, bundle_id
from shared.messages import InstallOutcome as Outcome
from tests.rigs.targets import Rig, bind, endpoint, expect, owned, root, seen, unfit
from tests.rigs.visitors import Busy, fingerprint_for_raw_name, trusting, trusting_nobody, visiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instance_agent.targets.base import BindingChange, InstalledBinding
    from tests.rigs.certificates import KeyKind


class BindingContract:
    """Which certificate answers for which name, and what the target says of it.

    As the agent does, a test sees what it applied before it takes files away again: a server may go on reading them
    after its reload command has returned, and Apache ends where one is gone.
    """

    async def test_a_fresh_server_owns_nothing_and_answers_as_nobody(self, rig: Rig) -> None:
        assert await rig.target.current() == frozenset()
        assert await seen(rig, rig.ports[0], "unknown.example") == rig.fallback
        assert await seen(rig, rig.ports[0], None) == rig.fallback

    async def test_a_new_host_is_served_and_reported_as_installed(self, rig: Rig) -> None:
        issued = root().issue("shop.example.com")
        change = bind(issued, "shop.example.com", rig.ports[0])
        await rig.target.apply([change])
        await expect(rig, rig.ports[0], {"shop.example.com": issued.fingerprint})
        (binding,) = await rig.target.current()
        assert change.is_done_by(binding)

    async def test_a_renewal_takes_the_place_of_the_old_certificate(self, rig: Rig) -> None:
        old, new = root().issue("shop.example.com"), root().issue("shop.example.com")
        await rig.target.apply([bind(old, "shop.example.com", rig.ports[0])])
        before = await rig.target.current()
        await rig.target.apply([bind(new, "shop.example.com", rig.ports[0])])
        await expect(rig, rig.ports[0], {"shop.example.com": new.fingerprint})
        await rig.target.retire(list(before))
        await expect(rig, rig.ports[0], {"shop.example.com": new.fingerprint})
        assert owned(await rig.target.current()) == {("shop.example.com", rig.ports[0]): new.fingerprint}

    async def test_a_renewal_with_another_chain_alone_is_reported_under_its_own_bundle(self, rig: Rig) -> None:
        below = root().intermediate()
        issued = below.issue("shop.example.com")
        bare = CertificateBundle(leaf=issued.certificate, chain=(), key=issued.key)
        first = Install(
            host="shop.example.com", port=rig.ports[0], bundle_id=bundle_id(bare, b"without"), bundle=bare, generation=1
        )
        second = bind(issued, "shop.example.com", rig.ports[0])
        await rig.target.apply([first])
        await rig.target.apply([second])
        (binding,) = await rig.target.current()
        assert second.is_done_by(binding)

    async def test_a_removed_host_is_served_no_more(self, rig: Rig) -> None:
        kept, gone = root().issue("kept.example.com"), root().issue("gone.example.com")
        await rig.target.apply(
            [bind(kept, "kept.example.com", rig.ports[0]), bind(gone, "gone.example.com", rig.ports[0])]
        )
        await expect(rig, rig.ports[0], {"gone.example.com": gone.fingerprint})
        before = [each for each in await rig.target.current() if each.host == "gone.example.com"]
        await rig.target.apply([Remove(host="gone.example.com", port=rig.ports[0])])
        await rig.target.retire(before)
        await expect(rig, rig.ports[0], {"gone.example.com": rig.fallback, "kept.example.com": kept.fingerprint})
        assert owned(await rig.target.current()) == {("kept.example.com", rig.ports[0]): kept.fingerprint}

    async def test_the_last_host_can_be_removed_and_installed_again(self, rig: Rig) -> None:
        issued = root().issue("shop.example.com")
        for _ in range(2):
            await rig.target.apply([bind(issued, "shop.example.com", rig.ports[0])])
            await expect(rig, rig.ports[0], {"shop.example.com": issued.fingerprint})
            before = await rig.target.current()
            await rig.target.apply([Remove(host="shop.example.com", port=rig.ports[0])])
            await rig.target.retire(list(before))
            assert await rig.target.current() == frozenset()
            await expect(rig, rig.ports[0], {"shop.example.com": rig.fallback})

    async def test_removing_what_is_not_there_and_installing_again_what_is_does_no_harm(self, rig: Rig) -> None:
        issued = root().issue("shop.example.com")
        change = bind(issued, "shop.example.com", rig.ports[0])
        await rig.target.apply([change])
        await rig.target.apply([change, Remove(host="nowhere.example.com", port=rig.ports[0])])
        await expect(rig, rig.ports[0], {"shop.example.com": issued.fingerprint})
        assert owned(await rig.target.current()) == {("shop.example.com", rig.ports[0]): issued.fingerprint}

    async def test_an_exact_host_comes_before_the_wildcard_which_covers_one_label(self, rig: Rig) -> None:
        wide, exact = root().issue("*.example.com"), root().issue("shop.example.com")
        port = rig.ports[0]
        await rig.target.apply([bind(wide, "*.example.com", port), bind(exact, "shop.example.com", port)])
        await expect(
            rig,
            port,
            {
                "shop.example.com": exact.fingerprint,
                "blog.example.com": wide.fingerprint,
                "a.b.example.com": rig.fallback,
                "example.com": rig.fallback,
            },
        )
        await rig.target.apply([Remove(host="shop.example.com", port=port)])
        await expect(rig, port, {"shop.example.com": wide.fingerprint, "blog.example.com": wide.fingerprint})

    async def test_removing_a_wildcard_leaves_the_exact_host(self, rig: Rig) -> None:
        wide, exact = root().issue("*.example.com"), root().issue("shop.example.com")
        port = rig.ports[0]
        await rig.target.apply([bind(wide, "*.example.com", port), bind(exact, "shop.example.com", port)])
        await expect(rig, port, {"shop.example.com": exact.fingerprint, "blog.example.com": wide.fingerprint})
        await rig.target.apply([Remove(host="*.example.com", port=port)])
        await expect(rig, port, {"shop.example.com": exact.fingerprint, "blog.example.com": rig.fallback})

    async def test_one_certificate_can_serve_several_hosts_and_lose_one(self, rig: Rig) -> None:
        hosts = ("one.example.com", "two.example.net", "three.example.org")
        issued = root().issue(*hosts)
        changes = [bind(issued, host, rig.ports[0]) for host in hosts]
        await rig.target.apply(changes)
        await expect(rig, rig.ports[0], dict.fromkeys(hosts, issued.fingerprint))
        before = [each for each in await rig.target.current() if each.host == hosts[0]]
        await rig.target.apply([Remove(host=hosts[0], port=rig.ports[0])])
        await rig.target.retire(before)
        await expect(rig, rig.ports[0], {hosts[0]: rig.fallback, **dict.fromkeys(hosts[1:], issued.fingerprint)})

    async def test_the_same_host_on_two_ports_has_a_certificate_for_each(self, rig: Rig) -> None:
        issued = {port: root().issue("shop.example.com") for port in rig.ports}
        await rig.target.apply([bind(each, "shop.example.com", port) for port, each in issued.items()])
        for port, each in issued.items():
            await expect(rig, port, {"shop.example.com": each.fingerprint})
        await rig.target.apply([Remove(host="shop.example.com", port=rig.ports[0])])
        await expect(rig, rig.ports[0], {"shop.example.com": rig.fallback})
        await expect(rig, rig.ports[1], {"shop.example.com": issued[rig.ports[1]].fingerprint})

    async def test_asked_about_some_hosts_it_tells_of_those_that_are_bound_and_of_no_others(self, rig: Rig) -> None:
        port, other = rig.ports
        hosts = ("shop.example.com", "*.example.com", "blog.example.com")
        changes = {host: bind(root().issue(host), host, port) for host in hosts}
        await rig.target.apply(list(changes.values()))
        await expect(rig, port, {"blog.example.com": changes["blog.example.com"].bundle.fingerprint_sha256})
        everything = await rig.target.current()
        asked = [("shop.example.com", port), ("*.example.com", port), ("unknown.example.com", port)]
        odd = [("shop.example.com", other), (f"*.{'.'.join(['x' * 61] * 4)}.de", port), ("no host", port), ("", port)]
        many = [(f"h{number}.example.com", port) for number in range(200)]
        for keys in (asked, [*asked, *odd], {*asked, *odd, *many}):
            found = await rig.target.current(keys)
            assert {each.key for each in found} == {("shop.example.com", port), ("*.example.com", port)}
            assert found < everything
        assert await rig.target.current(()) == frozenset()
        renewed = bind(root().issue("shop.example.com"), "shop.example.com", port)
        await rig.target.apply([renewed, Remove(host="*.example.com", port=port)])
        (binding,) = await rig.target.current(asked)
        assert renewed.is_done_by(binding)

    async def test_two_hundred_changes_are_one_batch(self, rig: Rig) -> None:
        old = {f"h{i}.example.com": root().issue(f"h{i}.example.com") for i in range(100)}
        await rig.target.apply([bind(issued, host, rig.ports[0]) for host, issued in old.items()])
        await expect(rig, rig.ports[0], {host: issued.fingerprint for host, issued in list(old.items())[-1:]})
        gone = [f"h{i}.example.com" for i in range(50)]
        new = {f"h{i}.example.com": root().issue(f"h{i}.example.com") for i in range(50, 200)}
        changes: list[BindingChange] = [Remove(host=host, port=rig.ports[0]) for host in gone]
        changes += [bind(issued, host, rig.ports[0]) for host, issued in new.items()]
        await rig.target.apply(changes)
        expected: dict[str, str | None] = dict.fromkeys(gone, rig.fallback)
        expected |= {host: issued.fingerprint for host, issued in new.items()}
        await expect(rig, rig.ports[0], expected)
        assert owned(await rig.target.current()) == {(host, rig.ports[0]): new[host].fingerprint for host in new}

    async def test_a_batch_with_one_bad_change_leaves_everything_as_it_was(self, rig: Rig) -> None:
        port = rig.ports[0]
        renewed, removed = root().issue("renewed.example.com"), root().issue("removed.example.com")
        await rig.target.apply([bind(renewed, "renewed.example.com", port), bind(removed, "removed.example.com", port)])
        await expect(rig, port, {"removed.example.com": removed.fingerprint})
        before = await rig.target.current()
        bad = unfit("bad.example.com", port)
        good: list[BindingChange] = [
            bind(root().issue("renewed.example.com"), "renewed.example.com", port),
            Remove(host="removed.example.com", port=port),
            bind(root().issue("new.example.com"), "new.example.com", port),
        ]
        with pytest.raises(ApplyError) as caught:
            await rig.target.apply([*good, bad])
        assert caught.value.culprit in {None, bad.key}
        assert await rig.target.current() == before
        await expect(
            rig,
            port,
            {
                "renewed.example.com": renewed.fingerprint,
                "removed.example.com": removed.fingerprint,
                "new.example.com": rig.fallback,
                "bad.example.com": rig.fallback,
            },
        )
        await rig.target.apply(good)
        await expect(rig, port, {"renewed.example.com": good[0].bundle.fingerprint_sha256})  # type: ignore[union-attr]

    async def test_one_bad_change_among_fifty_does_not_hold_up_the_others(self, rig: Rig) -> None:
        port = rig.ports[0]
        hosts = [f"h{i}.example.com" for i in range(49)]
        changes = [bind(root().issue(host), host, port) for host in hosts]
        changes.insert(31, unfit("bad.example.com", port))
        results = await install(rig.target, changes, rig.probe)
        outcomes = {result.change.host: result.outcome for result in results}
        assert outcomes == {**dict.fromkeys(hosts, Outcome.LIVE), "bad.example.com": Outcome.FAILED}
        await expect(rig, port, {each.host: each.bundle.fingerprint_sha256 for each in changes if each.host in hosts})

    async def test_an_international_host_answers_to_its_a_label(self, rig: Rig) -> None:
        issued = root().issue("xn--bcher-kva.example")
        await rig.target.apply([bind(issued, "xn--bcher-kva.example", rig.ports[0])])
        await expect(rig, rig.ports[0], {"bücher.example": issued.fingerprint, "bucher.example": rig.fallback})

    async def test_the_case_of_the_server_name_does_not_matter(self, rig: Rig) -> None:
        exact, wide = root().issue("shop.example.com"), root().issue("*.example.net")
        await rig.target.apply(
            [bind(exact, "shop.example.com", rig.ports[0]), bind(wide, "*.example.net", rig.ports[0])]
        )
        await expect(rig, rig.ports[0], {"SHOP.Example.COM": exact.fingerprint, "Blog.EXAMPLE.net": wide.fingerprint})

    async def test_no_and_an_unknown_server_name_get_the_fallback_whatever_is_bound(self, rig: Rig) -> None:
        issued = root().issue("shop.example.com")
        await rig.target.apply([bind(issued, "shop.example.com", rig.ports[0])])
        await expect(rig, rig.ports[0], {"shop.example.com": issued.fingerprint})
        assert await seen(rig, rig.ports[0], None) == rig.fallback
        for name in ("unknown.example", "shop.example.com.evil.example", "example.com", "x" * 63):
            assert await seen(rig, rig.ports[0], name) == rig.fallback, name


class TlsContract(BindingContract):
    """What clients that verify see; for servers that speak TLS."""

    @pytest.mark.parametrize("key", ["ec", "p384", "p521", "rsa"])
    async def test_every_accepted_kind_of_key_is_served(self, rig: Rig, key: KeyKind) -> None:
        issued = root().issue("shop.example.com", key=key)
        await rig.target.apply([bind(issued, "shop.example.com", rig.ports[0])])
        await expect(rig, rig.ports[0], {"shop.example.com": issued.fingerprint})

    @pytest.mark.parametrize("intermediates", [0, 1, 2, 3])
    async def test_a_client_that_knows_the_root_alone_can_verify_the_chain(self, rig: Rig, intermediates: int) -> None:
        issuer = root()
        for depth in range(intermediates):
            issuer = issuer.intermediate(f"certcast test intermediate {depth}")
        issued = issuer.issue("shop.example.com")
        await rig.target.apply([bind(issued, "shop.example.com", rig.ports[0])])
        await expect(rig, rig.ports[0], {"shop.example.com": issued.fingerprint})
        context = trusting(root().root_pem)
        async with visiting(endpoint(rig, rig.ports[0]), "shop.example.com", context=context) as (visitor,):
            assert visitor.fingerprint == issued.fingerprint

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_both_versions_of_tls_are_spoken(self, rig: Rig, version: ssl.TLSVersion) -> None:
        issued = root().issue("shop.example.com")
        await rig.target.apply([bind(issued, "shop.example.com", rig.ports[0])])
        await expect(rig, rig.ports[0], {"shop.example.com": issued.fingerprint})
        context = trusting_nobody()
        context.minimum_version = context.maximum_version = version
        async with visiting(endpoint(rig, rig.ports[0]), "shop.example.com", context=context) as (visitor,):
            assert visitor.fingerprint == issued.fingerprint

    @pytest.mark.parametrize(
        "name", [b"x/../shop.example.com", b"/etc/passwd", b"*.example.com", b"a b;c\"d'{e}", b"x" * 255]
    )
    async def test_a_hostile_server_name_gets_nothing_that_is_bound_and_harms_nobody(
        self, rig: Rig, name: bytes
    ) -> None:
        issued = root().issue("shop.example.com")
        await rig.target.apply([bind(issued, "shop.example.com", rig.ports[0])])
        await expect(rig, rig.ports[0], {"shop.example.com": issued.fingerprint})
        found = await asyncio.to_thread(fingerprint_for_raw_name, endpoint(rig, rig.ports[0]), name)
        assert found in {None, rig.fallback}
        assert await seen(rig, rig.ports[0], "shop.example.com") == issued.fingerprint


class OpenConnectionsContract:
    """Fifty idle and four busy connections to the very host that changes live through it without an error."""

    @pytest.mark.parametrize("kind", ["another host", "a renewal", "a removal", "two hundred hosts", "a bad change"])
    async def test_open_connections_do_not_notice(self, rig: Rig, kind: str) -> None:
        port = rig.ports[0]
        await rig.target.apply([bind(root().issue("shop.example.com"), "shop.example.com", port)])
        before = await rig.target.current()
        (binding,) = before
        await expect(rig, port, {"shop.example.com": binding.fingerprint_sha256})
        meet = endpoint(rig, port)
        async with (
            visiting(meet, "shop.example.com", count=50) as idle,
            visiting(meet, "shop.example.com", count=4) as working,
        ):
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
                changes = [bind(root().issue("blog.example.com"), "blog.example.com", port)]
            case "a renewal":
                changes = [bind(root().issue("shop.example.com"), "shop.example.com", port)]
            case "a removal":
                changes = [Remove(host="shop.example.com", port=port)]
            case "two hundred hosts":
                hosts = [f"h{i}.example.com" for i in range(200)]
                changes = [bind(root().issue(host), host, port) for host in hosts]
            case _:
                with pytest.raises(ApplyError):
                    await rig.target.apply([unfit("shop.example.com", port)])
                return
        await rig.target.apply(changes)
        await expect(
            rig,
            port,
            {
                change.host: change.bundle.fingerprint_sha256 if isinstance(change, Install) else rig.fallback
                for change in changes
            },
        )
        if kind in {"a renewal", "a removal"}:
            await rig.target.retire(list(before))


class RestartContract:
    """What an agent finds that was started again beside a server that went on."""

    async def test_a_restarted_agent_finds_what_was_installed_and_goes_on_from_there(self, rig: Rig) -> None:
        port = rig.ports[0]
        issued = {host: root().issue(host) for host in ("one.example.com", "*.example.net")}
        changes = [bind(each, host, port) for host, each in issued.items()]
        await rig.target.apply(changes)
        before = await rig.target.current()
        await rig.restart_agent()
        assert await rig.target.current() == before
        names = {
            "one.example.com": issued["one.example.com"].fingerprint,
            "x.example.net": issued["*.example.net"].fingerprint,
        }
        await expect(rig, port, names)
        results = await install(rig.target, changes, rig.probe)
        assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.LIVE]
        renewed = root().issue("one.example.com")
        await rig.target.apply([bind(renewed, "one.example.com", port), Remove(host="*.example.net", port=port)])
        await expect(rig, port, {"one.example.com": renewed.fingerprint, "x.example.net": rig.fallback})
        assert owned(await rig.target.current()) == {("one.example.com", port): renewed.fingerprint}
