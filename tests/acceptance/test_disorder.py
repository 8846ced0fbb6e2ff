"""Whatever is lost, doubled, late, reordered or killed on the way, the end is right and nothing is installed twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from local_azure.as_azure import AsAzure
from local_azure.eventgrid.delivery import Disorder
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from local_azure.proxy.answers import LOST
from local_azure.proxy.faults import Rule
from shared.errors import QueueBeingDeletedError
from shared.messages import RESULTS_QUEUE
from shared.state.records import UploadRecord
from tests.rigs.certificates import authority
from tests.rigs.effort import SEED
from tests.rigs.some import some
from tests.rigs.witness import BLOB_CREATED, BLOB_DELETED, PASSWORD, Witness, eventually, witnessed

AGENTS = 2
FROM_THE_PAST = "0x1D000000000000"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


TROUBLED = AsAzure(deleting_s=2, busy=0.05, lost=0, seed=SEED)
LOSING = Rule(
    answer=LOST,
    callers=("function", "agent-*"),
    but=frozenset({"Get Messages"}),  # what they held is hidden for a minute, which no test here has
    share=0.05,
    seed=SEED + 1,
)


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[None, TROUBLED], ids=["as it is", "with 503 and lost answers"]
)
async def cloud(request: pytest.FixtureRequest) -> AsyncIterator[Witness]:
    async with witnessed(PlatformSettings(agents=AGENTS, ports=FREE_PORTS, as_azure=request.param)) as witness:
        if request.param is not None:
            witness.platform.faults.add(LOSING)
        yield witness


async def said_to_be_live(cloud: Witness, host: str, times: int) -> None:
    """Wait until agents said so often that they bound a host; a report comes first, and its answer may be lost."""

    async def said() -> bool:
        return len(cloud.installs(host)) >= times

    await eventually(said, f"{host} to be said to be live")
    assert len(cloud.installs(host)) == times, cloud.installs(host)


async def done_with(cloud: Witness, name: str) -> UploadRecord:
    """Wait until an upload's version is done with: a look that met trouble behind its fan-out is made again."""

    async def done() -> UploadRecord | None:
        record = await cloud.record(name)
        return record if record.etag else None

    return some(await eventually(done, f"{name} to be done with"))


async def test_an_event_delivered_twice_installs_once(cloud: Witness) -> None:
    issued = authority().issue("twice.test")
    etag = await cloud.upload("twice.pfx", issued.pfx(PASSWORD))
    assert await cloud.post_event("twice.pfx", etag=etag) == 202
    await cloud.becomes("twice.pfx", "live", live=AGENTS)
    record = await done_with(cloud, "twice.pfx")
    assert await cloud.post_event("twice.pfx", etag=etag) == 202
    await cloud.serves("twice.test", issued.fingerprint)
    assert (await cloud.record("twice.pfx")).revision == record.revision
    await said_to_be_live(cloud, "twice.test", AGENTS)


async def test_events_that_are_doubled_and_overtake_each_other_end_with_the_newest_content(cloud: Witness) -> None:
    delivery = cloud.platform.relay.delivery
    delivery.disorder = Disorder(doubled=0.5, late=0.7, late_s=1.5)
    newest = {}
    try:
        for turn in range(3):
            for name in ("one", "two", "three"):
                newest[name] = authority().issue(f"{name}.mixed.test")
                await cloud.upload(f"{name}.mixed.pfx", newest[name].pfx(PASSWORD), HostHeader=f"{name}.mixed.test")
            await asyncio.sleep(0.3 * turn)
        await delivery.idle()
    finally:
        delivery.disorder = Disorder()
    for name, issued in newest.items():
        await cloud.becomes(f"{name}.mixed.pfx", "live", live=AGENTS)
        await cloud.serves(f"{name}.mixed.test", issued.fingerprint)


async def test_two_events_for_one_blob_in_the_wrong_order_end_with_the_newer_content(cloud: Witness) -> None:
    older, newer = authority().issue("order.test"), authority().issue("order.test")
    first = await cloud.upload("order.pfx", older.pfx(PASSWORD))
    second = await cloud.upload("order.pfx", newer.pfx(PASSWORD))
    assert await cloud.post_event("order.pfx", etag=second) == 202
    assert await cloud.post_event("order.pfx", etag=first) == 202
    await cloud.becomes("order.pfx", "live", live=AGENTS)
    await cloud.serves("order.test", newer.fingerprint)
    record = await cloud.record("order.pfx")
    assert record.fingerprint_sha256 == newer.fingerprint
    # An agent that is late may install the second generation only.
    said = [(line.partition(":")[0], line.rpartition("generation ")[2]) for line in cloud.installs("order.test")]
    assert len(said) == len(set(said)), said


async def test_an_event_for_a_blob_that_was_deleted_since_binds_nothing(cloud: Witness) -> None:
    issued = authority().issue("gone.test")
    etag = (await cloud.goes_live("gone.pfx", issued, live=AGENTS)).source_etag
    assert await cloud.account.uploads.delete("gone.pfx")
    await cloud.becomes("gone.pfx", "removed", live=0)
    assert await cloud.post_event("gone.pfx", etag=etag) == 202
    assert issued.fingerprint not in await cloud.served("gone.test")
    assert (await cloud.record("gone.pfx")).status == "removed"


async def test_a_late_deletion_event_for_a_blob_that_is_there_again_removes_nothing(cloud: Witness) -> None:
    issued = authority().issue("again.test")
    await cloud.goes_live("again.pfx", issued, live=AGENTS)
    assert await cloud.post_event("again.pfx", kind=BLOB_DELETED) == 202
    assert await cloud.served("again.test") == [issued.fingerprint] * AGENTS
    assert (await cloud.record("again.pfx")).status == "live"


async def test_an_event_about_content_that_was_overwritten_since_serves_what_is_there_now(cloud: Witness) -> None:
    issued = authority().issue("over.test")
    await cloud.goes_live("over.pfx", issued, live=AGENTS)
    await said_to_be_live(cloud, "over.test", AGENTS)
    assert await cloud.post_event("over.pfx", etag=FROM_THE_PAST, kind=BLOB_CREATED) == 202
    assert await cloud.served("over.test") == [issued.fingerprint] * AGENTS
    assert (await cloud.record("over.pfx")).status == "live"
    assert len(cloud.installs("over.test")) == AGENTS


async def test_an_agent_killed_between_installing_and_reporting_reports_after_its_restart(cloud: Witness) -> None:
    issued = authority().issue("killed.test")
    # Without the queue no report can be sent, however quick the agents are.
    await cloud.account.queues.delete(RESULTS_QUEUE)
    await cloud.upload("killed.pfx", issued.pfx(PASSWORD))
    await cloud.serves("killed.test", issued.fingerprint)
    assert (await cloud.record("killed.pfx")).live == 0
    await cloud.platform.agents[0].kill()

    async def recreated() -> bool:
        with suppress(QueueBeingDeletedError):
            await cloud.account.queues.create(RESULTS_QUEUE)
        return RESULTS_QUEUE in [name async for name in cloud.account.queues.names(RESULTS_QUEUE)]

    await eventually(recreated, "the results queue to be there again")
    await cloud.platform.agents[0].start()
    record = await cloud.becomes("killed.pfx", "live", live=AGENTS)
    assert record.total == AGENTS
    await cloud.serves("killed.test", issued.fingerprint)


async def test_an_agent_started_after_the_upload_serves_it(cloud: Witness) -> None:
    issued = authority().issue("late.test")
    await cloud.platform.agents[1].stop()
    await cloud.upload("late.pfx", issued.pfx(PASSWORD))
    record = await cloud.becomes("late.pfx", "live")
    assert (record.live, record.total) == (AGENTS - 1, AGENTS - 1), "an agent that was stopped is not waited for"
    await cloud.platform.agents[1].start()
    await cloud.serves("late.test", issued.fingerprint)
    await cloud.becomes("late.pfx", "live", live=AGENTS)


async def test_an_upload_made_while_the_functions_host_was_down_is_served_once_it_is_back(cloud: Witness) -> None:
    issued = authority().issue("down.test")
    await cloud.platform.functions.kill()
    await cloud.upload("down.pfx", issued.pfx(PASSWORD))
    await asyncio.sleep(1)
    assert issued.fingerprint not in await cloud.served("down.test")
    await cloud.platform.functions.start()
    await cloud.becomes("down.pfx", "live", live=AGENTS)
    await cloud.serves("down.test", issued.fingerprint)
    await said_to_be_live(cloud, "down.test", AGENTS)
