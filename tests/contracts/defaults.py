"""What targets do with a certificate for the default: clients that ask for no name, or for one that is not bound."""

from instance_agent.installing.installer import install
from instance_agent.installing.sighting import Pace
from instance_agent.targets.base import Install, Remove
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome
from tests.rigs.targets import HandmadeRig, Rig, bind, expect, fresh, owned, owned_after, root, seen, served

SHOP = "shop.example.com"


def default(port: int) -> Install:
    """The change that makes a new certificate the default of a port."""
    return bind(root().issue("*.platform.example"), DEFAULT_HOST, port)


class DefaultContract:
    """For targets that take a default; where one was installed before the agent's restart, too."""

    async def test_the_default_answers_where_no_name_or_no_bound_one_is_asked_for(self, rig: Rig) -> None:
        port, other = rig.ports
        exact, wide, unnamed = fresh(SHOP, port), fresh("*.example.net", port), default(port)
        await served(rig, exact, wide)
        (result,) = await install(rig.target, [unnamed], rig.probe)
        assert result.outcome is Outcome.LIVE, result.reason
        unknown = dict.fromkeys(("unknown.example", "a.b.example.net", "example.net", "x" * 63, None), unnamed)
        await expect(rig, port, {SHOP: exact, "a.example.net": wide, **unknown})
        await expect(rig, other, dict.fromkeys(("unknown.example", None), rig.fallback))
        assert owned(await rig.target.current()) == owned_after(exact, wide, unnamed)
        assert owned(await rig.target.current([unnamed.key])) == owned_after(unnamed)

    async def test_a_default_is_renewed_and_the_fallback_is_back_once_it_is_removed(self, rig: Rig) -> None:
        port = rig.ports[0]
        exact = fresh(SHOP, port)
        await served(rig, exact)
        for change in (default(port), default(port)):
            before = await rig.target.current([change.key])
            (result,) = await install(rig.target, [change], rig.probe)
            assert result.outcome is Outcome.LIVE, result.reason
            await rig.target.retire(list(before))
            await expect(rig, port, {None: change, "unknown.example": change, SHOP: exact})
        (result,) = await install(rig.target, [Remove(host=DEFAULT_HOST, port=port)], rig.probe)
        assert result.outcome is Outcome.REMOVED, result.reason
        await expect(rig, port, {None: rig.fallback, "unknown.example": rig.fallback, SHOP: exact})
        assert owned(await rig.target.current()) == owned_after(exact)

    async def test_a_host_that_is_removed_gets_the_default(self, rig: Rig) -> None:
        port = rig.ports[0]
        unnamed, exact = default(port), fresh(SHOP, port)
        await served(rig, unnamed, exact)
        (result,) = await install(rig.target, [Remove(host=SHOP, port=port)], rig.probe)
        assert result.outcome is Outcome.REMOVED, result.reason
        await expect(rig, port, {SHOP: unnamed, None: unnamed})

    async def test_the_default_of_each_port_is_its_own(self, rig: Rig) -> None:
        first, second = (default(port) for port in rig.ports)
        await served(rig, first, second)
        await rig.target.apply([Remove(host=DEFAULT_HOST, port=first.port)])
        await expect(rig, first.port, {None: rig.fallback})
        await expect(rig, second.port, {None: second, "unknown.example": second})


class DefaultRestartContract:
    """For rigs whose servers outlive the agent and that can play somebody else."""

    async def test_a_restarted_agent_finds_its_default(self, rig: HandmadeRig) -> None:
        change = default(rig.ports[0])
        await served(rig, change)
        await rig.restart_agent()
        (binding,) = await rig.target.current()
        assert change.is_done_by(binding)
        assert await seen(rig, change.port, None) == change.bundle.fingerprint_sha256

    async def test_a_default_that_somebody_changed_is_put_right(self, rig: HandmadeRig) -> None:
        change, theirs = default(rig.ports[0]), default(rig.ports[0])
        await served(rig, change)
        await rig.tamper(DEFAULT_HOST, change.port, theirs.bundle)
        await expect(rig, change.port, {None: theirs})
        await self._made_good(rig, change)
        await rig.untie(DEFAULT_HOST, change.port)
        await self._made_good(rig, change)

    async def _made_good(self, rig: HandmadeRig, change: Install) -> None:
        rig.target.forget()
        (result,) = await install(rig.target, [change], rig.probe, pace=Pace(confirm_s=0.2))
        assert result.outcome is Outcome.LIVE, result.reason
        await expect(rig, change.port, {None: change, "unknown.example": change})
