"""How long an upload takes with a job on each instance that looks into the container once a minute, and with certcast.

Needs Azurite alone; about 7 minutes.

The job (bench/_minute_job.py) is the well-known pattern of 2013 for Azure web roles. It sleeps 1.5 s where the original
sleeps 60 s; of each measured time the part that an instance slept is multiplied by 40, and all that it worked is left
as it was measured. (What that overstates: an upload that meets a job at work waits for a whole sleep, and does so more
often than it would with 60 s; a look at the container takes a few milliseconds.) Instances start at moments of their
own. Uploads come one after the other at random moments; one is served when the last instance shows it in a TLS
handshake. certcast is measured in the same run by bench/latency.py, with 3 s between two uploads.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import _results
from _fleet import fleet
from _minute_job import MinuteJob
from _results import Figure, Plot, Results, Table, distribution
from azure.storage.blob.aio import ContainerClient
from latency import Bench

from instance_agent.targets.embedded.settings import EmbeddedSettings
from instance_agent.targets.embedded.target import EmbeddedTarget
from local_azure.azurite import start_azurite
from local_azure.processes.listening import LOOPBACK, port_offsets
from operator_cli.demo.certificates import DEMO_PASSWORD, DemoAuthority
from shared.azure.blobs import UPLOADS_CONTAINER

if TYPE_CHECKING:
    import argparse

REAL_S, WAIT_S = 60.0, 1.5
INSTANCES = (1, 3, 20)
UPLOADS, CERTCASTS, GAP_S = 100, 10, 3.0
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One upload to the jobs, in seconds from the start of its request.

    Attributes:
        served_s: When each instance served it, had it slept as long as the original does.
        worked_s: Of that, what was no sleep.
    """

    served_s: Sequence[float]
    worked_s: Sequence[float]


async def jobs(instances: int, uploads: int) -> list[Seen]:
    """Uploads to so many instances with a job each."""
    async with AsyncExitStack() as stack:
        azurite = await start_azurite()
        stack.push_async_callback(azurite.stop)
        container = await stack.enter_async_context(
            ContainerClient.from_connection_string(azurite.connection_string, UPLOADS_CONTAINER)
        )
        await container.create_container()
        running = []
        for offset in stack.enter_context(port_offsets(instances)):
            settings = {"CERTCAST_EMBEDDED_ADDRESS": LOOPBACK, "CERTCAST_EMBEDDED_PORT_OFFSET": str(offset)}
            target = EmbeddedTarget(EmbeddedSettings.from_env(settings))
            await target.start()
            stack.push_async_callback(target.stop)
            running.append(MinuteJob(container, target, wait_s=WAIT_S))
        async with asyncio.TaskGroup() as working:
            tasks = [working.create_task(job.run(random.uniform(0, WAIT_S))) for job in running]  # noqa: S311
            authority, seen = DemoAuthority(), []
            for number in range(uploads):
                seen.append(await _upload(container, running, authority, f"host-{number}.certcast.example"))
                await asyncio.sleep(random.uniform(0, 2 * WAIT_S))  # noqa: S311
            for task in tasks:
                task.cancel()
    return seen


async def _upload(
    container: ContainerClient, running: Sequence[MinuteJob], authority: DemoAuthority, host: str
) -> Seen:
    content = authority.issue(host).pfx
    began = time.perf_counter()
    await container.upload_blob(
        f"{host}.pfx", content, metadata={"HostHeader": host, "CertificatePassword": DEMO_PASSWORD}
    )
    while not all(host in job.served_at for job in running):
        if time.perf_counter() - began > PATIENCE_S:
            raise _results.CannotRunError(f"{host} was not served within {PATIENCE_S:.0f} s")
        await asyncio.sleep(WAIT_S / 100)
    took = [job.served_at[host] - began for job in running]
    slept = [job.slept_between(began, job.served_at[host]) for job in running]
    worked = [each - sleep for each, sleep in zip(took, slept, strict=True)]
    served = [work + sleep * REAL_S / WAIT_S for work, sleep in zip(worked, slept, strict=True)]
    return Seen(served_s=served, worked_s=worked)


async def certcast(instances: int, uploads: int, gap_s: float) -> list[float]:
    """Seconds until every instance served each upload with certcast."""
    async with fleet(instances) as running:
        bench = Bench(running)
        await bench.upload()  # connections and imports are warm
        found = []
        for _ in range(uploads):
            await asyncio.sleep(gap_s and gap_s + random.uniform(0, 1))  # noqa: S311
            found.append((await bench.upload()).served_ms / 1000)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--uploads", type=int, help=f"to the jobs (default {UPLOADS})")
    parser.add_argument("--certcast-uploads", type=int, help=f"to certcast (default {CERTCASTS})")


def run(chosen: argparse.Namespace) -> Results:
    """Measure; raises CannotRunError where an upload is not served."""
    quick = chosen.quick
    instances = (1,) if quick else INSTANCES
    _tell(f"jobs on {instances[-1]} instances")
    seen = asyncio.run(jobs(instances[-1], chosen.uploads or (2 if quick else UPLOADS)))
    by_job = {count: [max(each.served_s[:count]) for each in seen] for count in instances}
    by_certcast = {}
    for count in instances:
        _tell(f"certcast on {count} instances")
        uploads = chosen.certcast_uploads or (2 if quick else CERTCASTS)
        by_certcast[count] = asyncio.run(certcast(count, uploads, 0.0 if quick else GAP_S))
    worked_s = statistics.median(work for each in seen for work in each.worked_s)
    return Results(
        name="poller",
        command=_results.command("poller", chosen),
        tables=[overview(by_job, by_certcast, worked_s)],
        figures=[_figure(count, by_job[count], by_certcast[count]) for count in instances],
        plots=[plot(by_job, by_certcast)],
    )


def overview(by_job: dict[int, list[float]], by_certcast: dict[int, list[float]], worked_s: float) -> Table:
    rows = tuple(
        (f"{who}, {_instances(count)}", statistics.median(values), _ninth(values), max(values), len(values))
        for count in by_job
        for who, values in (("a job each minute", by_job[count]), ("certcast", by_certcast[count]))
    )
    note = (
        f"A job's own work, which is not scaled, took {worked_s * 1000:.0f} ms in the median (on a real platform each "
        "instance has processors of its own). It judges nothing, sees no handshake and tells the uploader nothing."
    )
    return Table(
        "Seconds from an upload until every instance serves it", ("", "median", "p90", "worst", "uploads"), rows, note
    )


def plot(by_job: dict[int, list[float]], by_certcast: dict[int, list[float]]) -> Plot:
    series = {
        f"{who}, {_instances(count)}": distribution(values)
        for who, found in (("certcast", by_certcast), ("a job each minute", by_job))
        for count, values in found.items()
    }
    title = "Until every instance serves an upload"
    return Plot("", title, "seconds from the start of the upload", "share of uploads", series, "cdf", log_x=True)


def _figure(count: int, by_job: list[float], by_certcast: list[float]) -> Figure:
    job = statistics.median(by_job)
    ratio = job / statistics.median(by_certcast)
    return Figure(f"a job each minute, {_instances(count)}: served everywhere", job, "s", ratio, "certcast's median")


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"


def _ninth(values: list[float]) -> float:
    return statistics.quantiles(values, n=10, method="inclusive")[8] if len(values) > 1 else values[0]


def _tell(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
