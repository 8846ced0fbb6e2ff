"""What an upload may ask of the storage account: each request is a moment's wait, and paid for.

Polls and heartbeats are apart, since their number depends on time. Bounds grow with the number of instances: each is
sent a hint and deletes it, reads its row and its bundle, and sends a report, which is entered and deleted.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from local_azure.proxy.counting import Counts, useful
from tests.rigs.certificates import authority
from tests.rigs.witness import PASSWORD, Witness, witnessed

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

CA = authority()
QUIET_S = 1.5
BOUNDS = {"upload": (24, 9), "renewal": (24, 9), "deletion": (25, 7), "rejection": (9, 0)}
"""How many requests each may cost, and how many more for each instance: one settling more than there usually are.

Each entry of the history is one of them: that it was accepted (or renewed) and that it is live are two, as each is
written at once, for `certcast events` to show; that it was rejected or removed is one.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """A local cloud in which nothing goes on but what a test does."""

    cloud: Witness
    instances: int

    async def goes_live(self, name: str, host: str) -> Counts:
        """What certcast asks for one upload, from its first request to its last."""
        mark = self.cloud.platform.requests.mark()
        await self.cloud.goes_live(name, CA.issue(host), live=self.instances)
        await self.cloud.tagged(name, certcast_status="live", certcast_live=f"{self.instances}/{self.instances}")
        return await self.all_since(mark)

    async def all_since(self, mark: Counts) -> Counts:
        """What certcast has asked since a mark, once it asks no more."""
        requests = self.cloud.platform.requests
        counts = useful(requests.since(mark))
        while True:
            await asyncio.sleep(QUIET_S)
            before, counts = counts, useful(requests.since(mark))
            if counts == before:
                return counts

    def within(self, what: str, counts: Counts) -> None:
        """Fail where that was more than it may be."""
        once, each = BOUNDS[what]
        most, asked = once + each * self.instances, counts.total()
        assert asked <= most, (
            f"one {what} costs at most {most} requests with {self.instances} instances:\n{told(counts)}"
        )
        conflicts = Counts({kind: count for kind, count in counts.items() if kind.outcome == "conflict"})
        assert not conflicts, f"conflicts, though nothing else went on:\n{told(conflicts)}"


def told(counts: Counts) -> str:
    """What was asked how often, the agents together."""
    lines = Counter[str]()
    for kind, count in counts.items():
        caller = kind.caller.partition("-")[0]
        resource = "cert-agent-..." if kind.resource.startswith("cert-agent-") else kind.resource
        outcome = "" if kind.outcome == "ok" else f" ({kind.outcome})"
        lines[f"{caller:9}{kind.operation} {resource}{outcome}"] += count
    return "\n".join([*(f"{count:4} {what}" for what, count in sorted(lines.items())), f"{counts.total():4} in all"])


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[2, 6])
async def counting(request: pytest.FixtureRequest) -> AsyncIterator[Counting]:
    settings = PlatformSettings(
        agents=request.param,
        ports=FREE_PORTS,
        function_environment={"CERTCAST_TRUST": "off", "CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *"},
        count_requests=True,
    )
    async with witnessed(settings) as cloud:
        counting = Counting(cloud=cloud, instances=request.param)
        await counting.goes_live("first.pfx", "first.test")  # a cloud that runs, not one that starts
        yield counting


async def test_a_new_upload(counting: Counting) -> None:
    counting.within("upload", await counting.goes_live("new.pfx", "new.test"))


async def test_a_renewal(counting: Counting) -> None:
    await counting.goes_live("renewed.pfx", "renewed.test")
    counting.within("renewal", await counting.goes_live("renewed.pfx", "renewed.test"))


async def test_a_rejected_upload(counting: Counting) -> None:
    mark = counting.cloud.platform.requests.mark()
    await counting.cloud.upload("bad.pfx", CA.issue("bad.test").pfx(PASSWORD), HostHeader="other.test")
    await counting.cloud.becomes("bad.pfx", "rejected")
    counting.within("rejection", await counting.all_since(mark))


async def test_a_deletion(counting: Counting) -> None:
    await counting.goes_live("gone.pfx", "gone.test")
    mark = counting.cloud.platform.requests.mark()
    await counting.cloud.account.uploads.delete("gone.pfx")
    await counting.cloud.becomes("gone.pfx", "removed", live=0)
    counting.within("deletion", await counting.all_since(mark))
