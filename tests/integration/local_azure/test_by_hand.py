"""Somebody at a real web server: what is changed there by hand is served, and no agent is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from instance_agent.installing.probe import served_fingerprint
from instance_agent.selection import make_target
from instance_agent.targets.base import BindingTarget
from local_azure.processes.listening import port_offsets
from local_azure.servers.base import WebServer
from local_azure.servers.by_hand import ByHand, by_hand
from local_azure.servers.caddy import CaddyServer
from local_azure.servers.haproxy import HAProxyServer
from local_azure.servers.nginx import NginxServer
from shared.errors import UnavailableError
from tests.rigs.programs import needs
from tests.rigs.some import some
from tests.rigs.targets import expect, fresh, root, served

SHOP, BASKET = "shop.example.com", "*.example.com"


class Rig:
    """A started server and target, and somebody at the server."""

    ports = (443, 8443)
    probe = staticmethod(served_fingerprint)
    fallback = None

    def __init__(self, server: WebServer, target: BindingTarget, somebody: ByHand) -> None:
        self.server = server
        self.target = target
        self.somebody = somebody

    async def restart_agent(self) -> None:
        raise NotImplementedError


@asynccontextmanager
async def beside(kind: str) -> AsyncIterator[Rig]:
    # pytest's folders are too long for a socket's path.
    with TemporaryDirectory(prefix="hand-") as name, port_offsets(1) as [offset]:
        folder = Path(name)
        server: WebServer
        if kind == "haproxy":
            server = HAProxyServer(folder=folder, port_offset=offset)
        elif kind == "caddy":
            server = CaddyServer(folder=folder, port_offset=offset)
        else:
            server = NginxServer(folder=folder, port_offset=offset, dynamic=kind == "dynamic")
        await server.start()
        try:
            target = make_target(server.program, server.agent_environment | {"CERTCAST_RELOAD_MIN_INTERVAL_S": "0"})
            await target.start()
            yield Rig(server, target, some(by_hand(server)))
            await target.stop()
        finally:
            await server.close()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("dynamic", marks=needs("nginx")),
        pytest.param("blocks", marks=needs("nginx")),
        pytest.param("haproxy", marks=needs("haproxy")),
    ],
)
async def test_what_somebody_changes_is_served_and_its_neighbour_stays(kind: str) -> None:
    async with beside(kind) as rig:
        ours, beside_it = fresh(SHOP, 443), fresh(BASKET, 443)
        await served(rig, ours, beside_it)
        theirs = root().issue(SHOP).bundle()
        await rig.somebody.replace(SHOP, theirs)
        await expect(rig, 443, {SHOP: theirs.fingerprint_sha256, "x.example.com": beside_it})
        await rig.somebody.untie(SHOP)
        await expect(rig, 443, {SHOP: beside_it, "x.example.com": beside_it})
        theirs = root().issue(BASKET).bundle()
        await rig.somebody.replace(BASKET, theirs)
        await expect(rig, 443, {SHOP: theirs.fingerprint_sha256})


@needs("caddy")
async def test_a_certificate_of_caddys_own_is_served_until_it_is_taken_back() -> None:
    async with beside("caddy") as rig:
        ours, beside_it = fresh(SHOP, 443), fresh(BASKET, 443)
        await served(rig, ours, beside_it)
        theirs = root().issue(SHOP).bundle()
        await rig.somebody.replace(SHOP, theirs)
        await expect(rig, 443, {SHOP: theirs.fingerprint_sha256, "x.example.com": beside_it})
        await rig.somebody.take_back()
        await expect(rig, 443, {SHOP: ours, "x.example.com": beside_it})
        assert (rig.somebody.stays, rig.somebody.can_untie) == (True, False)


@needs("nginx", "haproxy")
@pytest.mark.parametrize("kind", ["dynamic", "haproxy"])
async def test_what_cannot_be_changed_is_said(kind: str) -> None:
    async with beside(kind) as rig:
        with pytest.raises(UnavailableError, match="did not succeed"):
            await rig.somebody.replace(SHOP, root().issue(SHOP).bundle())
        await rig.server.stop()
        with pytest.raises(UnavailableError, match="did not succeed"):
            await rig.somebody.untie(SHOP)


def test_at_a_listener_of_the_agents_own_there_is_nothing_to_change() -> None:
    assert by_hand(None) is None
