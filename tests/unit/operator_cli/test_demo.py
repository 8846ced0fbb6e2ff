import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from local_azure.servers.by_hand import ByHand
from operator_cli.demo.backstage import Overheard
from operator_cli.demo.certificates import DEMO_PASSWORD, DemoAuthority
from operator_cli.demo.report import Moment, Observation, StepReport
from operator_cli.demo.steps import LATE, SHOP, SHOP_BLOB, Demo, Step
from operator_cli.demo.watch import Addresses, Watch
from operator_cli.handshake import certificate_shown
from shared.bundle import CertificateBundle
from shared.function.blob_event import Notice
from shared.function.cloud import Cloud
from shared.function.intake import look_at
from shared.function.sweep import sweep
from shared.state.records import UploadStatus
from shared.verdict import VerdictCode
from tests.fakes.edges import FakeStorage
from tests.rigs.certificates import Issued, self_signed
from tests.rigs.opened import load_pfx
from tests.rigs.scenes import Scene
from tests.rigs.some import some

AGENT = "agent-0"
NEWCOMER = "agent-1"
NOWHERE = ("127.0.0.1", 1)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operator_cli.demo.watch.PATIENCE_S", 0.2)
    monkeypatch.setattr("operator_cli.demo.steps.METADATA_AFTER_S", 0.0)


@asynccontextmanager
async def server(issued: Issued, folder: Path) -> AsyncIterator[tuple[str, int]]:
    pem = folder / "server.pem"
    pem.write_bytes(issued.bundle().to_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with listener:
        yield listener.sockets[0].getsockname()[:2]


def report() -> StepReport:
    return StepReport(name="upload", title="An upload", changed=lambda _: None)


def watch(cloud: Cloud, address: tuple[str, int] = NOWHERE) -> Watch:
    return Watch(report(), uploads=cloud.uploads, state=cloud.state, listeners={AGENT: address})


def drawn(step: StepReport) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(step.drawn())
    return capture.get()


async def test_a_handshake_tells_the_certificate_and_a_closed_port_nothing(tmp_path: Path) -> None:
    issued = self_signed("www.example.com")
    async with server(issued, tmp_path) as address:
        assert await certificate_shown(address, "www.example.com") == issued.fingerprint
        assert await certificate_shown(address, None) == issued.fingerprint
    assert await certificate_shown(address, "www.example.com") is None


async def test_a_certificate_that_is_not_shown_is_missed_and_what_was_shown_is_named(tmp_path: Path) -> None:
    issued = self_signed("www.example.com")
    async with server(issued, tmp_path) as address:
        looking = watch(FakeStorage().cloud(), address)
        await looking.everywhere("the new certificate is shown", SHOP, {AGENT: "ab" * 32})
    [missing] = looking.report.missing()
    assert missing == f"the new certificate is shown on {AGENT} (instead: showed {issued.fingerprint[:12]}...)"


async def test_an_interruption_is_a_failure_though_the_certificate_is_shown_in_the_end(tmp_path: Path) -> None:
    issued = self_signed("www.example.com")
    async with server(issued, tmp_path) as address:
        looking = watch(FakeStorage().cloud(), address)
        await looking.everywhere("the new one", SHOP, {AGENT: "ab" * 32}, before={AGENT: "cd" * 32})
    assert any("handshakes meanwhile failed or met another" in sentence for sentence in looking.report.missing())


async def test_tags_and_status_of_the_version_before_are_not_taken_for_this_ones() -> None:
    storage = FakeStorage()
    cloud = storage.cloud()
    before = await cloud.uploads.write(SHOP_BLOB, b"no certificate", {"CertificatePassword": "x"})
    await look_at(cloud, Notice(name=SHOP_BLOB, etag=before))
    looking = watch(cloud)
    rejected = (UploadStatus.REJECTED, VerdictCode.UNREADABLE_BUNDLE)
    await looking.tags(SHOP_BLOB, before, rejected[0], code=rejected[1])
    await looking.status(SHOP_BLOB, before, rejected[0], code=rejected[1])
    assert looking.report.ok
    await looking.tags(SHOP_BLOB, "another", rejected[0], code=rejected[1])
    await looking.status(SHOP_BLOB, "another", rejected[0], code=rejected[1])
    await looking.status(SHOP_BLOB, before, rejected[0], code=VerdictCode.EXPIRED)
    await looking.status(SHOP_BLOB, None, UploadStatus.REMOVED)
    assert [observation.seen for observation in looking.report.observations] == [True, True, *[False] * 4]


@pytest.mark.parametrize(
    ("metadata", "gone"),
    [
        ({"hostheader": "a", "certcast_bundle": "b"}, True),
        ({"certificatepassword": "x", "certcast_bundle": "b"}, False),
        ({"CertificatePassword": "x"}, False),
        ({"hostheader": "a"}, False),
    ],
)
async def test_the_password_is_gone_only_when_the_bundle_stands_in_its_place(
    metadata: dict[str, str], cloud: Cloud, *, gone: bool
) -> None:
    await cloud.uploads.write(SHOP_BLOB, b"", metadata)
    looking = watch(cloud)
    await looking.password_gone(SHOP_BLOB)
    assert looking.report.ok is gone


class Stagehands:
    """A backstage where nothing happens, and instances come and go as they are told."""

    by_hand: ClassVar[dict[str, ByHand]] = {}

    def __init__(self, listeners: Addresses, *, joining: tuple[str, int] = NOWHERE) -> None:
        self.listeners = dict(listeners)
        self.events = 0
        self.sweeps = 0
        self._joining = joining

    async def quiet(self) -> None:
        pass

    async def join(self) -> str:
        self.listeners[NEWCOMER] = self._joining
        return NEWCOMER

    async def leave(self, instance: str) -> None:
        del self.listeners[instance]


def demo_of(cloud: Cloud, backstage: Stagehands) -> Demo:
    return Demo(uploads=cloud.uploads, state=cloud.state, backstage=backstage, changed=lambda _: None)


def step_of(demo: Demo, name: str) -> Step:
    [step] = [step for step in demo.plan if step.name == name]
    return step


async def missing_from(demo: Demo, name: str) -> str:
    """Take one step for itself, and tell what was not seen in it."""
    played = await demo.play(step_of(demo, name))
    assert not played.ok
    return " ".join(played.missing())


async def test_the_demo_stops_at_the_first_step_in_which_something_was_not_seen(tmp_path: Path, cloud: Cloud) -> None:
    async with server(self_signed("fallback.example"), tmp_path) as address:
        steps = [step async for step in demo_of(cloud, Stagehands({AGENT: address})).steps()]
    assert [step.name for step in steps] == ["upload"]
    assert not steps[0].ok
    missing = " ".join(steps[0].missing())
    for what in ("TLS handshake", "tags say live", "certcast status", "password is gone"):
        assert what in missing


async def test_an_edit_that_no_sweep_finds_is_missed(tmp_path: Path, cloud: Cloud) -> None:
    await cloud.uploads.write(SHOP_BLOB, b"", {"hostheader": SHOP})
    async with server(self_signed("fallback.example"), tmp_path) as address:
        missing = await missing_from(demo_of(cloud, Stagehands({AGENT: address})), "metadata_edit")
    assert "the sweep says that it found something (instead: no sweep found anything)" in missing
    assert f"for the added host on {AGENT}" in missing
    assert "Event Grid" not in missing
    assert {key.lower() for key in some(await cloud.uploads.version(SHOP_BLOB)).metadata} == {"hostheader"}


async def test_an_edit_that_event_grid_told_of_shows_nothing_of_the_sweep(tmp_path: Path, cloud: Cloud) -> None:
    await cloud.uploads.write(SHOP_BLOB, b"", {"hostheader": SHOP})

    class Telling(Stagehands):
        """A backstage where an event is posted with every look."""

        asked = 0

        @property
        def events(self) -> int:
            self.asked += 1
            return self.asked

        @events.setter
        def events(self, _: int) -> None:
            pass

    async with server(self_signed("fallback.example"), tmp_path) as address:
        missing = await missing_from(demo_of(cloud, Telling({AGENT: address})), "metadata_edit")
    assert "Event Grid was given no event meanwhile (instead: it was given" in missing


async def test_a_newcomer_that_serves_nothing_is_missed(tmp_path: Path, cloud: Cloud) -> None:
    async with server(self_signed("fallback.example"), tmp_path) as address:
        demo = demo_of(cloud, Stagehands({AGENT: address}, joining=address))
        for before in ("upload", "late_metadata"):
            await demo.play(step_of(demo, before))
        missing = await missing_from(demo, "instance_joins")
    for host in (SHOP, LATE):
        assert f"with the new one shows what is live for {host} on {NEWCOMER}" in missing
    assert f"says of {NEWCOMER}: ready (instead: nothing is known of it)" in missing
    assert "tags say live 2/2" in missing


async def test_an_instance_that_goes_on_after_it_was_stopped_is_missed(tmp_path: Path, scene: Scene) -> None:
    await scene.join(AGENT, NEWCOMER)
    async with server(self_signed("fallback.example"), tmp_path) as address:
        backstage = Stagehands({AGENT: address, NEWCOMER: address})
        missing = await missing_from(demo_of(scene.outside, backstage), "instance_leaves")
    assert f"nothing answers any more where it listened on {AGENT} (instead: something does)" in missing
    assert f"says of {AGENT}: stopped (instead: alive" in missing
    assert "tags say live 1/1" in missing


def test_a_sweep_is_counted_when_it_found_something_and_an_error_is_kept() -> None:
    overheard = Overheard()
    overheard("functions", "INFO shared.function.sweep: sweep: looked at 0 upload(s), settled 0, reaped 1 instance(s)")
    overheard("functions", "INFO certcast.host: sweep succeeded in 12 ms")
    overheard("agent-0", "INFO sweep: looked at 1 upload(s)")
    assert overheard.sweeps == 0
    overheard("functions", "INFO shared.function.sweep: sweep: looked at 12 upload(s), settled 0, reaped 0 instance(s)")
    overheard("agent-0", "ERROR instance agent-0: something")
    assert overheard.sweeps == 1
    assert list(overheard.errors) == ["agent-0: ERROR instance agent-0: something"]


async def test_what_the_sweep_says_is_what_the_demo_listens_for(caplog: pytest.LogCaptureFixture, scene: Scene) -> None:
    await scene.join(AGENT)
    await scene.upload(SHOP_BLOB, SHOP)
    overheard = Overheard()
    with caplog.at_level("INFO"):
        await sweep(scene.cloud)
        await sweep(scene.cloud)
    for record in caplog.records:
        overheard("functions", f"{record.levelname} {record.name}: {record.getMessage()}")
    assert overheard.sweeps == 1


def test_a_listener_of_the_agents_own_has_no_step_in_which_it_is_changed_by_hand() -> None:
    names = [step.name for step in demo_of(FakeStorage().cloud(), Stagehands({})).plan]
    assert "handmade_change" not in names
    assert len(names) == 9


def test_a_step_in_which_nothing_was_looked_for_shows_nothing() -> None:
    assert not report().ok


def test_the_timeline_is_told_in_the_order_in_which_things_come_about() -> None:
    step = report()
    step.add(Moment(stage="proved", ms=30.26, instance="agent-1"))
    step.add(Moment(stage="proved", ms=20, instance="agent-0"))
    step.add(Moment(stage="uploaded", ms=1))
    step.add(Moment(stage="uploaded", ms=99))
    step.add(Observation(what="it is served", seen=True, ms=31, where="agent-1"))
    step.add(Observation(what="the tags say live", seen=False, ms=50, instead="tags none"))
    document = step.to_json()
    assert document["timeline"] == [
        {"stage": "uploaded", "instance": None, "ms": 1},
        {"stage": "proved", "instance": "agent-0", "ms": 20},
        {"stage": "proved", "instance": "agent-1", "ms": 30.3},
    ]
    assert document["ok"] is False
    assert [observation["seen"] for observation in document["observations"]] == [True, False]
    text = drawn(step)
    assert "agent-0 20 ms  agent-1 30 ms" in text
    assert "NOT SEEN" in text
    assert "tags none" in text


def test_the_demos_certificates_are_what_the_function_accepts() -> None:
    certificate = DemoAuthority().issue(SHOP)
    bundle = load_pfx(certificate.pfx, [DEMO_PASSWORD.encode()])
    assert isinstance(bundle, CertificateBundle)
    assert bundle.dns_names == (SHOP,)
    assert bundle.fingerprint_sha256 == certificate.fingerprint_sha256
    assert "PRIVATE" not in repr(certificate)
