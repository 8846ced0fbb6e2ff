"""One platform on nginx, HAProxy and Caddy: each takes the same uploads, and changes of them fail no request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Self

import pytest
import pytest_asyncio

from local_azure.instances import Instance
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from tests.rigs.certificates import authority
from tests.rigs.load import Load, load
from tests.rigs.programs import needs
from tests.rigs.visitors import trusting, visiting
from tests.rigs.witness import PASSWORD, Witness, witnessed

TARGETS = ("nginx", "haproxy", "caddy")
CONNECTIONS = 4
RENEWALS = 3
CA = authority()

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300), needs(*TARGETS, "wrk")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Witness]:
    async with witnessed(PlatformSettings(agents=len(TARGETS), targets=TARGETS, ports=FREE_PORTS)) as witness:
        yield witness


class Caller:
    """Opens one connection after the other, each checked against the authority, and notes what it is shown."""

    def __init__(self, instance: Instance, host: str) -> None:
        self._shown: list[str] = []
        self._calling = asyncio.create_task(self._call(instance.address(), host))

    def shown(self) -> list[str]:
        """The certificates it was shown, in that order, each as often as it came again."""
        assert not self._calling.done(), self._calling.exception()
        return [fingerprint for fingerprint, _ in groupby(self._shown)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._calling.cancel()
        await asyncio.gather(self._calling, return_exceptions=True)

    async def _call(self, address: tuple[str, int], host: str) -> None:
        context = trusting(CA.root_pem)
        while True:
            async with visiting(address, host, context=context) as (visitor,):
                assert (await visitor.get()).status == 200
                self._shown.append(visitor.fingerprint)


@asynccontextmanager
async def under_load(cloud: Witness, folder: Path, host: str) -> AsyncIterator[dict[str, Load]]:
    """Two loads on each server: one that keeps its connections, one that shakes hands for each request."""
    async with AsyncExitStack() as stack:
        loads = {}
        for instance in cloud.platform.instances:
            for keep in (True, False):
                running = load(folder, instance.address(), host, connections=CONNECTIONS, keep=keep)
                loads[f"{instance.target}, {'kept' if keep else 'new'} connections"] = await stack.enter_async_context(
                    running
                )
        yield loads


async def all_go_on(loads: dict[str, Load]) -> None:
    await asyncio.gather(*(running.goes_on() for running in loads.values()))


async def test_one_upload_is_proved_on_three_servers(cloud: Witness) -> None:
    known = {known.value.id: known.value async for known in cloud.account.state.instances.all()}
    kinds = [known[instance.name].target_kind for instance in cloud.platform.instances]
    assert kinds == list(TARGETS)
    assert "dynamic" in known["agent-0"].target_version, "nginx with its Lua module"
    issued = CA.issue("one.test")
    await cloud.goes_live("one.pfx", issued, live=3)
    assert await cloud.served("one.test") == [issued.fingerprint] * 3
    await cloud.tagged("one.pfx", certcast_status="live", certcast_live="3/3")
    for instance in cloud.platform.instances:
        async with visiting(instance.address(), "one.test", context=trusting(CA.root_pem)) as (visitor,):
            answer = await visitor.get()
        assert (answer.status, bool(answer.body)) == (200, True)


async def test_renewals_under_load_fail_no_request(cloud: Witness, tmp_path: Path) -> None:
    issued = [CA.issue("shop.test")]
    context = trusting(CA.root_pem)
    await cloud.goes_live("shop.pfx", issued[0], live=3)
    await cloud.serves("shop.test", issued[0].fingerprint)
    async with AsyncExitStack() as stack:
        old = [
            visitor
            for instance in cloud.platform.instances
            for visitor in await stack.enter_async_context(visiting(instance.address(), "shop.test", context=context))
        ]
        loads = await stack.enter_async_context(under_load(cloud, tmp_path, "shop.test"))
        callers = [
            await stack.enter_async_context(Caller(instance, "shop.test")) for instance in cloud.platform.instances
        ]
        await all_go_on(loads)
        for number in range(RENEWALS):
            issued.append(CA.issue("shop.test"))
            await cloud.upload("shop.pfx", issued[-1].pfx(PASSWORD))
            await cloud.serves("shop.test", issued[-1].fingerprint)
            await cloud.becomes("shop.pfx", "live", live=3)
            await all_go_on(loads)
            further = CA.issue(f"further-{number}.test")
            await cloud.upload(f"further-{number}.pfx", further.pfx(PASSWORD))
            await cloud.becomes(f"further-{number}.pfx", "live", live=3)
            await cloud.serves(f"further-{number}.test", further.fingerprint)
        await all_go_on(loads)
        assert [(await visitor.get()).status for visitor in old] == [200] * 3, "connections from before go on"
        assert {visitor.fingerprint for visitor in old} == {issued[0].fingerprint}
        shown = [caller.shown() for caller in callers]
        tallies = {name: await running.end() for name, running in loads.items()}
    assert {name: tally.failures for name, tally in tallies.items()} == {name: {} for name in loads}
    # Each server went from one certificate to the next and never back, nor to any other.
    assert shown == [[one.fingerprint for one in issued]] * 3
    assert await cloud.served("shop.test") == [issued[-1].fingerprint] * 3


async def test_an_agent_that_is_away_leaves_its_server_running(cloud: Witness) -> None:
    before, renewed = CA.issue("away.test"), CA.issue("away.test")
    await cloud.goes_live("away.pfx", before, live=3)
    servers = [instance.server for instance in cloud.platform.instances]
    pids = [server.pid for server in servers if server is not None]
    for agent in cloud.platform.agents:
        await agent.kill()
    # Caddy asks its agent at each handshake; the others have it in files.
    assert await cloud.served("away.test") == [before.fingerprint, before.fingerprint, ""]
    await cloud.upload("away.pfx", renewed.pfx(PASSWORD))
    await asyncio.gather(*(agent.start() for agent in cloud.platform.agents))
    await cloud.serves("away.test", renewed.fingerprint)
    assert [server.pid for server in servers if server is not None] == pids
    assert len(set(pids) - {None}) == 3


async def test_a_server_that_was_killed_comes_back_with_what_was_installed(cloud: Witness) -> None:
    issued = CA.issue("back.test")
    await cloud.goes_live("back.pfx", issued, live=3)
    for instance in cloud.platform.instances:
        assert instance.server is not None
        await instance.server.kill()
    assert await cloud.served("back.test") == ["", "", ""]
    for instance in cloud.platform.instances:
        assert instance.server is not None
        await instance.server.start()
    await cloud.serves("back.test", issued.fingerprint)


async def test_instances_join_and_leave_with_their_servers(cloud: Witness) -> None:
    issued = CA.issue("joined.test")
    await cloud.goes_live("joined.pfx", issued, live=3)
    joined = [await cloud.platform.add_instance() for _ in TARGETS]
    assert [instance.target for instance in joined] == list(TARGETS)
    assert await cloud.served("joined.test") == [issued.fingerprint] * 6, "it serves everything once it is there"
    leaving = cloud.platform.instances[:3]
    for instance in leaving:
        await cloud.platform.remove_instance(instance.name)
    assert [(instance.agent.running, instance.server and instance.server.running) for instance in leaving] == [
        (False, False)
    ] * 3
    assert cloud.platform.instances == tuple(joined)
    renewed = CA.issue("joined.test")
    record = await cloud.goes_live("joined.pfx", renewed, live=3)
    assert record.total == 3, "those that left are not waited for"
    assert await cloud.served("joined.test") == [renewed.fingerprint] * 3


async def test_what_servers_keep_is_for_the_owner_alone_and_their_lines_are_logged(cloud: Witness) -> None:
    folder = cloud.platform.state / "web-servers"
    assert {path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {0o700}
    keys = [path for path in folder.rglob("*.pem") if b"PRIVATE KEY" in path.read_bytes()]
    assert keys
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert {"nginx-0", "haproxy-1", "caddy-2"} <= {who for who, _ in cloud.lines}
    for who in ("nginx-0", "haproxy-1", "caddy-2"):
        log = cloud.platform.log_of(who)
        assert log.stat().st_mode & 0o777 == 0o600
        assert "PRIVATE KEY" not in log.read_text()
