"""What certcast asks of the storage account when idle and for an upload, and what that costs in a month.

Needs Azurite alone; about 17 minutes, of which most are idle ones.

Idle: one agent for each longest wait between two looks at a queue (CERTCAST_POLL_MAX_MS), and the Function, with its
own looks at its queues and a sweep each minute, counted over the same minutes. Uploads: one after the other to few and
to more instances, which tells what one costs once and for each instance; an upload also makes agents and Function look
more often for a while, which is what they ask beyond their idle looks. Prices are those of bench/_prices.py.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import _results
from _cost_measured import Idle, Uploads, figures, idle_table, months, per_upload, plot
from _fleet import fleet
from _results import Results
from latency import Bench

from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from local_azure.proxy.counting import FUNCTION, Counts

if TYPE_CHECKING:
    import argparse

WAITS_MS = (250, 500, 1000, 5000, 30_000)
INSTANCES = (1, 5)
CALM_S = 60.0
"""Until agents that have just started look as seldom as they may."""
IDLE_S, IDLE_BEFORE_UPLOADS_S = 600.0, 60.0
UPLOADS, AFTER_UPLOAD_S = 4, 45.0


async def idle(waits_ms: tuple[int, ...], calm_s: float, window_s: float) -> Idle:
    """What an agent asks with each longest wait, and the Function, while nothing is uploaded."""
    settings = PlatformSettings(
        agents=len(waits_ms),
        ports=FREE_PORTS,
        own_environment={number: {"CERTCAST_POLL_MAX_MS": str(wait)} for number, wait in enumerate(waits_ms)},
        count_requests=True,
    )
    async with LocalPlatform(settings) as cloud:
        _tell(f"idle for {calm_s + window_s:.0f} s")
        await asyncio.sleep(calm_s)
        counts = await _during(cloud, window_s)
        agents = {wait: _of(counts, agent.name) for wait, agent in zip(waits_ms, cloud.agents, strict=True)}
    return Idle(window_s=window_s, agents=agents, function=_of(counts, FUNCTION))


async def uploads(instances: int, number: int, *, calm_s: float, window_s: float, after_s: float) -> Uploads:
    """What so many uploads make certcast ask, each with the time after it in which all become calm again."""
    loop = asyncio.get_running_loop()
    async with fleet(instances, count_requests=True) as running:
        uploading = Bench(running)
        _tell(f"{number} uploads to {instances} instances")
        await asyncio.sleep(calm_s)
        calm = await _during(running.cloud, window_s)
        mark, began = running.cloud.requests.mark(), loop.time()
        for _ in range(number):
            await uploading.upload()
            await asyncio.sleep(after_s)
        counts, took_s = running.cloud.requests.since(mark), loop.time() - began
    return Uploads(instances=instances, number=number, counts=counts, took_s=took_s, calm=calm, calm_s=window_s)


async def _during(cloud: LocalPlatform, seconds: float) -> Counts:
    mark = cloud.requests.mark()
    await asyncio.sleep(seconds)
    return cloud.requests.since(mark)


def _of(counts: Counts, caller: str) -> Counts:
    return Counts({kind: count for kind, count in counts.items() if kind.caller == caller})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--idle-s", type=float, help=f"idle seconds that are counted (default {IDLE_S:.0f})")
    parser.add_argument("--uploads", type=int, help=f"uploads to each number of instances (default {UPLOADS})")


def run(chosen: argparse.Namespace) -> Results:
    """Measure; raises CannotRunError where an upload does not go live."""
    quick = chosen.quick
    waits_ms, calm_s = ((250, 500), 0.5) if quick else (WAITS_MS, CALM_S)
    still = asyncio.run(idle(waits_ms, calm_s, chosen.idle_s or (2.0 if quick else IDLE_S)))
    few, more = (
        asyncio.run(
            uploads(
                instances,
                chosen.uploads or (1 if quick else UPLOADS),
                calm_s=calm_s,
                window_s=0.5 if quick else IDLE_BEFORE_UPLOADS_S,
                after_s=0.5 if quick else AFTER_UPLOAD_S,
            )
        )
        for instances in ((1, 2) if quick else INSTANCES)
    )
    return Results(
        name="cost",
        command=_results.command("cost", chosen),
        tables=[idle_table(still), per_upload(few, more), months(still, few, more)],
        figures=figures(still, few, more),
        plots=[plot(still)],
    )


def _tell(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
