"""`certcast doctor` beside a local cloud: well, then broken here and there; its canary leaves no trace."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import pytest_asyncio

from local_azure.eventgrid.topic import ReceivedEvent
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from shared.azure.bundles import BUNDLES_CONTAINER
from tests.rigs.command_line import Ran, certcast, clean_environment
from tests.rigs.witness import Witness, eventually, witnessed

AGENTS = 2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

received: list[ReceivedEvent] = []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Witness]:
    settings = PlatformSettings(agents=AGENTS, ports=FREE_PORTS, on_event=received.append)
    async with witnessed(settings) as witness:
        yield witness


def environment(cloud: Witness) -> dict[str, str]:
    platform = cloud.platform
    return clean_environment(CERTCAST_STORAGE=platform.connection_string, CERTCAST_FUNCTION_KEY=platform.keys.function)


async def doctor(cloud: Witness, *options: str) -> Ran:
    return await certcast("doctor", "--json", *options, env=environment(cloud))


async def asking_the_function(cloud: Witness) -> Ran:
    return await doctor(cloud, "--no-canary", "--url", cloud.platform.functions_url)


def named(ran: Ran, kind: str = "problems") -> set[tuple[str, str]]:
    return {(each["code"], each["about"]) for each in ran.document[kind]}


def result(ran: Ran, check: str) -> str:
    [found] = [each["result"] for each in ran.document["checks"] if each["name"] == check]
    return str(found)


async def blobs(cloud: Witness) -> list[str]:
    return [version.name async for version in cloud.account.uploads.each()]


@asynccontextmanager
async def no_events(cloud: Witness) -> AsyncIterator[None]:
    """Withhold every event, as where there is no subscription."""
    cloud.platform.relay.delivery.drop = 1.0
    yield
    cloud.platform.relay.delivery.drop = 0.0


async def test_a_part_that_is_gone_is_named_by_healthz_and_by_the_doctor_with_its_cure(
    cloud: Witness,
) -> None:
    await cloud.account.container(BUNDLES_CONTAINER).delete_container()
    async with aiohttp.ClientSession() as session, session.get(f"{cloud.platform.functions_url}/api/healthz") as answer:
        assert (answer.status, await answer.json()) == (503, {"status": "failing", "parts": {"containers": "failing"}})
    ran = await asking_the_function(cloud)
    await cloud.account.create_all()
    assert ran.code == 1
    assert named(ran) == {
        ("missing", "container bundles"),
        ("function", "Function"),
        ("missing", "Function, container bundles"),
    }
    assert all("certcast up" in each["detail"] for each in ran.document["problems"] if each["code"] == "missing")


async def test_all_is_well_and_two_at_once_see_their_canaries_noticed_and_leave_no_trace(cloud: Witness) -> None:
    await cloud.platform.functions.stop()
    await cloud.platform.functions.start()
    one, other = await asyncio.gather(doctor(cloud, "--url", cloud.platform.functions_url), doctor(cloud))
    for ran in (one, other):
        assert (ran.code, named(ran), named(ran, "warnings")) == (0, set(), set()), ran.out
        assert result(ran, "events") == "ok"
    assert result(one, "Function: key file") == result(one, "Function: settings") == "ok"
    await cloud.sweep()
    assert await blobs(cloud) == []
    assert [row async for row in cloud.account.state.uploads.all()] == []
    assert [row async for row in cloud.account.state.history.all()] == []
    assert received == []
    status = await certcast("status", "--json", env=environment(cloud))
    assert status.document["uploads"] == []


async def test_events_that_do_not_arrive_are_named_though_a_sweep_came(cloud: Witness) -> None:
    async with no_events(cloud):
        running = asyncio.create_task(doctor(cloud, "--wait", "4"))
        await eventually(lambda: written(cloud), "the canary to be written")
        await cloud.sweep()
        ran = await running
    assert (ran.code, named(ran)) == (1, {("no_events", "Event Grid subscription")})
    assert await blobs(cloud) == []


async def written(cloud: Witness) -> bool:
    return bool(await blobs(cloud))


@pytest.mark.skipif(sys.platform == "win32", reason="a process there cannot be asked to end")
async def test_a_doctor_that_is_told_to_end_takes_its_canary_along(cloud: Witness) -> None:
    async with no_events(cloud):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "operator_cli", "doctor"),
            env=environment(cloud),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        await eventually(lambda: written(cloud), "the canary to be written")
        process.send_signal(signal.SIGTERM)
        _, said = await process.communicate()
        assert (process.returncode, said.decode().strip()) == (130, "certcast: interrupted")
        assert await blobs(cloud) == []


async def test_an_agent_that_was_stopped_is_named(cloud: Witness) -> None:
    await cloud.platform.agents[0].stop()
    ran = await doctor(cloud, "--no-canary")
    assert (ran.code, named(ran, "warnings")) == (0, {("stopped", "instance agent-0")})
