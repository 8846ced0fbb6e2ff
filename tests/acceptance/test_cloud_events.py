"""A subscription with the CloudEvents schema: uploads, deletions and vaults are told of, and no sweep is needed."""

import base64
import json
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from local_azure.eventgrid.schemas import EventSchema
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from tests.rigs.certificates import authority
from tests.rigs.vault_stub import vault_stub
from tests.rigs.vault_way import VaultWay, vault_way
from tests.rigs.witness import Witness, witnessed

HOST = "cloud.test"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultWay]:
    with vault_stub(tmp_path_factory.mktemp("vault")) as stub, vault_way(stub) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(way: VaultWay) -> AsyncIterator[Witness]:
    settings = PlatformSettings(
        agents=1,
        ports=FREE_PORTS,
        event_schema=EventSchema.CLOUD_EVENTS,
        function_environment={
            **way.environment,
            "CERTCAST_KEY_VAULTS": "shop",
            "CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *",  # never in this test
        },
    )
    async with witnessed(settings) as witness:
        yield witness


async def test_an_upload_goes_live_and_a_deletion_ends_it(cloud: Witness) -> None:
    issued = authority().issue(HOST)
    await cloud.goes_live("shop.pfx", issued, live=1)
    await cloud.serves(HOST, issued.fingerprint)
    assert await cloud.account.uploads.delete("shop.pfx")
    await cloud.becomes("shop.pfx", "removed", live=0)
    assert issued.fingerprint not in await cloud.served(HOST)
    assert cloud.platform.relay.delivery.counts == {"posted": 2, "delivered": 2}


async def test_a_new_version_in_a_vault_is_served_as_its_event_comes(cloud: Witness, way: VaultWay) -> None:
    issued = authority().issue("vault.test")
    way.stub.put("web", base64.b64encode(issued.pfx(None)).decode(), HostHeader="vault.test")
    data = {"VaultName": "shop", "ObjectName": "web", "ObjectType": "Certificate", "Version": "1"}
    kind = "Microsoft.KeyVault.CertificateNewVersionCreated"
    assert await cloud.deliver("on_key_vault_event", kind, "web", data, EventSchema.CLOUD_EVENTS) == 202
    await cloud.becomes("keyvault://shop/web", "live", live=1)
    await cloud.serves("vault.test", issued.fingerprint)


@pytest.mark.parametrize("function", ["on_blob_event", "on_key_vault_event"])
async def test_events_that_make_no_sense_hold_nothing_back(cloud: Witness, function: str) -> None:
    before = len(cloud.lines)
    bad = [{"specversion": "1.0"}, {"specversion": "2.0", "type": "x"}, {"eventType": 5}, {}]
    headers = {"aeg-event-type": "Notification", "Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
    assert await cloud.post(function, json.dumps(bad).encode(), headers) == 202
    said = [line for who, line in cloud.lines[before:] if who == "functions"]
    assert len([line for line in said if f"{function}: an event is dropped: " in line]) == len(bad), said
    assert not [line for line in said if "Traceback" in line]
