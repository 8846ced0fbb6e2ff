"""An administrator's own `default_server` on our port: nginx allows one, so that ours does without, in both modes."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from instance_agent.installing.installer import install
from instance_agent.targets.base import ApplyError, Install, Remove, ServerUnavailableError
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome
from tests.contracts.names import NamesContract
from tests.contracts.targets import BindingContract, HandmadeChangeContract, RestartContract
from tests.rigs.nginx import NginxRig, edited, serving_nginx
from tests.rigs.targets import bind, endpoint, expect, fresh, fresh_default, owned, owned_after, root, served
from tests.rigs.visitors import visiting

HOST = "shop.example.com"
BOTH = pytest.mark.parametrize("dynamic", [True, False], ids=["dynamic", "blocks"])


class RigBesideAnother(NginxRig):
    """One whose port 443 has a default server of somebody else, which is what answers where nothing is bound."""

    other = ""

    @property
    def fallback(self) -> str:
        return self.other


def server(rig: NginxRig, pem: Path, *, port: int = 443, options: str = "default_server") -> str:
    """A server block of an administrator."""
    address, number = endpoint(rig, port)
    return (
        f"server {{ listen {address}:{number} ssl {options}; server_name other.example _;\n"
        f"ssl_certificate {pem}; ssl_certificate_key {pem}; return 200 other; }}\n"
    )


@contextmanager
def another_server(rig: NginxRig, *, port: int = 443, options: str = "default_server") -> Iterator[str]:
    """Such a block at the end of nginx.conf for a while; its certificate's fingerprint."""
    issued = root().issue("other.example")
    pem = rig.server.folder / "other.pem"
    pem.write_bytes(issued.bundle().to_pem())
    include = f'include "{rig.server.certificates}/*.conf";\n'
    block = server(rig, pem, port=port, options=options)
    with edited(rig.server.folder / "nginx.conf", include, include + block):
        yield issued.fingerprint


@asynccontextmanager
async def beside_another(*, dynamic: bool) -> AsyncIterator[RigBesideAnother]:
    async with serving_nginx(dynamic=dynamic) as rig:
        await rig.target.stop()
        with another_server(rig) as fingerprint:
            beside = RigBesideAnother(rig.server, rig.env)
            beside.other = fingerprint
            await beside.target.start()
            yield beside


class Contract(RestartContract, NamesContract):
    """What differs, and what of the contract of all targets it could break."""

    test_a_fresh_server_owns_nothing = BindingContract.test_a_fresh_server_owns_nothing_and_answers_with_the_fallback
    test_a_removed_host_is_no_longer_served = BindingContract.test_a_removed_host_is_no_longer_served
    test_an_exact_host_comes_before = (
        BindingContract.test_an_exact_host_comes_before_the_wildcard_which_covers_one_label
    )
    test_one_bad_change = BindingContract.test_a_batch_with_one_bad_change_leaves_everything_as_it_was
    test_replaced_by_hand = HandmadeChangeContract.test_a_certificate_that_somebody_replaced_is_served_again
    _bound, _make_good = HandmadeChangeContract._bound, HandmadeChangeContract._make_good

    async def test_a_default_is_refused_with_the_file_and_the_cure_and_taken_on_another_port(
        self, rig: RigBesideAnother
    ) -> None:
        changes = [fresh_default(port) for port in rig.ports]
        results = await install(rig.target, changes, rig.probe)
        assert [result.outcome for result in results] == [Outcome.REFUSED, Outcome.LIVE]
        assert str(rig.server.folder / "nginx.conf") in results[0].reason
        assert "take the word from there" in results[0].reason
        await expect(rig, rig.ports[0], {None: rig.fallback})
        await expect(rig, rig.ports[1], {None: changes[1], "unknown.example": changes[1]})

    async def test_what_answered_instead_is_named(self, rig: RigBesideAnother) -> None:
        explained = await rig.target.explain_mismatch(HOST, 443, rig.other)
        assert f"the default_server of that port is in {rig.server.folder / 'nginx.conf'}" in (explained or "")

    async def test_our_template_answers_for_our_hosts_and_theirs_for_the_rest(self, rig: RigBesideAnother) -> None:
        await served(rig, fresh(HOST, 443))
        for host, body in ((HOST, b"set CERTCAST_NGINX_TEMPLATE"), ("unknown.example", b"other")):
            async with visiting(endpoint(rig, 443), host) as (visitor,):
                assert body in (await visitor.get()).body


class TestDynamic(Contract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[RigBesideAnother]:
        async with beside_another(dynamic=True) as rig:
            yield rig

    async def test_a_renewal_takes_no_reload(self, rig: RigBesideAnother) -> None:
        assert not rig.target.in_slices
        await served(rig, fresh(HOST, 443), fresh("*.example.net", 443))
        async with visiting(endpoint(rig, 443), HOST) as (visitor,):
            await visitor.get()
            await served(rig, fresh(HOST, 443), fresh("*.example.net", 443), fresh(HOST, 8443))
            assert (await visitor.get()).status == 200

    async def test_a_batch_that_nginx_does_not_take_leaves_all_as_it_was(self, rig: RigBesideAnother) -> None:
        old = fresh(HOST, 443)
        await served(rig, old)
        with (
            edited(rig.server.folder / "nginx.conf", "http {", "nonsense;\nhttp {"),
            pytest.raises(ServerUnavailableError, match="nonsense"),
        ):
            await rig.target.apply([fresh(HOST, 443), fresh("new.example.com", 443)])
        assert owned(await rig.target.current()) == owned_after(old)
        await expect(rig, 443, {HOST: old, "new.example.com": rig.fallback})
        await served(rig, fresh("new.example.com", 443))


class TestBlocks(Contract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[RigBesideAnother]:
        async with beside_another(dynamic=False) as rig:
            yield rig


@BOTH
async def test_one_that_comes_while_the_agent_runs_is_given_way_to(dynamic: bool) -> None:  # noqa: FBT001
    async with serving_nginx(dynamic=dynamic) as rig:
        mine, unnamed = fresh(HOST, 443), fresh_default(443)
        await served(rig, mine, unnamed)
        with another_server(rig) as other:
            assert "a duplicate default server" in (await rig.target._nginx.test() or "")
            rig.target.forget()
            changes: list[Install] = [
                fresh("new.example.com", 443),
                bind(root().issue("*.new.example"), "*.new.example", 443),
            ]
            for change in changes:
                (result,) = await install(rig.target, [change], rig.probe)
                assert result.outcome is Outcome.LIVE, result.reason
            assert await rig.target._nginx.test() is None
            await expect(rig, 443, {HOST: mine, None: other, "unknown.example": other, "a.new.example": changes[1]})
            (result,) = await install(rig.target, [unnamed], rig.probe)
            assert result.outcome is Outcome.REFUSED
        await rig.restart_agent()
        results = await install(rig.target, [unnamed, mine], rig.probe)
        assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.LIVE]
        await expect(rig, 443, {HOST: mine, None: unnamed, "unknown.example": unnamed})


async def test_in_blocks_the_next_batch_finds_one_out_and_its_repetition_is_live() -> None:
    async with serving_nginx(dynamic=False) as rig:
        with another_server(rig) as other:
            change = fresh(HOST, 443)
            with pytest.raises(ApplyError, match="a duplicate default server") as caught:
                await rig.target.apply([change])
            assert caught.value.retriable
            (result,) = await install(rig.target, [change], rig.probe)
            assert result.outcome is Outcome.LIVE
            await expect(rig, 443, {HOST: change, None: other})


@BOTH
async def test_another_server_that_is_no_default_changes_nothing(dynamic: bool) -> None:  # noqa: FBT001
    async with serving_nginx(dynamic=dynamic) as rig:
        with another_server(rig, options="") as other:
            await rig.reload()
            await rig.restart_agent()
            change = fresh_default(443)
            await expect(rig, 443, {"other.example": other, "unknown.example": rig.fallback, None: rig.fallback})
            (result,) = await install(rig.target, [change], rig.probe)
            assert result.outcome is Outcome.LIVE
            await expect(rig, 443, {"other.example": other, "unknown.example": change})
            await rig.target.apply([Remove(host=DEFAULT_HOST, port=443)])
        await rig.reload()
