"""A local cloud whose requests are counted."""

import pytest

from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from local_azure.proxy.counting import useful
from tests.rigs.certificates import authority
from tests.rigs.witness import witnessed

NO_SWEEP = {"CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *"}


async def test_each_part_is_counted_apart_and_the_upload_goes_live_as_ever() -> None:
    settings = PlatformSettings(
        agents=1, ports=FREE_PORTS, function_environment={"CERTCAST_TRUST": "off", **NO_SWEEP}, count_requests=True
    )
    async with witnessed(settings) as cloud:
        requests = cloud.platform.requests
        mark = requests.mark()
        await cloud.goes_live("shop.pfx", authority().issue("shop.test"), live=1)
        counts = requests.since(mark)
        asked = {(kind.operation, kind.resource, kind.caller, kind.outcome): count for kind, count in counts.items()}
        assert asked["Put Blob", "certificates", "client", "ok"] == 1
        assert asked["Put Blob", "bundles", "function", "ok"] == 1
        assert asked["Set Blob Metadata", "certificates", "function", "ok"] == 1
        assert asked["Get Blob", "bundles", "agent-0", "ok"] == 1
        assert asked["Insert Entity", "uploads", "function", "ok"] == 1
        assert {kind.caller for kind in counts if kind.is_poll} == {"function", "agent-0"}
        assert {kind.caller for kind in useful(counts)} == {"function", "agent-0"}
        mark = requests.mark()
        await cloud.account.uploads.delete("shop.pfx")
        await cloud.becomes("shop.pfx", "removed", live=0)
        looked_up = [kind for kind in requests.since(mark) if kind.caller == "relay"]
        assert [kind.operation for kind in looked_up] == ["Get Blob Properties"]


async def test_azurite_is_missed_and_found_again_behind_the_counting() -> None:
    settings = PlatformSettings(agents=1, ports=FREE_PORTS, function_environment=NO_SWEEP, count_requests=True)
    async with witnessed(settings) as cloud:
        await cloud.platform.azurite.stop()
        await cloud.platform.azurite.start()
        await cloud.upload("bad.pfx", b"no certificate")
        await cloud.becomes("bad.pfx", "rejected")
        failed = [kind for kind in cloud.platform.requests.mark() if kind.outcome == "other"]
        assert failed == [], "what Azurite did not answer is no request of its"


async def test_nothing_is_counted_unless_it_was_asked_for() -> None:
    with pytest.raises(RuntimeError, match="count_requests"):
        _ = LocalPlatform(PlatformSettings(ports=FREE_PORTS)).requests
