"""The default certificate on a real HAProxy, beside what the contract of all targets asks of it."""

from collections.abc import AsyncIterator

import pytest

from instance_agent.installing.installer import install
from instance_agent.targets.base import ApplyError, Install, Remove
from instance_agent.targets.haproxy import runtime
from instance_agent.targets.haproxy.batch import NotDefaultError
from instance_agent.targets.haproxy.runtime import RefusedError
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome
from tests.rigs.haproxy import HAProxyRig, serving
from tests.rigs.programs import needs
from tests.rigs.targets import QUICK, bind, expect, fresh, fresh_default, root, seen

pytestmark = needs("haproxy")

SHOP = "shop.example.com"
GONE = Remove(host=DEFAULT_HOST, port=443)


@pytest.fixture
async def rig() -> AsyncIterator[HAProxyRig]:
    async with serving() as rig:
        yield rig


def bind_line(rig: HAProxyRig, was: str, becomes: str) -> None:
    """Edit the configuration as an administrator does."""
    config = rig.server.folder / "haproxy.cfg"
    text = config.read_text()
    assert was in text
    config.write_text(text.replace(was, becomes))


def list_of(rig: HAProxyRig) -> str:
    return str(rig.server.certificates / "443.default.list")


async def of_old(rig: HAProxyRig) -> None:
    """Make it a set-up from before there was a default: neither named nor there."""
    own = rig.server.folder / "fallback.pem"
    own.write_bytes(rig.server.fallback.to_pem())
    for port in rig.ports:
        named = rig.server.certificates / f"{port}.default.list"
        bind_line(rig, f"crt-list {named} ", f"crt {own} ")
        named.unlink()
        rig.pem(DEFAULT_HOST, port).unlink()
    await rig.restart_server()


async def test_restarts_of_server_and_agent_keep_it_and_what_comes_back_after_it(rig: HAProxyRig) -> None:
    default = fresh_default(443)
    await rig.target.apply([default])
    await rig.restart_server()
    await expect(rig, 443, {None: default, "unknown.example": default})
    await rig.restart_agent()
    assert await rig.target.current() == {default.bound}
    assert await rig.target.current([(DEFAULT_HOST, 443)]) == {default.bound}
    (result,) = await install(rig.target, [GONE], rig.probe)
    assert result.outcome is Outcome.REMOVED, result.reason
    assert rig.pem(DEFAULT_HOST).read_bytes() == rig.server.fallback.to_pem()
    assert set(rig.tree()) == {
        f"{port}{end}" for port in rig.ports for end in (".list", ".default.list", ".default.pem")
    }
    await expect(rig, 443, {None: rig.fallback})
    await rig.restart_server()
    await expect(rig, 443, {None: rig.fallback, "unknown.example": rig.fallback})
    assert await rig.target.current() == frozenset()


async def test_its_own_names_come_after_every_hosts_whatever_the_types_of_keys(rig: HAProxyRig) -> None:
    default = bind(root().issue("*.example.com", SHOP, "example.net"), DEFAULT_HOST, 443)
    shop, wide = (
        bind(root().issue(SHOP, key="rsa"), SHOP, 443),
        bind(root().issue("*.example.com", key="rsa"), "*.example.com", 443),
    )
    await rig.target.apply([default, shop, wide])
    for _ in range(2):
        await expect(rig, 443, {SHOP: shop, "blog.example.com": wide, "example.net": default, None: default})
        await rig.restart_server()


async def test_a_fallback_that_an_administrator_renewed_meanwhile_is_what_comes_back(rig: HAProxyRig) -> None:
    await rig.target.apply([fresh_default(443)])
    theirs = fresh("fallback.example", 443)
    (rig.server.certificates / "443.fallback.pem").write_bytes(theirs.bundle.to_pem())
    await rig.target.apply([GONE])
    await expect(rig, 443, {None: theirs})
    assert await rig.target.current() == frozenset()


async def test_without_any_fallback_one_is_made(rig: HAProxyRig) -> None:
    default = fresh_default(443)
    await rig.target.apply([default])
    (rig.server.certificates / "443.fallback.pem").unlink()
    await rig.target.apply([GONE])
    assert await seen(rig, 443, None) not in {None, default.bundle.fingerprint_sha256}
    before = await seen(rig, 443, None)
    await rig.restart_server()
    assert await seen(rig, 443, None) == before


async def test_a_batch_that_fails_brings_files_and_server_back(
    rig: HAProxyRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise RefusedError("it is in use")

    shop, default = fresh(SHOP, 443), fresh_default(443)
    await rig.target.apply([shop])
    for change, there in ((default, rig.fallback), (fresh_default(443), default), (GONE, default)):
        files = rig.tree()
        with monkeypatch.context() as patched:
            patched.setattr(runtime, "unbind", refuse)
            with pytest.raises(ApplyError, match="in use"):
                await rig.target.apply([change, Remove(host=SHOP, port=443)])
        assert rig.tree() == files
        rig.target.forget()
        assert await rig.target.current() == {each.bound for each in (shop, there) if isinstance(each, Install)}
        await expect(rig, 443, {None: there, SHOP: shop})
        await rig.target.apply([default])
    await rig.target.apply([GONE])
    await expect(rig, 443, {None: rig.fallback})


async def test_what_is_no_fallback_is_not_lost_for_one(rig: HAProxyRig) -> None:
    """HAProxy took the file when it was started, and somebody has damaged it since."""
    rig.pem(DEFAULT_HOST).write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(ApplyError, match=r"443\.default\.pem must hold a PEM private key") as caught:
        await rig.target.apply([fresh_default(443)])
    assert caught.value.culprit == (DEFAULT_HOST, 443)
    assert rig.pem(DEFAULT_HOST).read_text() == "-----BEGIN CERTIFICATE-----\n"


class TestByHand:
    async def test_one_that_was_replaced_on_the_socket_is_put_right(self, rig: HAProxyRig) -> None:
        default, theirs = fresh_default(443), fresh("theirs.example", 443)
        await rig.target.apply([default])
        await rig.tamper(DEFAULT_HOST, 443, theirs.bundle)
        await expect(rig, 443, {None: theirs})
        rig.target.forget()
        assert not any(default.is_done_by(each) for each in await rig.target.current())
        (result,) = await install(rig.target, [default], rig.probe, pace=QUICK)
        assert result.outcome is Outcome.LIVE
        await expect(rig, 443, {None: default})

    async def test_a_file_that_was_replaced_is_put_right_and_the_fallback_still_comes_back(
        self, rig: HAProxyRig
    ) -> None:
        default = fresh_default(443)
        await rig.target.apply([default])
        rig.pem(DEFAULT_HOST).write_bytes(fresh("theirs.example", 443).bundle.to_pem())
        rig.target.forget()
        (binding,) = await rig.target.current()
        assert (binding.host, default.is_done_by(binding)) == (DEFAULT_HOST, False)
        await rig.target.apply([default])
        await rig.restart_server()
        await expect(rig, 443, {None: default})
        await rig.target.apply([GONE])
        await expect(rig, 443, {None: rig.fallback})

    async def test_a_fallback_of_theirs_is_no_binding_of_ours(self, rig: HAProxyRig) -> None:
        theirs = fresh("theirs.example", 443)
        rig.pem(DEFAULT_HOST).write_bytes(theirs.bundle.to_pem())
        await rig.tamper(DEFAULT_HOST, 443, theirs.bundle)
        rig.target.forget()
        assert await rig.target.current() == frozenset()
        await rig.target.apply([fresh_default(443)])
        await rig.target.apply([GONE])
        await expect(rig, 443, {None: theirs})


class TestSetUps:
    async def test_one_of_before_goes_on_and_an_upload_for_the_default_says_what_to_add(self, rig: HAProxyRig) -> None:
        await of_old(rig)
        shop, default = fresh(SHOP, 443), fresh_default(443)
        results = await install(rig.target, [default, shop], rig.probe)
        assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.LIVE]
        assert results[0].retriable
        assert f"started without {list_of(rig)} for PortNumber 443" in results[0].reason
        assert f"`ssl crt-list {list_of(rig)}` in place of `ssl crt" in results[0].reason
        assert set(rig.tree()) == {"443.list", "444.list", f"443/{SHOP}.pem"}
        assert await rig.target.current() == {shop.bound}
        await rig.target.apply([GONE])
        # What the sentence says, done: the same target then takes it.
        rig.pem(DEFAULT_HOST).write_bytes(rig.server.fallback.to_pem())
        (rig.server.certificates / "443.default.list").write_text(f"{rig.pem(DEFAULT_HOST)} !*\n")
        bind_line(
            rig,
            f"ssl crt {rig.server.folder}/fallback.pem crt-list {rig.crt_list()}",
            f"ssl crt-list {list_of(rig)} crt-list {rig.crt_list()}",
        )
        await rig.restart_server()
        (result,) = await install(rig.target, [default], rig.probe)
        assert result.outcome is Outcome.LIVE
        await expect(rig, 443, {None: default, SHOP: shop})

    @pytest.mark.parametrize(
        ("was", "becomes"),
        [("ssl crt-list {list}", "ssl crt {own} crt-list {list}"), ("alpn h2", "strict-sni alpn h2")],
    )
    async def test_a_bind_line_that_answers_others_otherwise_is_told_before_anything_is_changed(
        self, rig: HAProxyRig, was: str, becomes: str
    ) -> None:
        own = rig.server.folder / "own.pem"
        own.write_bytes(fresh("own.example", 443).bundle.to_pem())
        bind_line(rig, was.format(list=list_of(rig)), becomes.format(list=list_of(rig), own=own))
        await rig.restart_server()
        before, files = await seen(rig, 443, None), rig.tree()
        shop, default = fresh(SHOP, 443), fresh_default(443)
        with pytest.raises(NotDefaultError, match="with another certificate, or none") as caught:
            await rig.target.apply([default])
        assert "without `strict-sni`" in str(caught.value)
        assert caught.value.culprit == default.key
        assert rig.tree() == files
        assert await seen(rig, 443, None) == before != default.bundle.fingerprint_sha256
        assert str(rig.pem(DEFAULT_HOST)) in await rig.ask(f"show ssl crt-list {list_of(rig)}")
        results = await install(rig.target, [default, shop], rig.probe)
        assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.LIVE]
