"""Uploads that someone holds or has labelled, in a running cloud: what is not done is said, and no other waits for it.

Leases, tags and metadata are the emulator's own; legal holds and the archive tier it does not have, so that the proxy
before it refuses as Azure does.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from local_azure.as_azure import AsAzure
from local_azure.eventgrid.delivery import Disorder
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from local_azure.proxy.faults import Rule
from local_azure.proxy.refusals import ARCHIVED, IMMUTABLE
from shared.azure.blobs import UPLOADS_CONTAINER
from tests.rigs.certificates import authority
from tests.rigs.command_line import certcast, clean_environment
from tests.rigs.some import some
from tests.rigs.witness import PASSWORD, Witness, eventually, witnessed

AGENTS = 2
BESIDE_S = 15.0
"""Long before the 55 s that neighbours once waited, and many times what they take where nothing else goes on."""

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Witness]:
    settings = PlatformSettings(
        agents=AGENTS,
        ports=FREE_PORTS,
        function_environment={"CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *"},
        as_azure=AsAzure(deleting_s=1, busy=0, lost=0, events=Disorder()),
    )
    async with witnessed(settings) as witness:
        yield witness


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def container(cloud: Witness) -> AsyncIterator[ContainerClient]:
    """The container as any SDK has it."""
    async with BlobServiceClient.from_connection_string(cloud.platform.connection_string) as service:
        yield service.get_container_client(UPLOADS_CONTAINER)


async def status(cloud: Witness, name: str) -> str:
    """What a person reads who asks for one upload, in one line."""
    env = clean_environment(CERTCAST_STORAGE=cloud.platform.connection_string, COLUMNS="1000")
    ran = await certcast("status", name, env=env)
    assert ran.code == 0, ran.err
    return " ".join(ran.out.split())


async def neighbours(cloud: Witness, prefix: str, *, count: int = 3) -> None:
    """Upload for other hosts at the same moment, and see them live as soon as ever."""
    began = time.monotonic()
    names = [f"{prefix}-{number}" for number in range(count)]
    await asyncio.gather(
        *(cloud.goes_live(f"{name}.pfx", authority().issue(f"{name}.test"), live=AGENTS) for name in names)
    )
    assert time.monotonic() - began < BESIDE_S


async def swept(cloud: Witness) -> None:
    """Have a sweep come, and wait for its end."""

    def ended() -> int:
        return len([line for _, line in cloud.lines if "sweep succeeded" in line])

    before = ended()
    await cloud.sweep()

    async def over() -> bool:
        return ended() > before

    await eventually(over, "the sweep to end")


async def no_poison(cloud: Witness) -> None:
    """See that no message ended in a poison queue."""
    for queue in ("certificate-recheck-poison", "install-results-poison"):
        assert queue not in [name async for name in cloud.account.queues.names(queue)]


async def test_an_upload_under_a_lease_is_served_and_its_password_goes_when_the_lease_does(
    cloud: Witness, container: ContainerClient
) -> None:
    blob, host = container.get_blob_client("leased.pfx"), "leased.test"
    await cloud.goes_live("leased.pfx", authority().issue(host), live=AGENTS)
    before = (await cloud.record("leased.pfx")).source_etag
    lease = await blob.acquire_lease()
    renewal = authority().issue(host)
    _, written = await asyncio.gather(
        neighbours(cloud, "beside-a-lease"),
        blob.upload_blob(
            renewal.pfx(PASSWORD), overwrite=True, lease=lease, metadata={"CertificatePassword": PASSWORD}
        ),
    )
    assert written["etag"].strip('"') != before
    await cloud.serves(host, renewal.fingerprint)
    record = await cloud.becomes("leased.pfx", "live", live=AGENTS)
    why = "of blob leased.pfx: the blob is under a lease (LeaseIdMissing); end the lease"
    said = await status(cloud, "leased.pfx")
    assert f"Its password is still in the metadata: writing the metadata {why}" in said
    assert f"Its tags do not show all of this status: writing the tags {why}" in said
    await swept(cloud)
    assert (await cloud.record("leased.pfx")).revision == record.revision, "it was looked at again"
    await no_poison(cloud)

    await lease.break_lease(lease_break_period=0)
    # The process that was refused waits ever longer; one that starts meanwhile has met with nothing.
    await cloud.platform.functions.stop()
    await cloud.platform.functions.start()
    await cloud.sweep()

    async def taken_out() -> bool:
        return PASSWORD not in some(await cloud.account.uploads.version("leased.pfx")).metadata.values()

    await eventually(taken_out, "the password to be taken out")
    await cloud.tagged("leased.pfx", certcast_status="live", certcast_live=f"{AGENTS}/{AGENTS}")


async def test_an_upload_under_a_legal_hold_is_served_looked_at_once_and_says_what_is_not_done(cloud: Witness) -> None:
    held = Rule(answer=IMMUTABLE, path="held.pfx", callers=("function",))
    with cloud.platform.faults.during(held) as fault:
        await asyncio.gather(
            cloud.goes_live("held.pfx", authority().issue("held.test"), live=AGENTS),
            neighbours(cloud, "beside-a-hold"),
        )
        record = await cloud.record("held.pfx")
        assert (
            "Its password is still in the metadata: writing the metadata of blob held.pfx: an immutability policy or a "
            "legal hold keeps the blob as it is (BlobImmutableDueToPolicy); keep such off this container"
        ) in await status(cloud, "held.pfx")
        await swept(cloud)
        assert (await cloud.record("held.pfx")).revision == record.revision, "it was looked at again"
        assert fault.applied <= 2
    await no_poison(cloud)


async def test_an_upload_in_the_archive_is_rejected_with_what_to_do_and_costs_no_other_its_time(cloud: Witness) -> None:
    with cloud.platform.faults.during(Rule(answer=ARCHIVED, path="old.pfx", callers=("function",))):
        await asyncio.gather(
            cloud.upload("old.pfx", authority().issue("old.test").pfx(PASSWORD)),
            neighbours(cloud, "beside-the-archive"),
        )
        record = await cloud.becomes("old.pfx", "rejected")
        assert "the blob is in the archive tier (BlobArchived); upload it again into tier Hot or Cool" in await status(
            cloud, "old.pfx"
        )
        await cloud.tagged("old.pfx", certcast_status="rejected")
        await swept(cloud)
        assert (await cloud.record("old.pfx")).revision == record.revision, "it was looked at again"


async def test_tags_that_came_with_an_upload_and_after_it_stay(cloud: Witness, container: ContainerClient) -> None:
    blob, team = container.get_blob_client("tagged.pfx"), {"team": "blue", "cost-center": "47 11"}
    content = authority().issue("tagged.test").pfx(PASSWORD)
    await blob.upload_blob(content, metadata={"CertificatePassword": PASSWORD}, tags=team)
    await cloud.tagged("tagged.pfx", certcast_status="live", **team)
    found = await blob.get_blob_tags()
    await blob.set_blob_tags({**found, "team": "red", "reviewed": "yes"})
    await cloud.account.uploads.delete("tagged.pfx")
    await cloud.becomes("tagged.pfx", "removed", live=0)
    await blob.upload_blob(content, metadata={"HostHeader": "tagged.test"}, tags={"team": "green"})
    await cloud.tagged("tagged.pfx", certcast_status="waiting_for_metadata", team="green")


async def test_a_password_under_another_key_is_named_and_a_misspelt_host_warned_of(
    cloud: Witness, container: ContainerClient
) -> None:
    blob = container.get_blob_client("misnamed.pfx")
    content = authority().issue("misnamed.test").pfx(PASSWORD)
    await blob.upload_blob(content, metadata={"Password": PASSWORD, "HostHeaders": "misnamed.test"})
    await cloud.becomes("misnamed.pfx", "waiting_for_metadata")
    said = await status(cloud, "misnamed.pfx")
    assert "invalid_metadata: No CertificatePassword is set, but a key Password is: rename it" in said
    assert "warning: The metadata key HostHeaders is not known. Did you mean HostHeader?" in said
    assert PASSWORD not in said
    await blob.set_blob_metadata({"CertificatePassword": PASSWORD, "HostHeaders": "misnamed.test"})
    await cloud.becomes("misnamed.pfx", "live", live=AGENTS)
    assert "warning: The metadata key HostHeaders is not known" in await status(cloud, "misnamed.pfx")
    tags = await blob.get_blob_tags()
    assert "HostHeaders is not known" in tags["certcast_reason"]
