import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from azure.storage.blob.aio import BlobServiceClient

from instance_agent.installing.probe import ProbeError, served_fingerprint
from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from tests.rigs.certificates import Issued, authority

pytestmark = pytest.mark.asyncio(loop_scope="module")

CA = authority()
PASSWORD = "never-in-a-log"


class Cloud:
    """A running local cloud with what a test does to it."""

    def __init__(self, platform: LocalPlatform, lines: list[tuple[str, str]]) -> None:
        self.platform = platform
        self.lines = lines

    async def upload(self, name: str, issued: Issued) -> None:
        async with BlobServiceClient.from_connection_string(self.platform.connection_string) as service:
            await service.get_container_client("certificates").upload_blob(
                f"{name}.pfx", issued.pfx(PASSWORD), metadata={"CertificatePassword": PASSWORD}, overwrite=True
            )

    async def served(self, agent: int, host: str) -> str:
        try:
            return await served_fingerprint(self.platform.tls_address(agent), host, timeout_s=5)
        except ProbeError:
            return ""

    async def serving(self, host: str, issued: Issued, *agents: int) -> None:
        async with asyncio.timeout(60):
            for agent in agents or range(len(self.platform.agents)):
                while await self.served(agent, host) != issued.fingerprint:  # noqa: ASYNC110 - a port has no event
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def running(settings: PlatformSettings) -> AsyncIterator[Cloud]:
    lines: list[tuple[str, str]] = []
    settings = replace(settings, on_line=lambda component, line: lines.append((component, line)))
    async with LocalPlatform(settings) as platform:
        yield Cloud(platform, lines)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def cloud() -> AsyncIterator[Cloud]:
    async with running(PlatformSettings(agents=2, ports=FREE_PORTS)) as made:
        yield made


async def test_an_upload_is_served_by_every_agent(cloud: Cloud) -> None:
    issued = CA.issue("shop.example")
    await cloud.upload("shop", issued)
    await cloud.serving("shop.example", issued)


async def test_the_functions_host_may_be_away_and_misses_nothing(cloud: Cloud) -> None:
    await cloud.platform.functions.stop()
    assert not cloud.platform.functions.running
    issued = CA.issue("away.example")
    await cloud.upload("away", issued)
    await cloud.platform.functions.start()
    await cloud.serving("away.example", issued)
    assert cloud.platform.relay.delivery.counts["failed"] > 0


async def test_the_functions_host_may_be_killed(cloud: Cloud) -> None:
    await cloud.platform.functions.kill()
    issued = CA.issue("killed.example")
    await cloud.upload("killed", issued)
    await cloud.platform.functions.start()
    await cloud.serving("killed.example", issued)


async def test_an_agent_that_was_killed_catches_up_before_it_is_ready(cloud: Cloud) -> None:
    await cloud.platform.agents[1].kill()
    assert await cloud.served(1, "late.example") == ""
    issued = CA.issue("late.example")
    await cloud.upload("late", issued)
    await cloud.serving("late.example", issued, 0)
    await cloud.platform.agents[1].start()
    assert await cloud.served(1, "late.example") == issued.fingerprint


async def test_storage_may_be_restarted_and_keeps_its_ports_and_contents(cloud: Cloud) -> None:
    before = cloud.platform.connection_string
    await cloud.platform.azurite.stop()
    async with aiohttp.ClientSession() as session, session.get(cloud.platform.endpoints.blob) as answer:
        assert answer.status == 503
    await cloud.platform.azurite.start()
    assert cloud.platform.connection_string == before
    issued = CA.issue("after.example")
    await cloud.upload("after", issued)
    await cloud.serving("after.example", issued)


async def test_starting_what_runs_changes_nothing(cloud: Cloud) -> None:
    pid = cloud.platform.agents[0].pid
    await cloud.platform.agents[0].start()
    assert cloud.platform.agents[0].pid == pid is not None


async def test_events_can_be_lost_on_demand(cloud: Cloud) -> None:
    delivery = cloud.platform.relay.delivery
    lost = delivery.counts["lost"]
    delivery.drop = 1.0
    await cloud.upload("lost", CA.issue("lost.example"))
    delivery.drop = 0.0
    assert delivery.counts["lost"] == lost + 1


async def test_every_line_is_handed_over_and_in_a_log_and_none_holds_a_secret(cloud: Cloud) -> None:
    platform = cloud.platform
    components = ["azurite", "functions", "events", "topic", "agent-0", "agent-1"]
    assert {component for component, _line in cloud.lines} == set(components)
    for component in components:
        logged = platform.log_of(component).read_text(encoding="utf-8")
        assert all(line in logged for name, line in cloud.lines if name == component)
        keys = (platform.keys.master, platform.keys.eventgrid_extension, platform.topic.key)
        for secret in (PASSWORD, *keys, "PRIVATE KEY"):
            assert secret not in logged


async def test_everything_kept_on_disk_is_for_the_owner_alone(cloud: Cloud) -> None:
    state = cloud.platform.state
    folders = [state, state / "logs", state / "storage"]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    files = [*(state / "logs").iterdir(), state / "key-encryption.key", state / "functions-keys.json"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


async def test_a_second_cloud_runs_beside_the_first_and_leaves_nothing_behind(cloud: Cloud) -> None:
    async with running(PlatformSettings(agents=1, ports=FREE_PORTS)) as second:
        issued = CA.issue("second.example")
        await second.upload("second", issued)
        await second.serving("second.example", issued)
        assert await cloud.served(0, "second.example") != issued.fingerprint
        state, pid = second.platform.state, second.platform.agents[0].pid
        assert state.is_dir()
    assert not state.exists()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_state_folder_is_taken_up_again(tmp_path: Path) -> None:
    settings = PlatformSettings(agents=1, ports=FREE_PORTS, state=tmp_path / "state")
    issued = CA.issue("kept.example")
    async with running(settings) as first:
        await first.upload("kept", issued)
        await first.serving("kept.example", issued)
        keys = first.platform.keys
    async with running(settings) as again:
        assert again.platform.keys == keys
        assert await again.served(0, "kept.example") == issued.fingerprint


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
async def test_a_part_that_ends_by_itself_is_missed() -> None:
    async with running(PlatformSettings(agents=1, ports=FREE_PORTS)) as cloud:
        missed = asyncio.create_task(cloud.platform.failure())
        await cloud.platform.functions.kill()
        await cloud.platform.functions.start()
        assert not missed.done()
        pid = cloud.platform.agents[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        error = await asyncio.wait_for(missed, 20)
        assert str(error).startswith("agent-0 ended with exit code 137; its last lines: ")
