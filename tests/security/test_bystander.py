"""While an uploader attacks the platform, a neighbour's upload is live within three times its undisturbed time.

Attacks follow each other on one local cloud for each settings of the Function, so that each meets what those before it
left behind. Before each of them nothing else happens for a while. Its uploads are spread over seconds, the neighbour's
among them, and the sweep comes in the middle. `pytest -k` chooses attacks by their names.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio
from azure.storage.blob.aio import ContainerClient

from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from shared.azure.blobs import UPLOADS_CONTAINER
from tests.rigs.attacks import ATTACKS, SETTINGS, USUAL_SETTINGS, Attack, HostileUpload
from tests.rigs.neighbour import Live, certificates, goes_live, median, upload_spread, written
from tests.rigs.witness import PATIENCE_S, Witness, eventually, witnessed

AGENTS = 2
MEASURED = 5
QUIET_S = 2.0
SHORTEST_S = 3.0
LONGEST_S = 40.0
FACTOR = 3
JITTER_S = 0.5
"""An undisturbed time below this is taken for this: a busy machine's jitter is no neighbour's doing."""

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(request: pytest.FixtureRequest) -> AsyncIterator[Witness]:
    """A local cloud that has served one certificate, and sweeps only when it is asked to."""
    environment = {"CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *", **request.param}
    settings = PlatformSettings(agents=AGENTS, ports=FREE_PORTS, function_environment=environment)
    async with witnessed(settings) as witness:
        [first] = certificates("first", 1)
        await goes_live(witness, first, patience_s=PATIENCE_S)
        yield witness


async def strike(cloud: Witness, attack: Attack, over_s: float) -> None:
    """Make the attack's uploads by the SDK alone, evenly, and have the sweep run in the middle of them."""
    connection = cloud.platform.connection_string
    async with ContainerClient.from_connection_string(connection, UPLOADS_CONTAINER) as container:

        async def one(number: int, upload: HostileUpload) -> None:
            await asyncio.sleep(over_s * number / len(attack.uploads))
            await container.upload_blob(upload.name, upload.content, metadata=dict(upload.metadata), overwrite=True)

        async def sweep() -> None:
            await asyncio.sleep(over_s / 2)
            await cloud.sweep()

        await asyncio.gather(sweep(), *(one(*each) for each in enumerate(attack.uploads)))


async def calm(cloud: Witness) -> None:
    """Wait until every upload has been judged, so that at first nothing disturbs the next attack's neighbour."""
    account = cloud.account

    async def judged() -> bool:
        rows = {known.value.name: known.value async for known in account.state.uploads.all()}
        names = [upload.name async for upload in account.uploads.each()]
        return all(name in rows and not rows[name].judging for name in names)

    await eventually(judged, "every upload to be judged", every_s=0.3)


def allowed(quiet: Sequence[Live]) -> Live:
    """What a neighbour's upload may take beside an attack."""
    alone = median(quiet)
    return Live(served_s=FACTOR * max(alone.served_s, JITTER_S), told_s=FACTOR * max(alone.told_s, JITTER_S))


def check(quiet: Sequence[Live], beside: Sequence[Live]) -> None:
    limit, found = allowed(quiet), median(beside)
    said = (
        f"until they were served and said to be live, the neighbour's uploads took {written(beside)} s, in the median "
        f"{found}; undisturbed they took {written(quiet)}, so that {limit} are allowed"
    )
    assert found.served_s <= limit.served_s, said
    assert found.told_s <= limit.told_s, said


@pytest.mark.parametrize(
    ("cloud", "name"),
    [(SETTINGS.get(name, USUAL_SETTINGS), name) for name in ATTACKS],
    ids=ATTACKS,
    indirect=["cloud"],
    scope="module",
)
async def test_a_neighbours_upload_is_live_within_three_times_its_undisturbed_time(cloud: Witness, name: str) -> None:
    attack = ATTACKS[name]()
    alone, among = certificates(f"before-{name}", MEASURED), certificates(name, MEASURED)
    await calm(cloud)
    quiet = await upload_spread(cloud, alone, over_s=QUIET_S, patience_s=PATIENCE_S)
    patience_s = 2 * max(allowed(quiet).served_s, allowed(quiet).told_s)
    over_s = min(max(SHORTEST_S, len(attack.uploads) / attack.pace * median(quiet).told_s), LONGEST_S)
    beside, _ = await asyncio.gather(
        upload_spread(cloud, among, over_s=over_s, patience_s=patience_s), strike(cloud, attack, over_s)
    )
    check(quiet, beside)
