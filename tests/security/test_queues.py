"""Queues: an instance's follows from its id, and no row and no message leads anywhere else (on real queues)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.errors import AccessDeniedError, CertcastError, ConflictError
from shared.function.fanout import MAX_INSTANCES
from shared.function.intake import recheck
from shared.function.recheck import recheck_delay_s
from shared.function.sweep import sweep
from shared.messages import (
    RECHECK_QUEUE,
    RESULTS_QUEUE,
    BindingsChanged,
    RecheckUpload,
    decode,
    poison_queue_of,
    queue_of,
)
from shared.state.records import REAP_AFTER, UploadStatus
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing
from tests.rigs.attacked import Attacked
from tests.rigs.rows import registered
from tests.rigs.scenes import Scene

HOST = "a.example.com"
FUNCTIONS_OWN = {RECHECK_QUEUE, RESULTS_QUEUE}


@pytest.mark.parametrize("queue", sorted(FUNCTIONS_OWN))
async def test_the_sweep_deletes_an_instances_own_queue_whatever_its_row_names(queue: str, site: Attacked) -> None:
    record = await site.join("gone")
    await site.write_row(
        "instances",
        "instance",
        "gone",
        queue=queue,
        **{
            name: getattr(record, name)
            for name in ("id", "role", "host", "target_kind", "target_version", "agent_version", "session")
        },
        started_at="2026-01-01T00:00:00Z",
        last_seen="2026-01-01T00:00:00Z",
    )
    await site.account.queues.create(poison_queue_of("gone"))
    later = site.cloud.now() + REAP_AFTER + timedelta(minutes=1)
    # A clock that is ahead stands for half an hour of silence.
    report = await sweep(site.at(later))
    assert report.reaped == ["gone"]
    assert await site.queues() >= FUNCTIONS_OWN
    assert not {queue_of("gone"), poison_queue_of("gone")} & await site.queues()


async def test_hints_go_to_the_queue_of_the_id_whatever_the_row_names(site: Attacked) -> None:
    await site.join("web-0")
    await site.account.queues.create("cert-agent-elsewhere")
    entity = await site.row("instances", "instance", "web-0")
    await site.write_row("instances", "instance", "web-0", **entity | {"queue": "cert-agent-elsewhere"})
    await site.looked_at("a.pfx", HOST)
    [hint] = await site.account.queues.receive(queue_of("web-0"), limit=32, visibility_s=1)
    assert [key.host for key in decode(BindingsChanged, hint.body or "").bindings] == [HOST]
    assert await site.account.queues.receive("cert-agent-elsewhere", limit=32, visibility_s=1) == []


@pytest.mark.parametrize(
    "instance",
    [
        "web-0",
        "../certificate-recheck",
        "certificate-recheck",
        "",
        "-",
        "ü" * 300,
        "x\ny",
        "a" * 2000,
        "INSTALL-results",
    ],
)
def test_no_id_makes_a_queue_that_is_not_an_agents(instance: str) -> None:
    for queue in (queue_of(instance), poison_queue_of(instance)):
        assert queue.startswith("cert-agent-")
        assert len(queue) <= 63
        assert not set(queue) - set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert "--" not in queue


@pytest.mark.parametrize(
    "error",
    [ConflictError("409 (QueueBeingDeleted)"), AccessDeniedError("403")],
)
async def test_one_instances_queue_trouble_keeps_nothing_from_the_others(
    error: CertcastError, storage: FakeStorage
) -> None:
    scene = Scene(storage)
    await scene.join("bad", "good")
    cloud = scene.seen_by(Failing({"queue send": [error]}))
    record = await scene.looked_at(await scene.upload("a.pfx", HOST), cloud)
    assert record.etag, "the upload is complete"
    assert "CertificatePassword" not in await scene.metadata("a.pfx")
    told = [name for name in ("bad", "good") if await scene.told(name)]
    assert told == ["good"]


@pytest.mark.parametrize(
    "name",
    [
        "../bundles/x.pfx",
        "a/../../bundles/x.pfx",
        "./x.pfx",
        "..",
        "a/./b.pfx",
        "a.txt",
        "",
        "a\\..\\b.pfx",
        "x" * 2000,
    ],
)
async def test_a_recheck_obeys_the_names_that_events_obey(
    name: str, site: Attacked, caplog: pytest.LogCaptureFixture
) -> None:
    assert await recheck(site.cloud, RecheckUpload(name=name)) is None
    assert await site.account.state.uploads.get(name) is None
    assert "is no name of an upload" in caplog.text


@pytest.mark.parametrize("attempt", [10**9, 2**31 - 1, -5])
async def test_a_count_from_a_message_is_not_counted_up_to(attempt: int, scene: Scene) -> None:
    await scene.looked_at(await scene.upload("a.pfx", HOST, metadata={}))
    await recheck(scene.cloud, RecheckUpload(name="a.pfx", attempt=attempt))
    assert (await scene.record("a.pfx")).status is UploadStatus.WAITING_FOR_METADATA
    assert recheck_delay_s(attempt) in {None, 2}


async def test_an_instance_that_registers_thousands_of_others_stops_no_upload(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.join("a-real-one")
    template = registered("x", at=scene.storage.clock())
    for number in range(MAX_INSTANCES + 50):
        name = f"fake-{number:05}-{'z' * 150}"
        await scene.outside.state.instances.update(name, lambda _, name=name: replace(template, id=name))  # type: ignore[misc]
    too_long = "b" * 400
    await scene.outside.state.instances.update(too_long, lambda _: replace(template, id=too_long))
    record = await scene.accepted("a.pfx", HOST)
    assert record.etag, "the upload is complete, and its row can be written and read"
    assert len(record.expected) == MAX_INSTANCES
    assert await scene.told("a-real-one")
    assert "see who registers them" in caplog.text
