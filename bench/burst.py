"""How fast many uploads at once become live everywhere, against what Azurite can do at most.

Needs Azurite alone; about 15 minutes.

1,000 uploads to 3 instances, and 30 to 20, all certificates made beforehand and sent by 32 uploaders at once. An upload
is live when its row says so; from outside, a part of the hosts is looked at on each instance in the end. Requests are
counted in a run of their own, since counting costs time. The ceiling is how many requests a second Azurite answers bare
clients that make the requests of 16 uploads side by side (bench/_floor.py), in the same cloud after the burst.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import _results
from _bare import Bare
from _burst_measured import Burst, figures, kinds, overview, plot
from _fleet import fleet
from _floor import Bottom
from _results import Results

from local_azure.proxy.counting import useful
from operator_cli.demo.certificates import DEMO_PASSWORD, DemoAuthority
from operator_cli.handshake import certificate_shown
from shared.bounded import gather_bounded
from shared.messages import EventType
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    import argparse

    from _fleet import Fleet

    from local_azure.eventgrid.topic import ReceivedEvent

UPLOADS, INSTANCES = 1000, 3
FEW_UPLOADS, MANY_INSTANCES = 30, 20
COUNTED, CEILING = 200, 200
UPLOADERS, LANES = 32, 16
LOOKS = 50
LONGEST_PAUSE_S = 180.0
QUIET_S = 3.0


class Uploaders:
    """Certificates made beforehand, sent at once, and waited for."""

    def __init__(self, count: int) -> None:
        authority = DemoAuthority()
        hosts = (f"host-{number}.certcast.example" for number in range(count))
        self._certificates = {host: authority.issue(host) for host in hosts}
        self._live: set[str] = set()
        self._news = asyncio.Event()

    def on_event(self, event: ReceivedEvent) -> None:
        """Hear of an upload that is live."""
        if event.attributes["type"] == EventType.LIVE:
            self._live.add(str(event.attributes["subject"]))
            self._news.set()

    async def send(self, running: Fleet) -> tuple[float, list[float]]:
        """Send all of them; answers when the last was sent, and when each was live, in seconds."""
        began, clock = datetime.now(UTC), time.perf_counter()
        await gather_bounded((self._upload(running, host) for host in self._certificates), UPLOADERS)
        sent_s = time.perf_counter() - clock
        while len(self._live) < len(self._certificates):
            self._news.clear()
            try:
                async with asyncio.timeout(LONGEST_PAUSE_S):
                    await self._news.wait()
            except TimeoutError:
                raise _results.CannotRunError(f"only {len(self._live)} uploads went live") from None
        rows = [known.value async for known in running.account.state.uploads.all()]
        if odd := [row for row in rows if row.status is not UploadStatus.LIVE]:
            raise _results.CannotRunError(f"{odd[0].name} is {odd[0].status}: {odd[0].reason}")
        await self._look(running)
        return sent_s, sorted((row.live_at - began).total_seconds() for row in rows if row.live_at is not None)

    async def _upload(self, running: Fleet, host: str) -> None:
        metadata = {"HostHeader": host, "CertificatePassword": DEMO_PASSWORD}
        await running.account.uploads.write(f"{host}.pfx", self._certificates[host].pfx, metadata)

    async def _look(self, running: Fleet) -> None:
        """See some of the hosts served by every instance."""
        for host in random.sample(sorted(self._certificates), min(LOOKS, len(self._certificates))):
            for instance, address in running.addresses.items():
                if await certificate_shown(address, host) != self._certificates[host].fingerprint_sha256:
                    raise _results.CannotRunError(f"{host} is said to be live, and {instance} does not serve it")


async def measure(uploads: int, instances: int, ceiling: int) -> Burst:
    """One burst, and the ceiling by so many uploads' requests."""
    uploaders = Uploaders(uploads)
    async with fleet(instances, on_event=uploaders.on_event) as running, Bare(running.storage) as bare:
        _tell(f"{uploads:,} uploads to {instances} instances")
        sent_s, live_s = await uploaders.send(running)
        _tell("Azurite's ceiling")
        most = await _ceiling(Bottom(bare, instances), ceiling)
    return Burst(instances=instances, sent_s=sent_s, live_s=live_s, ceiling=most)


async def count(uploads: int, instances: int) -> Burst:
    """One burst with its requests counted."""
    uploaders = Uploaders(uploads)
    async with fleet(instances, on_event=uploaders.on_event, count_requests=True) as running:
        _tell(f"counting the requests of {uploads:,} uploads to {instances} instances")
        mark = running.cloud.requests.mark()
        sent_s, live_s = await uploaders.send(running)
        await asyncio.sleep(QUIET_S)
        counts = useful(running.cloud.requests.since(mark))
    return Burst(instances=instances, sent_s=sent_s, live_s=live_s, counts=counts)


async def _ceiling(bottom: Bottom, uploads: int) -> float:
    await bottom.prepare(lanes=LANES)
    numbers = iter(range(uploads))

    async def lane(own: int) -> None:
        for number in numbers:
            await bottom.upload(number, lane=own)

    began = time.perf_counter()
    await asyncio.gather(*(lane(own) for own in range(LANES)))
    return bottom.requests * uploads / (time.perf_counter() - began)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--uploads", type=int, help=f"to {INSTANCES} instances (default {UPLOADS})")
    parser.add_argument("--counted", type=int, help=f"uploads whose requests are counted (default {COUNTED})")


def run(chosen: argparse.Namespace) -> Results:
    """Measure; raises CannotRunError where an upload does not go live everywhere."""
    uploads = chosen.uploads or (4 if chosen.quick else UPLOADS)
    counted = chosen.counted or (2 if chosen.quick else COUNTED)
    ceiling = 4 if chosen.quick else CEILING
    sizes = [(uploads, 1 if chosen.quick else INSTANCES, counted)]
    if not chosen.quick:
        sizes.append((FEW_UPLOADS, MANY_INSTANCES, FEW_UPLOADS))
    pairs = [
        (asyncio.run(measure(uploads, instances, ceiling)), asyncio.run(count(counted, instances)))
        for uploads, instances, counted in sizes
    ]
    return Results(
        name="burst",
        command=_results.command("burst", chosen),
        tables=[overview(pairs), *(kinds(counted) for _, counted in pairs)],
        figures=[figure for pair in pairs for figure in figures(*pair)],
        plots=[plot(*pair) for pair in pairs],
    )


def _tell(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
