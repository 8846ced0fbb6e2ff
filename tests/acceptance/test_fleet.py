"""A fleet that is not all alike and does not stay as it is: roles, and agents that join, leave and die under load."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping

import pytest
import pytest_asyncio

from instance_agent.installing.probe import ProbeError, served_fingerprint
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from shared.state.records import UploadRecord
from shared.state.tags import LIVE_TAG, STATUS_TAG
from tests.rigs.certificates import authority
from tests.rigs.witness import PASSWORD, Witness, eventually, witnessed

CA = authority()
WEB, API = 0, 1
UPLOADS = 80
MORE_UPLOADS = 30
AT_ONCE = 16
PATIENCE_S = 300

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Witness]:
    settings = PlatformSettings(
        agents=2,
        ports=FREE_PORTS,
        own_environment={WEB: {"CERTCAST_ROLE": "web"}, API: {"CERTCAST_ROLE": "api"}},
        # The sweep runs when a test asks for it.
        function_environment={"CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *"},
    )
    async with witnessed(settings) as witness:
        yield witness


async def become_served(cloud: Witness, host: str, fingerprints: list[str]) -> None:
    """Wait until each agent serves its own certificate for a host."""

    async def served() -> bool:
        return await cloud.served(host) == fingerprints

    await eventually(served, f"{host} to be served as {[fingerprint[:8] for fingerprint in fingerprints]}")


class TestRoles:
    async def test_what_is_for_a_role_is_served_there_and_what_is_for_every_role_elsewhere(
        self, cloud: Witness
    ) -> None:
        for_all, for_web = CA.issue("shared.test"), CA.issue("shared.test")
        await cloud.goes_live("all.pfx", for_all, live=2)
        assert await cloud.served("shared.test") == [for_all.fingerprint] * 2

        await cloud.goes_live("web.pfx", for_web, live=1, Role="web")
        await cloud.becomes("all.pfx", "live", live=1)
        assert await cloud.served("shared.test") == [for_web.fingerprint, for_all.fingerprint]

        assert await cloud.account.uploads.delete("web.pfx")
        await become_served(cloud, "shared.test", [for_all.fingerprint] * 2)
        await cloud.becomes("web.pfx", "removed", live=0)
        await cloud.becomes("all.pfx", "live", live=2)

    async def test_a_role_keeps_its_own_when_one_for_every_role_comes_later(self, cloud: Witness) -> None:
        for_api, for_all = CA.issue("later.test"), CA.issue("later.test")
        await cloud.goes_live("api.pfx", for_api, live=1, Role="api")
        assert (await cloud.served("later.test"))[WEB] != for_api.fingerprint
        await cloud.goes_live("later.pfx", for_all, live=1)
        assert await cloud.served("later.test") == [for_all.fingerprint, for_api.fingerprint]

    async def test_the_same_host_for_two_roles_is_two_certificates(self, cloud: Witness) -> None:
        for_web, for_api = CA.issue("two.test"), CA.issue("two.test")
        await cloud.upload("two-web.pfx", for_web.pfx(PASSWORD), Role="web")
        await cloud.upload("two-api.pfx", for_api.pfx(PASSWORD), Role="api")
        for name in ("two-web.pfx", "two-api.pfx"):
            record = await cloud.becomes(name, "live", live=1)
            assert record.total == 1
        assert await cloud.served("two.test") == [for_web.fingerprint, for_api.fingerprint]


async def upload_all(cloud: Witness, prefix: str, count: int) -> dict[str, str]:
    """Upload certificates at once, `prefix-N.pfx` for `prefix-N.test`, and return fingerprints by host."""
    gate = asyncio.Semaphore(AT_ONCE)
    issued = {f"{prefix}-{number}": CA.issue(f"{prefix}-{number}.test") for number in range(count)}

    async def one(name: str) -> None:
        async with gate:
            await cloud.upload(f"{name}.pfx", issued[name].pfx(PASSWORD))

    await asyncio.gather(*(one(name) for name in issued))
    return {f"{name}.test": each.fingerprint for name, each in issued.items()}


async def records(cloud: Witness, prefix: str) -> list[UploadRecord]:
    """The rows of the uploads of a test that have been looked at."""
    every = [known.value async for known in cloud.account.state.uploads.all()]
    return [record for record in every if record.name.startswith(f"{prefix}-")]


async def some_are(cloud: Witness, prefix: str, *statuses: str, least: int = 1) -> None:
    """Wait until some uploads of a test have come so far."""

    async def seen() -> bool:
        return sum(record.status in statuses for record in await records(cloud, prefix)) >= least

    await eventually(seen, f"uploads {prefix}-… to become {' or '.join(statuses)}", PATIENCE_S, every_s=1)


async def how_far(cloud: Witness, record: UploadRecord) -> str:
    """An upload's status, whom it was told to, and who reported what, for a person."""
    reports = [
        f"{report.instance} {report.outcome} generation {report.generation}"
        for key in record.claims
        for report in await cloud.account.state.reports_on(key.host, key.port)
    ]
    told = f"told {record.expected}, untold {record.untold}"
    return f"{record.name} {record.status} {record.live}/{record.total}, {told}, reports {sorted(reports)}"


async def all_live(cloud: Witness, prefix: str, wanted: Collection[str], *agents: int) -> list[int]:
    """Wait until each upload of a test is live on N/N agents, in its row and in its tags.

    Args:
        cloud: Where to look.
        prefix: Of the uploads' names.
        wanted: The hosts of all of them.
        agents: What N may be.

    Returns:
        Each one's N.
    """

    def done(record: UploadRecord) -> bool:
        return record.status == "live" and record.live == record.total and record.live in agents

    async def seen() -> bool:
        found = await records(cloud, prefix)
        if any(record.untold for record in found):
            await cloud.sweep()  # a queue that did not answer in time is told once more by the sweep alone
        return len(found) == len(wanted) and all(done(each) for each in found)

    try:
        await eventually(seen, f"uploads {prefix}-… to be live", PATIENCE_S, every_s=5)
    except AssertionError as error:
        behind = [await how_far(cloud, each) for each in await records(cloud, prefix) if not done(each)]
        raise AssertionError(f"{error} on {agents} agents; {len(behind)} are not: {sorted(behind)}") from None

    async def tagged() -> list[int]:
        found = await records(cloud, prefix)  # anew: one more agent may have come since
        tags = await asyncio.gather(*(cloud.account.uploads.tags(record.name) for record in found))
        counts = [each and (each.get(STATUS_TAG), each.get(LIVE_TAG)) for each in tags]
        agreed = counts == [("live", f"{record.live}/{record.total}") for record in found]
        return [record.live for record in found] if agreed else []

    return await eventually(tagged, f"the tags of uploads {prefix}-… to say so too", every_s=1)


async def not_served(cloud: Witness, wanted: Mapping[str, str], agents: Collection[int]) -> list[str]:
    """Where another certificate than the wanted one is served, or none."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def look(agent: int, host: str) -> str | None:
        async with gate:
            try:
                seen = await served_fingerprint(cloud.platform.tls_address(agent), host, timeout_s=20)
            except ProbeError as error:
                seen = str(error)
        return None if seen == wanted[host] else f"agent-{agent} {host}: {seen}"

    looks = await asyncio.gather(*(look(agent, host) for agent in agents for host in wanted))
    return [each for each in looks if each is not None]


async def test_agents_that_join_while_many_uploads_are_under_way_serve_them_all(cloud: Witness) -> None:
    uploading = asyncio.create_task(upload_all(cloud, "join", UPLOADS))
    await some_are(cloud, "join", "accepted", "live", least=5)
    async with asyncio.TaskGroup() as joining:
        for _ in range(2):
            joining.create_task(cloud.platform.add_instance())
    wanted = await uploading
    await all_live(cloud, "join", wanted, 4)
    assert await not_served(cloud, wanted, range(4)) == []
    told = {len(record.expected) for record in await records(cloud, "join")}
    assert {2, 4} <= told, "both came before some uploads and after others"


async def test_uploads_under_way_while_one_agent_leaves_and_another_dies_are_live_on_those_that_remain(
    cloud: Witness,
) -> None:
    uploading = asyncio.create_task(upload_all(cloud, "leave", MORE_UPLOADS))
    await some_are(cloud, "leave", "accepted", "live", least=5)
    dying = cloud.platform.agents[2]
    await asyncio.gather(dying.kill(), cloud.platform.remove_instance("agent-3"))
    told = [record for record in await records(cloud, "leave") if {"agent-2", "agent-3"} <= {*record.expected}]
    assert any(record.status == "accepted" for record in told), "both went while they were to install something"
    wanted = await uploading

    async def proved_by_the_rest() -> bool:
        found = await records(cloud, "leave")
        return len(found) == len(wanted) and all(record.live >= 2 for record in found)

    await eventually(proved_by_the_rest, "the agents that remain to prove every upload", PATIENCE_S, every_s=1)
    assert await not_served(cloud, wanted, range(2)) == []
    await cloud.sweep()

    async def only_the_dead_one_is_waited_for() -> bool:
        waiting = [record for record in await records(cloud, "leave") if record.status != "live"]
        one_short = all((each.status, each.total - each.live) == ("accepted", 1) for each in waiting)
        return bool(waiting) and one_short and all("agent-2" in each.expected for each in waiting)

    await eventually(only_the_dead_one_is_waited_for, "the agent that left to be waited for no longer", every_s=1)
    await dying.start()
    # What the one that left had proved before stays counted.
    assert 3 in await all_live(cloud, "leave", wanted, 3, 4)
    assert await not_served(cloud, wanted, range(3)) == []
