"""How long from an upload until every instance serves it and its tags say live, and where the time goes.

Needs Azurite alone; about 50 minutes, of which most are the idle ones between two uploads.

A local cloud at default settings; one upload after the other, each a new blob for a new host, so many seconds after
the one before was live. Measured from the client's side, from the start of the upload request until (a) every instance
serves the certificate and (b) the blob's tags say live. Three instances, drawn anew for each upload, are looked at from
outside; of the others (looking costs processor time too) their own handshake counts, and one from outside follows.

The floor is what the same requests cost bare, with one handshake for each instance, in the same cloud right after
each upload (bench/_floor.py), so that what else runs on the machine meets both.
The two waits are the agent's until its next look at its queue, and the Function's at the reports; the table says what
is left without them, against the floor.
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
from _fleet import fleet
from _floor import Bottom
from _latency_measured import Series, Upload, against_floor, figures, overview, plot, stages_table
from _results import Results

from operator_cli.demo.certificates import DEMO_PASSWORD, DemoAuthority
from operator_cli.handshake import certificate_shown
from shared.state.tags import LIVE_TAG, STATUS_TAG

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from _fleet import Fleet

    from operator_cli.demo.certificates import DemoCertificate

GAPS_S = (60.0, 3.0, 0.0)
INSTANCES = (1, 3, 10, 30)
UPLOADS = 30
IDLE_S = 10.0
"""From this gap on a third of the uploads is made: they take an hour as it is."""

LOOKED_AT = 3
HANDSHAKES_S = 0.025
TAGS_S = 0.02
PATIENCE_S = 60.0


class Bench:
    """Uploads to a running local cloud and looks on."""

    def __init__(self, running: Fleet) -> None:
        self._account = running.account
        self._running = running
        self._authority = DemoAuthority()
        self._number = 0
        self.host = ""

    async def upload(self) -> Upload:
        """Upload a certificate for a host of its own and wait until it is served and its tags say live."""
        self._number += 1
        name, self.host = f"bench-{self._number}.pfx", f"host-{self._number}.certcast.example"
        host, certificate = self.host, self._authority.issue(self.host)
        watched = random.sample(sorted(self._running.addresses), min(LOOKED_AT, len(self._running.addresses)))
        metadata = {"HostHeader": host, "CertificatePassword": DEMO_PASSWORD}
        began, clock = datetime.now(UTC), time.perf_counter()
        await self._account.uploads.write(name, certificate.pfx, metadata)
        answered_ms = _since(clock)
        seen = await asyncio.gather(*(self._served(each, certificate, clock) for each in watched))
        tagged_ms = await self._tagged(name, clock)
        reports = await self._account.state.reports_on(host, 443)
        own = [report.finished_at - began for report in reports if report.instance not in watched]
        record = await self._account.state.uploads.get(name)
        assert record is not None
        last = max(reports, key=lambda report: report.finished_at)
        await self._confirm(certificate)
        return Upload(
            began=began,
            answered_ms=answered_ms,
            served_ms=max(*seen, *(each.total_seconds() * 1000 for each in own), 0),
            tagged_ms=tagged_ms,
            record=record,
            last=last,
            noted=(await self._running.notes())[last.instance],
        )

    async def _served(self, instance: str, certificate: DemoCertificate, clock: float) -> float:
        address = self._running.addresses[instance]
        while await certificate_shown(address, self.host) != certificate.fingerprint_sha256:
            await _pause(HANDSHAKES_S, clock, f"{instance} serves {self.host}")
        return _since(clock)

    async def _tagged(self, name: str, clock: float) -> float:
        everywhere = f"{len(self._running.addresses)}/{len(self._running.addresses)}"
        while True:
            tags = await self._account.uploads.tags(name) or {}
            if (tags.get(STATUS_TAG), tags.get(LIVE_TAG)) == ("live", everywhere):
                return _since(clock)
            await _pause(TAGS_S, clock, f"the tags of {name} say live {everywhere}")

    async def _confirm(self, certificate: DemoCertificate) -> None:
        """See each instance serve it, from outside."""
        for instance, address in self._running.addresses.items():
            if await certificate_shown(address, self.host) != certificate.fingerprint_sha256:
                raise _results.CannotRunError(f"{instance} reported {self.host} and does not serve it")


async def measure(instances: int, gaps_s: Sequence[float], uploads: int) -> list[Series]:
    """All gaps with one number of instances."""
    found: list[Series] = []
    async with fleet(instances) as running, Bare(running.storage) as bare:
        bench = Bench(running)
        await bench.upload()  # connections and imports are warm in a cloud that is idle rather than new
        bottom = Bottom(bare, instances, [(address, bench.host) for address in running.addresses.values()])
        await bottom.prepare()
        await bottom.upload(0)
        for gap_s in gaps_s:
            measured, floors = [], []
            for number in range(-(-uploads // 3) if gap_s >= IDLE_S else uploads):
                # Away from any rhythm of polling.
                await asyncio.sleep(gap_s and gap_s + random.uniform(0, 1))  # noqa: S311
                measured.append(await bench.upload())
                floors.append(await bottom.upload(len(found) * uploads + number + 1))
                _tell(instances, gap_s, number, measured[-1])
            found.append(Series(instances=instances, gap_s=gap_s, uploads=measured, floors=floors))
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--uploads", type=int, help=f"how many of each kind (default {UPLOADS}; a third when idle)")
    parser.add_argument("--instances", type=_numbers(int), help="how many instances there are (default 1,3,10,30)")
    parser.add_argument("--gaps-s", type=_numbers(float), help="idle seconds between two, 0 for none (default 60,3,0)")


def run(chosen: argparse.Namespace) -> Results:
    """Measure; raises CannotRunError where an instance does not serve what it reported."""
    instances = chosen.instances or ((1,) if chosen.quick else INSTANCES)
    gaps_s = chosen.gaps_s or ((0.0,) if chosen.quick else GAPS_S)
    uploads = chosen.uploads or (2 if chosen.quick else UPLOADS)
    found = [series for count in instances for series in asyncio.run(measure(count, gaps_s, uploads))]
    shown = 3 if 3 in instances else instances[0]
    few = [series for series in found if series.instances == shown]
    return Results(
        name="latency",
        command=_results.command("latency", chosen),
        tables=[overview(found), against_floor(found), stages_table(few)],
        figures=[figure for series in few for figure in figures(series)],
        plots=[plot(few)],
    )


def _tell(instances: int, gap_s: float, number: int, latest: Upload) -> None:
    place = f"{instances} instances, gap {gap_s:g} s, {number + 1:3}"
    print(f"{place}  served {latest.served_ms:6.0f} ms   tags {latest.tagged_ms:6.0f} ms", file=sys.stderr, flush=True)


def _since(clock: float) -> float:
    return (time.perf_counter() - clock) * 1000


async def _pause(seconds: float, clock: float, awaited: str) -> None:
    if _since(clock) > PATIENCE_S * 1000:
        raise _results.CannotRunError(f"not seen within {PATIENCE_S:.0f} s: {awaited}")
    await asyncio.sleep(seconds)


def _numbers(kind: type[int | float]) -> Callable[[str], tuple[float, ...]]:
    def parse(text: str) -> tuple[float, ...]:
        return tuple(kind(part) for part in text.split(","))

    return parse


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
