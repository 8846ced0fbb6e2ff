"""Machines whose clocks are wrong by ten minutes: nothing that certcast decides depends on them.

Each process goes by a clock of its own, the storage service too.
"""

import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
import pytest_asyncio

from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from shared.state.records import SILENT_AFTER, UploadRecord
from tests.fakes.clock import ShiftedClock
from tests.rigs.certificates import authority
from tests.rigs.programs import needs
from tests.rigs.some import some
from tests.rigs.witness import PASSWORD, Witness, eventually, witnessed

AGENTS = 2
RIGHT = timedelta()
AHEAD = timedelta(minutes=10)
BEHIND = -AHEAD
PORT = 8443

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240), needs("faketime")]


@dataclass(frozen=True, slots=True)
class Clocks:
    """Whose clock is whose."""

    service: ShiftedClock
    function: ShiftedClock
    agents: tuple[ShiftedClock, ...]

    def set_right(self) -> None:
        """All but the service's, which has to go on as it went."""
        for clock in (self.function, *self.agents):
            clock.set(RIGHT)


@pytest.fixture(scope="module")
def every_clock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocks]:
    folder = tmp_path_factory.mktemp("clocks")
    service, function, *agents = (
        ShiftedClock.right(folder / name) for name in ("service", "function", *(f"agent-{n}" for n in range(AGENTS)))
    )
    with pytest.MonkeyPatch.context() as patched:
        # Azurite has what this process has, and the others what they are given.
        for name, value in service.environment.items():
            patched.setenv(name, value)
        yield Clocks(service, function, tuple(agents))


@pytest.fixture
def clocks(every_clock: Clocks) -> Iterator[Clocks]:
    yield every_clock
    every_clock.set_right()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(every_clock: Clocks) -> AsyncIterator[Witness]:
    settings = PlatformSettings(
        agents=AGENTS,
        ports=FREE_PORTS,
        function_environment={**every_clock.function.environment, "CERTCAST_PORTS": f"443,{PORT}"},
        own_environment={number: clock.environment for number, clock in enumerate(every_clock.agents)},
    )
    async with witnessed(settings) as witness:
        yield witness


async def proved(cloud: Witness, name: str, live: int) -> UploadRecord:
    """Wait until so many agents have proved an upload, whatever its status says."""

    async def seen() -> UploadRecord | None:
        record = await cloud.account.state.uploads.get(name)
        return record if record is not None and record.live == live else None

    return some(await eventually(seen, f"{name} to be proved by {live}"))


@pytest.mark.parametrize("off", [AHEAD, BEHIND], ids=["ahead", "behind"])
async def test_a_function_whose_clock_is_wrong_waits_for_every_agent_that_runs(
    cloud: Witness, clocks: Clocks, off: timedelta
) -> None:
    name, host = (f"waits-{off.total_seconds():.0f}{end}" for end in (".pfx", ".test"))
    issued = authority().issue(host)
    clocks.function.set(off)
    paused = some(cloud.platform.agents[1].pid)
    os.kill(paused, signal.SIGSTOP)
    try:
        await cloud.upload(name, issued.pfx(PASSWORD))
        record = await proved(cloud, name, 1)
        assert (record.status, record.total) == ("accepted", AGENTS)
    finally:
        os.kill(paused, signal.SIGCONT)
    record = await cloud.becomes(name, "live", live=AGENTS)
    assert record.seconds_to_live is not None
    assert 0 < record.seconds_to_live < 60
    await cloud.serves(host, issued.fingerprint)


async def test_agents_whose_clocks_are_wrong_and_differ_serve_renew_and_remove(cloud: Witness, clocks: Clocks) -> None:
    first, renewed = authority().issue("differ.test"), authority().issue("differ.test")
    for clock, off in zip(clocks.agents, (AHEAD, BEHIND), strict=True):
        clock.set(off)
    await cloud.goes_live("differ.pfx", first, live=AGENTS)
    await cloud.serves("differ.test", first.fingerprint)
    for clock, off in zip(clocks.agents, (BEHIND, AHEAD), strict=True):
        clock.set(off)
    await cloud.upload("differ.pfx", renewed.pfx(PASSWORD))
    await cloud.serves("differ.test", renewed.fingerprint)
    await cloud.becomes("differ.pfx", "live", live=AGENTS)
    assert await cloud.account.uploads.delete("differ.pfx")
    await cloud.becomes("differ.pfx", "removed", live=0)
    assert renewed.fingerprint not in await cloud.served("differ.test")


async def test_an_agent_whose_clock_is_set_back_is_still_believed(cloud: Witness, clocks: Clocks) -> None:
    issued = authority().issue("setback.test")
    clocks.agents[0].set(AHEAD)
    with socket.create_server(cloud.platform.tls_address(0, PORT)):
        await cloud.upload("setback.pfx", issued.pfx(PASSWORD), PortNumber=str(PORT))
        record = await cloud.becomes("setback.pfx", "partially_live", live=AGENTS - 1)
        assert "instance agent-0" in record.reason
        clocks.agents[0].set(RIGHT)
    await cloud.becomes("setback.pfx", "live", live=AGENTS)
    assert await cloud.served("setback.test", port=PORT) == [issued.fingerprint] * AGENTS


async def test_an_agent_that_died_is_waited_for_as_long_as_the_services_clock_says(
    cloud: Witness, clocks: Clocks
) -> None:
    """The last one: the service's clock is not set back."""
    issued = authority().issue("died.test")
    clocks.function.set(BEHIND)
    await cloud.platform.agents[1].kill()
    await cloud.upload("died.pfx", issued.pfx(PASSWORD))
    record = await proved(cloud, "died.pfx", 1)
    assert (record.status, record.total) == ("accepted", AGENTS)
    clocks.service.set(SILENT_AFTER)
    await cloud.sweep()
    record = await cloud.becomes("died.pfx", "live", live=1)
    assert record.total == 1
    assert await cloud.served("died.test") == [issued.fingerprint, ""]
