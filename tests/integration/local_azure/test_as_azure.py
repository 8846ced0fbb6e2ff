"""A local cloud whose storage account answers as Azure's does."""

import asyncio

import pytest

from local_azure.as_azure import AsAzure
from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from local_azure.proxy.answers import LOST
from local_azure.proxy.faults import Rule
from local_azure.proxy.refusals import PERMISSION_MISMATCH, SERVER_BUSY
from tests.rigs.certificates import authority
from tests.rigs.witness import witnessed


async def test_rules_come_and_go_while_it_runs_and_what_they_did_is_counted_beside_all_requests() -> None:
    settings = PlatformSettings(
        agents=1,
        ports=FREE_PORTS,
        function_environment={"CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *"},
        count_requests=True,
        as_azure=AsAzure(busy=0, lost=0),
    )
    async with witnessed(settings) as cloud:
        bundles = "container bundles"
        busy = cloud.platform.faults.add(Rule(answer=SERVER_BUSY, resource=bundles, times=1, callers=("function",)))
        lost = cloud.platform.faults.add(Rule(answer=LOST, resource=bundles, times=1, callers=("agent-0",)))
        await cloud.goes_live("shop.pfx", authority().issue("shop.test"), live=1)
        assert (busy.applied, lost.applied) == (1, 1)
        assert cloud.platform.faults.applied == {"ServerBusy": 1, "answer lost": 1}
        asked = {
            (kind.operation, kind.caller, kind.outcome): count
            for kind, count in cloud.platform.requests.mark().items()
            if kind.resource == "bundles" and kind.operation != "List Blobs"
            if kind.outcome != "missing"  # a fresh agent looks for what sweeps say of the tables
        }
        assert asked == {
            ("Put Blob", "function", "other"): 1,
            ("Put Blob", "function", "ok"): 1,
            ("Get Blob", "agent-0", "ok"): 2,
        }


async def test_a_queue_that_refuses_its_trigger_ends_the_cloud_with_the_cure() -> None:
    async with LocalPlatform(PlatformSettings(agents=1, ports=FREE_PORTS, as_azure=AsAzure(busy=0, lost=0))) as cloud:
        cloud.faults.add(Rule(answer=PERMISSION_MISMATCH, callers=("function",), resource="queue install-results"))
        ended = str(await asyncio.wait_for(cloud.failure(), 30))
    assert (
        "queue install-results of function install_result: it cannot be read (AuthorizationPermissionMismatch)" in ended
    )
    assert "role assignments in docs/deploy.md; the Functions host stops, as Azure's does" in ended


async def test_there_are_no_rules_unless_they_were_asked_for() -> None:
    with pytest.raises(RuntimeError, match="as_azure"):
        _ = LocalPlatform(PlatformSettings(ports=FREE_PORTS)).faults
