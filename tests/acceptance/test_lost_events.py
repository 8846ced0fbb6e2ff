"""Half of all events never arrive, and one sweep later everything is as it should be."""

import asyncio
from collections.abc import Iterable

import pytest

from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from tests.rigs.certificates import authority
from tests.rigs.witness import PASSWORD, Witness, witnessed

UPLOADS, DELETED, RENEWED, AGENTS = 60, 12, 12, 2
AT_ONCE = 8
NEVER_BY_ITSELF = {"CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *"}

pytestmark = pytest.mark.timeout(420)


def host(number: int) -> str:
    return f"tenant-{number}.test"


async def upload_all(cloud: Witness, numbers: Iterable[int]) -> dict[int, str]:
    """Upload a new certificate for each tenant and return their fingerprints."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> tuple[int, str]:
        issued = authority().issue(host(number))
        async with gate:
            await cloud.upload(f"{number}.pfx", issued.pfx(PASSWORD))
        return number, issued.fingerprint

    return dict(await asyncio.gather(*(one(number) for number in numbers)))


async def test_with_every_second_event_lost_one_sweep_puts_everything_right() -> None:
    settings = PlatformSettings(
        agents=AGENTS,
        ports=FREE_PORTS,
        drop_events=0.5,
        function_environment=NEVER_BY_ITSELF,
    )
    async with witnessed(settings) as cloud:
        wanted = await upload_all(cloud, range(UPLOADS))
        wanted |= await upload_all(cloud, range(RENEWED))
        gone = range(UPLOADS - DELETED, UPLOADS)
        for number in gone:
            assert await cloud.account.uploads.delete(f"{number}.pfx")
        assert cloud.platform.relay.delivery.counts["lost"] > UPLOADS // 4
        await cloud.sweep()
        for number in range(UPLOADS - DELETED):
            await cloud.becomes(f"{number}.pfx", "live", live=AGENTS)
        for number in range(UPLOADS - DELETED):
            assert await cloud.served(host(number)) == [wanted[number]] * AGENTS, host(number)
        for number in gone:
            record = await cloud.account.state.uploads.get(f"{number}.pfx")
            if record is not None:  # of some, no event ever told
                await cloud.becomes(f"{number}.pfx", "removed", live=0)
            assert wanted[number] not in await cloud.served(host(number)), host(number)
