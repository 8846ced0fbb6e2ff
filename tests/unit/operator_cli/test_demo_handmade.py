"""The demo's step on real web servers, played with a server and an agent of the test's own."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from operator_cli.demo.handmade import BEHIND, HandmadeChange
from operator_cli.demo.report import StepReport
from operator_cli.demo.watch import Watch
from shared.bundle import CertificateBundle
from shared.errors import UnavailableError
from shared.function.cloud import Cloud
from shared.messages import InstallOutcome
from shared.state.records import InstallationRecord
from tests.rigs.certificates import self_signed

AGENT = "agent-0"
HOST = "late.certcast.example"

Agent = Callable[["Somebody"], Awaitable[None]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operator_cli.demo.watch.PATIENCE_S", 0.4)


class Somebody:
    """At a server of the test's own, with a certificate that can be exchanged; and what its agent does about it."""

    can_untie = False

    def __init__(self, cloud: Cloud, folder: Path, agent: Agent | None, *, stays: bool) -> None:
        self.stays = stays
        self.ours = self_signed(HOST).bundle()
        self.state = cloud.state
        self._pem = folder / "served.pem"
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._agent = agent
        self._acting: asyncio.Task[None] | None = None

    def serve(self, bundle: CertificateBundle) -> None:
        self._pem.write_bytes(bundle.to_pem())
        self._context.load_cert_chain(self._pem)

    async def report(self, outcome: InstallOutcome, reason: str = "", drifted_at: datetime | None = None) -> None:
        record = InstallationRecord(
            host=HOST,
            port=443,
            instance=AGENT,
            role="*",
            generation=1,
            source="late.pfx",
            outcome=outcome,
            finished_at=datetime.now(UTC),
            reported_at=datetime.now(UTC),
            reason=reason,
            drifted_at=drifted_at,
        )
        await self.state.installations.update((HOST, 443, AGENT), lambda _: record)

    async def replace(self, host: str, bundle: CertificateBundle) -> None:
        if self._agent is None:
            raise UnavailableError(f"the server takes nothing for {host}")
        self.serve(bundle)
        self._acting = asyncio.ensure_future(self._agent(self))

    async def untie(self, host: str) -> None:
        raise NotImplementedError

    async def take_back(self) -> None:
        self.serve(self.ours)
        await self.report(InstallOutcome.LIVE)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[str, int]]:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        self.serve(self.ours)
        listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=self._context)
        async with listener:
            yield listener.sockets[0].getsockname()[:2]
            if self._acting is not None:
                await self._acting


async def puts_right(somebody: Somebody) -> None:
    await asyncio.sleep(0.1)
    somebody.serve(somebody.ours)
    now = datetime.now(UTC)
    await somebody.report(InstallOutcome.LIVE, f"{BEHIND} at {now:%H:%M:%S}", now)


async def puts_right_and_tells_not(somebody: Somebody) -> None:
    await asyncio.sleep(0.1)
    somebody.serve(somebody.ours)
    await somebody.report(InstallOutcome.LIVE)


async def tells(somebody: Somebody) -> None:
    await asyncio.sleep(0.1)
    await somebody.report(InstallOutcome.FAILED, "the server has a certificate of its own")


async def sleeps(_: Somebody) -> None:
    pass


async def played(cloud: Cloud, folder: Path, agent: Agent | None, *, stays: bool = False) -> StepReport:
    somebody = Somebody(cloud, folder, agent, stays=stays)
    report = StepReport(name="handmade_change", title="By hand", changed=lambda _: None)
    async with somebody.serving() as address:
        watch = Watch(report, uploads=cloud.uploads, state=cloud.state, listeners={AGENT: address})
        ours = somebody.ours.fingerprint_sha256
        await HandmadeChange(HOST, AGENT, somebody, ours=ours, state=cloud.state).play(watch)
    return report


def told(report: StepReport) -> list[str]:
    return [seen.what for seen in report.observations if not seen.what.startswith("none of ")]


async def test_what_an_agent_puts_right_and_tells_is_seen(cloud: Cloud, tmp_path: Path) -> None:
    report = await played(cloud, tmp_path, puts_right)
    assert report.ok, report.missing()
    assert {moment.stage for moment in report.moments} == {"changed", "found"}
    assert told(report) == [
        "a TLS handshake shows somebody's certificate",
        "a TLS handshake shows certcast's certificate",
        "`certcast status` says live, and when it was changed",
    ]


async def test_what_cannot_be_put_right_is_told_until_it_is_taken_back(cloud: Cloud, tmp_path: Path) -> None:
    report = await played(cloud, tmp_path, tells, stays=True)
    assert report.ok, report.missing()
    assert told(report) == [
        "a TLS handshake shows somebody's certificate",
        "`certcast status` says failed, and why",
        "a TLS handshake shows certcast's certificate",
        "`certcast status` says live again",
    ]


@pytest.mark.parametrize(
    ("agent", "missed"),
    [
        (sleeps, "shows certcast's certificate on agent-0 (instead: showed "),
        (sleeps, "says live, and when it was changed on agent-0 (instead: no report)"),
        (puts_right_and_tells_not, "says live, and when it was changed on agent-0 (instead: live: )"),
        (None, "could change it on agent-0 (instead: the server takes nothing for late.certcast.example)"),
    ],
)
async def test_what_is_missed_is_named(cloud: Cloud, tmp_path: Path, agent: Agent | None, missed: str) -> None:
    report = await played(cloud, tmp_path, agent)
    assert missed in " ".join(report.missing())


async def test_a_report_of_an_earlier_change_is_not_taken_for_this_one(cloud: Cloud, tmp_path: Path) -> None:
    async def tells_of_another(somebody: Somebody) -> None:
        await puts_right(somebody)
        known = await somebody.state.installations.get((HOST, 443, AGENT))
        assert known is not None
        past = replace(known, drifted_at=datetime(2026, 1, 1, tzinfo=UTC))
        await somebody.state.installations.update((HOST, 443, AGENT), lambda _: past)

    report = await played(cloud, tmp_path, tells_of_another)
    assert "when it was changed" in " ".join(report.missing())
