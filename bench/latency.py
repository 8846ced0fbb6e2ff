"""How long from an upload until every agent serves it, and where the time goes: `python dev.py bench latency`.

An idle local cloud at default settings; one upload after the other, each a new blob for a new host. Measured from the
client's side: from the start of the upload request until (a) a TLS handshake with each agent shows the new certificate,
and (b) the blob's tags say live. Nothing is asserted: the numbers are the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from operator_cli.demo.certificates import DEMO_PASSWORD, DemoAuthority
from operator_cli.handshake import certificate_shown
from shared.azure.account import Account
from shared.config import StorageAccess
from shared.state.records import InstallationRecord, UploadRecord
from shared.state.tags import LIVE_TAG, STATUS_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

HANDSHAKES_S = 0.025
TAGS_S = 0.05
PATIENCE_S = 60.0

SERVED = "upload to served on every agent (TLS)"
TAGGED = "upload to tags say live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One measured upload, in milliseconds from the start of its request.

    Attributes:
        began: When that was.
        answered_ms: When the request was answered.
        served_ms: When the last agent was seen serving it.
        tagged_ms: When the tags were seen to say live.
        record: Its row.
        reports: What the agents reported.
    """

    began: datetime
    answered_ms: float
    served_ms: float
    tagged_ms: float
    record: UploadRecord
    reports: tuple[InstallationRecord, ...]

    def stages(self) -> dict[str, float]:
        """Where the time went; the agents' part is that of the one that finished last."""
        last = max(self.reports, key=lambda report: report.finished_at)
        noticed, judged = self._ms(self.record.noticed_at), self._ms(self.record.judged_at)
        told, live = self._ms(self.record.fanned_out_at), self._ms(self.record.live_at)
        finished = self._ms(last.finished_at)
        return {
            "upload request": self.answered_ms,
            "event delivery": noticed - self.answered_ms,
            "reading and validation": judged - noticed,
            "bundle, rows, instances": told - judged,
            "queue and agent's pick-up": finished - sum(last.stages_ms.values()) - told,
            **{f"agent: {stage}": ms for stage, ms in last.stages_ms.items()},
            "report, folding, status": live - finished,
            "tags, and seeing them": self.tagged_ms - live,
        }

    def _ms(self, at: datetime | None) -> float:
        assert at is not None
        return (at - self.began).total_seconds() * 1000


class Bench:
    """Uploads to a running local cloud and looks on."""

    def __init__(self, cloud: LocalPlatform, account: Account) -> None:
        self._account = account
        self._agents = [cloud.tls_address(number) for number in range(len(cloud.agents))]
        self._authority = DemoAuthority()

    async def upload(self, number: int) -> Upload:
        """Upload a certificate for a host of its own and wait until it is live and served."""
        name, host = f"bench-{number}.pfx", f"host-{number}.certcast.example"
        certificate = self._authority.issue(host)
        metadata = {"HostHeader": host, "CertificatePassword": DEMO_PASSWORD}
        began, clock = datetime.now(UTC), time.perf_counter()
        await self._account.uploads.write(name, certificate.pfx, metadata)
        answered_ms = _since(clock)
        tagged_ms, *served_ms = await asyncio.gather(
            self._tagged(name, clock),
            *(self._served(agent, host, certificate.fingerprint_sha256, clock) for agent in self._agents),
        )
        record = await self._account.state.uploads.get(name)
        assert record is not None
        return Upload(
            began=began,
            answered_ms=answered_ms,
            served_ms=max(served_ms),
            tagged_ms=tagged_ms,
            record=record,
            reports=tuple(await self._account.state.reports_on(host, 443)),
        )

    async def _served(self, agent: tuple[str, int], host: str, fingerprint: str, clock: float) -> float:
        while await certificate_shown(agent, host) != fingerprint:
            await _pause(HANDSHAKES_S, clock, f"{agent[0]}:{agent[1]} serves {host}")
        return _since(clock)

    async def _tagged(self, name: str, clock: float) -> float:
        everywhere = f"{len(self._agents)}/{len(self._agents)}"
        while True:
            tags = await self._account.uploads.tags(name) or {}
            if (tags.get(STATUS_TAG), tags.get(LIVE_TAG)) == ("live", everywhere):
                return _since(clock)
            await _pause(TAGS_S, clock, f"the tags of {name} say live {everywhere}")


async def run(uploads: int, agents: int, gap_s: float) -> list[Upload]:
    settings = PlatformSettings(
        agents=agents,
        ports=FREE_PORTS,
        function_environment={"CERTCAST_TRUST": "off"},
    )
    async with (
        LocalPlatform(settings) as cloud,
        Account(StorageAccess(connection_string=cloud.connection_string)) as account,
    ):
        bench = Bench(cloud, account)
        await bench.upload(0)  # connections and imports are warm in a cloud that is idle rather than new
        measured = []
        for number in range(1, uploads + 1):
            await asyncio.sleep(gap_s + random.uniform(0, 1))  # noqa: S311 - away from any rhythm of polling
            measured.append(await bench.upload(number))
            latest = measured[-1]
            print(f"{number:3}  served {latest.served_ms:6.0f} ms   tags {latest.tagged_ms:6.0f} ms", flush=True)
        return measured


def summary(measured: Sequence[Upload], agents: int) -> str:
    lines = [
        "",
        f"{len(measured)} uploads one after the other, {agents} agents",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        "",
        f"{'milliseconds':<40}{'median':>8}{'p90':>8}{'worst':>8}",
        _line(SERVED, [upload.served_ms for upload in measured]),
        _line(TAGGED, [upload.tagged_ms for upload in measured]),
        "",
        "where the time goes (the agent that finished last)",
    ]
    stages = [upload.stages() for upload in measured]
    lines += [_line(f"  {stage}", [each[stage] for each in stages if stage in each]) for stage in stages[0]]
    return "\n".join(lines)


def _line(what: str, values: Sequence[float]) -> str:
    ninth = statistics.quantiles(values, n=10, method="inclusive")[8] if len(values) > 1 else values[0]
    return f"{what:<40}{statistics.median(values):8.0f}{ninth:8.0f}{max(values):8.0f}"


def _since(clock: float) -> float:
    return (time.perf_counter() - clock) * 1000


async def _pause(seconds: float, clock: float, awaited: str) -> None:
    if _since(clock) > PATIENCE_S * 1000:
        raise TimeoutError(f"not seen within {PATIENCE_S:.0f} s: {awaited}")
    await asyncio.sleep(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=30, help="how many are measured (default 30)")
    parser.add_argument("--agents", type=int, default=3, help="how many instances there are (default 3)")
    parser.add_argument("--gap-s", type=float, default=3.0, help="idle seconds between two, plus up to one (default 3)")
    chosen = parser.parse_args()
    if hasattr(os, "getloadavg"):
        print(f"load average before: {os.getloadavg()[0]:.1f} (an idle system is near 0)")
    print(summary(asyncio.run(run(chosen.uploads, chosen.agents, chosen.gap_s)), chosen.agents))


if __name__ == "__main__":
    main()
