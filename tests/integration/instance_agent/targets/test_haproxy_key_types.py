"""An exact host comes before the wildcard on a real HAProxy, whatever the types of their keys."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping

import pytest

from instance_agent.installing.installer import install
from instance_agent.targets.base import ApplyError, BindingChange, Install, Remove
from instance_agent.targets.haproxy import disk, runtime
from instance_agent.targets.haproxy.session import Session
from shared.messages import InstallOutcome as Outcome
from tests.rigs.certificates import KeyKind
from tests.rigs.haproxy import HAProxyRig, serving
from tests.rigs.programs import needs
from tests.rigs.targets import QUICK, bind, change_to, expect, fresh, root, unfit
from tests.rigs.visitors import trusting_nobody, visiting

pytestmark = needs("haproxy")

WILD, SHOP, BLOG = "*.neg.test", "shop.neg.test", "blog.neg.test"
KINDS = [("ec", "rsa"), ("rsa", "ec"), ("ec", "ec"), ("rsa", "rsa")]


@pytest.fixture
async def rig() -> AsyncIterator[HAProxyRig]:
    async with serving() as rig:
        yield rig


def of(host: str, key: KeyKind, port: int = 443) -> Install:
    """The exact hosts' certificates have the wildcard's name as well, as many have: their entries name hosts."""
    return bind(root().issue(host, WILD, key=key), host, port)


def client(oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    context = trusting_nobody()
    context.minimum_version = oldest
    return context


async def expect_all(rig: HAProxyRig, expected: Mapping[str, Install | str | None]) -> None:
    """What usual clients get, and those of TLS 1.3 alone, for which HAProxy 2.6 prefers RSA."""
    await expect(rig, 443, expected)
    for host, each in expected.items():
        context = client(ssl.TLSVersion.TLSv1_3)
        async with visiting(rig.target.endpoint(443), host, context=context) as (visitor,):
            wanted = each.bundle.fingerprint_sha256 if isinstance(each, Install) else each
            assert visitor.fingerprint == wanted, host


async def lines(rig: HAProxyRig) -> list[str]:
    """The wildcard's entries: what HAProxy has, and what it reads when it starts."""
    pem = str(rig.pem(WILD))
    told = (await rig.ask(f"show ssl crt-list {rig.crt_list()}")).splitlines() + rig.crt_list().read_text().splitlines()
    return [line.removeprefix(pem).strip() for line in told if line.startswith(pem)]


class TestTheTrap:
    """HAProxy's own choice, as it was met: without it the tests below would prove nothing."""

    @pytest.mark.parametrize(("wild", "exact", "oldest"), [("ec", "rsa", "TLSv1_2"), ("rsa", "ec", "TLSv1_3")])
    async def test_a_wildcard_answers_for_an_exact_host_whose_key_is_of_another_type(
        self, rig: HAProxyRig, wild: KeyKind, exact: KeyKind, oldest: str
    ) -> None:
        wide, shop = of(WILD, wild), of(SHOP, exact)
        await rig.target.apply([wide, shop])
        async with Session(rig.server.socket) as session:
            await runtime.bind_otherwise(session, str(rig.crt_list()), str(rig.pem(WILD)), WILD, frozenset())
        context = client(ssl.TLSVersion[oldest])
        async with visiting(rig.target.endpoint(443), SHOP, context=context) as (visitor,):
            assert visitor.fingerprint == wide.bundle.fingerprint_sha256


@pytest.mark.parametrize(("wild", "exact"), KINDS)
@pytest.mark.parametrize("order", ["wildcard first", "host first", "together"])
async def test_the_exact_host_answers_for_itself_and_for_nothing_else(
    rig: HAProxyRig, wild: KeyKind, exact: KeyKind, order: str
) -> None:
    wide, shop = of(WILD, wild), of(SHOP, exact)
    batches = {"wildcard first": [[wide], [shop]], "host first": [[shop], [wide]], "together": [[shop, wide]]}
    for batch in batches[order]:
        await rig.target.apply(batch)
    everything: dict[str, Install | str | None] = {SHOP: shop, BLOG: wide, "deep.shop.neg.test": rig.fallback}
    await expect_all(rig, everything)
    assert await lines(rig) == [f"{WILD} !{SHOP}" if wild != exact else WILD] * 2
    before = await rig.target.current()
    await rig.restart_server()
    assert await rig.target.current() == before == {wide.bound, shop.bound}
    await expect_all(rig, everything)
    await rig.target.apply([Remove(host=SHOP, port=443)])
    await expect_all(rig, {SHOP: wide, BLOG: wide})
    assert await lines(rig) == [WILD, WILD]


async def test_renewals_with_keys_of_another_type_keep_entries_in_step(rig: HAProxyRig) -> None:
    hosts: dict[str, KeyKind] = {SHOP: "rsa", "cafe.neg.test": "ec", "bar.neg.test": "rsa"}
    shops = {host: of(host, key) for host, key in hosts.items()}
    wide = of(WILD, "ec")
    await rig.target.apply([wide, *shops.values()])
    assert await lines(rig) == [f"{WILD} !bar.neg.test !{SHOP}"] * 2
    key: KeyKind
    of_wildcard: list[tuple[KeyKind, str]] = [("rsa", "!cafe.neg.test"), ("ec", f"!bar.neg.test !{SHOP}")]
    for key, left_out in of_wildcard:
        wide = of(WILD, key)
        await rig.target.apply([wide])
        assert await lines(rig) == [f"{WILD} {left_out}"] * 2
        await expect_all(rig, {**shops, BLOG: wide})
    of_shop: list[tuple[KeyKind, str]] = [("ec", "!bar.neg.test"), ("rsa", f"!bar.neg.test !{SHOP}")]
    for key, left_out in of_shop:
        shops[SHOP] = of(SHOP, key)
        await rig.target.apply([shops[SHOP]])
        assert await lines(rig) == [f"{WILD} {left_out}"] * 2
        await expect_all(rig, {**shops, BLOG: wide})
    # Both at once, a host that goes and one that comes.
    wide, shops[SHOP], shops["new.neg.test"] = of(WILD, "rsa"), of(SHOP, "ec"), of("new.neg.test", "ec")
    del shops["bar.neg.test"]
    changes: list[BindingChange] = [Remove(host="bar.neg.test", port=443), wide, shops[SHOP], shops["new.neg.test"]]
    await rig.target.apply(changes)
    assert await lines(rig) == [f"{WILD} !cafe.neg.test !new.neg.test !{SHOP}"] * 2
    await expect_all(rig, {**shops, "bar.neg.test": wide, BLOG: wide})
    await rig.restart_server()
    await expect_all(rig, {**shops, "bar.neg.test": wide, BLOG: wide})
    assert await rig.target.current() == {each.bound for each in (wide, *shops.values())}
    await rig.target.apply([Remove(host=WILD, port=443)])
    await expect_all(rig, {**shops, BLOG: rig.fallback})
    await rig.target.apply([of(WILD, "ec")])
    assert await lines(rig) == [WILD, WILD]


async def test_at_no_moment_does_another_certificate_answer_or_none(rig: HAProxyRig) -> None:
    """Handshakes one after the other, for the exact host and for the wildcard, while entries change."""
    wide, shop = of(WILD, "ec"), of(SHOP, "rsa")
    await rig.target.apply([wide, shop])
    names = {change.bundle.fingerprint_sha256: change.host for change in (wide, shop)}
    seen: list[tuple[str, str]] = []
    done = asyncio.Event()

    async def look(host: str) -> None:
        while not done.is_set():
            fingerprint = await rig.probe(rig.target.endpoint(443), host, timeout_s=10)
            seen.append((host, names.get(fingerprint, fingerprint)))

    looking = [asyncio.create_task(look(host)) for host in (SHOP, BLOG, BLOG)]
    issued = root().issue("*.neg.test", key="rsa")
    for number in range(15):
        await rig.target.apply([bind(issued, f"h{number}.neg.test", 443)])
    types: list[KeyKind] = ["rsa", "ec"]
    for key in types * 4:
        renewed = of(WILD, key)
        names[renewed.bundle.fingerprint_sha256] = WILD
        await rig.target.apply([renewed])
    await rig.target.apply([Remove(host=f"h{number}.neg.test", port=443) for number in range(15)])
    done.set()
    await asyncio.gather(*looking)
    assert len(seen) > 100
    assert set(seen) == {(SHOP, SHOP), (BLOG, WILD)}


async def test_a_batch_that_fails_leaves_entries_as_they_were(rig: HAProxyRig, monkeypatch: pytest.MonkeyPatch) -> None:
    wide, shop, gone = of(WILD, "ec"), of(SHOP, "rsa"), of("gone.neg.test", "rsa")
    await rig.target.apply([wide, shop, gone])
    before, files, entries = await rig.target.current(), rig.tree(), await lines(rig)
    # What OpenSSL does not serve never comes so far.
    monkeypatch.setattr(disk, "tagged_pem", lambda change: change.bundle.to_pem())
    changes: list[BindingChange] = [
        of("new.neg.test", "rsa"),
        of(SHOP, "ec"),
        Remove(host=gone.host, port=443),
        unfit("bad.test", 443),
    ]
    for batch in (changes, [*changes, of(WILD, "rsa")]):
        with pytest.raises(ApplyError, match=r"bad\.test:443"):
            await rig.target.apply(batch)
        assert (rig.tree(), sorted(await lines(rig))) == (files, sorted(entries))
        assert await rig.target.current() == before
        await expect_all(rig, {SHOP: shop, gone.host: gone, BLOG: wide, "new.neg.test": wide})
    monkeypatch.undo()
    await rig.restart_agent()
    assert await rig.target.current() == before


async def test_a_port_is_not_the_others(rig: HAProxyRig) -> None:
    await rig.target.apply([of(WILD, "ec"), of(SHOP, "rsa", port=444)])
    assert await lines(rig) == [WILD, WILD]


class TestWhatIsNotAsItShouldBe:
    """Entries as an agent before this one wrote them, as a killed one left them, as somebody changed them."""

    @pytest.mark.parametrize(
        "where", ["HAProxy, plain", "HAProxy, twice", "HAProxy, more", "list, plain", "list, twice"]
    )
    async def test_it_is_found_when_read_again_and_put_right_with_the_wildcard(
        self, rig: HAProxyRig, where: str
    ) -> None:
        wide, shop = of(WILD, "ec"), of(SHOP, "rsa")
        await rig.target.apply([wide, shop])
        pem, content = rig.pem(WILD), rig.crt_list().read_text()
        if where.startswith("list"):
            other = content.replace(f" !{SHOP}", "") if where == "list, plain" else content + content
            rig.crt_list().write_text(other)
        else:
            filters = {"HAProxy, plain": "", "HAProxy, twice": f"!{SHOP}", "HAProxy, more": f"!{SHOP} !{BLOG}"}[where]
            await rig.ask(f"add ssl crt-list {rig.crt_list()}", f"{pem} {WILD} {filters}\n".encode())
            if where != "HAProxy, twice":
                old = (await rig.ask(f"show ssl crt-list -n {rig.crt_list()}")).split(f"{pem}:")[1].split()[0]
                await rig.ask(f"del ssl crt-list {rig.crt_list()} {pem}:{old}")
        rig.target.forget()
        assert not any(wide.is_done_by(each) for each in await rig.target.current())
        (result,) = [each for each in await install(rig.target, [wide, shop], rig.probe) if each.change == wide]
        assert result.outcome is Outcome.LIVE
        assert await lines(rig) == [f"{WILD} !{SHOP}"] * 2
        rig.target.forget()
        assert await rig.target.current() == {wide.bound, shop.bound}
        await rig.restart_server()
        await expect_all(rig, {SHOP: shop, BLOG: wide})
        assert await rig.target.current() == {wide.bound, shop.bound}


class TestAdministratorsEntries:
    @pytest.mark.parametrize("names", [SHOP, ""])
    async def test_an_exact_host_of_theirs_is_left_out_of_a_wildcard_of_ours(self, rig: HAProxyRig, names: str) -> None:
        own = rig.server.folder / "own.pem"
        theirs = bind(root().issue(SHOP, key="rsa"), SHOP, 443)
        own.write_bytes(theirs.bundle.to_pem())
        rig.crt_list().write_text(f"{own} {names}\n")
        await rig.restart_server()
        wide = of(WILD, "ec")
        await rig.target.apply([wide])
        await expect_all(rig, {SHOP: theirs, BLOG: wide})
        await rig.restart_server()
        await expect_all(rig, {SHOP: theirs, BLOG: wide})
        assert await rig.target.current() == {wide.bound}
        assert rig.crt_list().read_text().splitlines()[0] == f"{own} {names}"

    async def test_a_wildcard_of_theirs_that_answers_for_a_host_of_ours_is_named_with_the_words_to_add(
        self, rig: HAProxyRig
    ) -> None:
        own, theirs = rig.server.folder / "own.pem", of(WILD, "ec")
        own.write_bytes(theirs.bundle.to_pem())
        rig.crt_list().write_text(f"{own} {WILD}\n")
        await rig.restart_server()
        shop = of(SHOP, "rsa")
        (result,) = await install(rig.target, [shop], rig.probe, pace=QUICK)
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert f"{own} for {WILD}" in result.reason
        assert f"add `!{SHOP}` to that line" in result.reason
        rig.crt_list().write_text(f"{own} {WILD} !{SHOP}\n")
        await rig.restart_server()
        (result,) = await install(rig.target, [shop], rig.probe, pace=QUICK)
        assert result.outcome is Outcome.LIVE


class TestRoom:
    async def test_more_hosts_than_the_socket_carries_are_refused_one_by_one_with_the_setting_to_change(
        self, rig: HAProxyRig
    ) -> None:
        parent = ".".join("x" * 60 for _ in range(3))
        wide = bind(root().issue(f"*.{parent}.test", subject="CN=wide"), f"*.{parent}.test", 443)
        hosts = [f"h{number:02}.{parent}.test" for number in range(90)]
        bundle = root().issue(f"*.{parent}.test", subject="CN=wide", key="rsa").bundle()
        await rig.target.apply([wide])
        results = await install(rig.target, [change_to(bundle, host, 443) for host in hosts], rig.probe)
        outcomes = [result.outcome for result in results]
        live = outcomes.count(Outcome.LIVE)
        assert 70 < live < 90
        assert outcomes == [Outcome.LIVE] * live + [Outcome.FAILED] * (90 - live)
        assert "tune.bufsize 32768" in results[-1].reason
        assert results[-1].reason.startswith(f"{wide.host}:443 must not answer for")
        await expect(rig, 443, {hosts[0]: bundle.fingerprint_sha256, f"blog.{parent}.test": wide, hosts[-1]: wide})
        await rig.restart_server()
        await expect(rig, 443, {hosts[0]: bundle.fingerprint_sha256, f"blog.{parent}.test": wide, hosts[-1]: wide})
        # Other hosts are not held up, nor is one whose key is of the wildcard's type.
        other = fresh(SHOP, 443)
        alike = bind(root().issue(hosts[-1], subject="CN=alike"), hosts[-1], 443)
        await rig.target.apply([other, alike])
        await expect(rig, 443, {SHOP: other, hosts[-1]: alike})
