"""What a sweep costs when there is nothing to do: it runs each minute, over however many uploads there are."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.binding import BindingKey, DesiredBinding
from shared.codec import from_entity, to_entity
from shared.function.sweep import sweep
from shared.state.keys import binding_key, installation_key, upload_key
from shared.state.records import BINDINGS_TABLE, INSTALLATIONS_TABLE, UPLOADS_TABLE, UploadRecord, UploadStatus
from tests.fakes.processes import Mortal
from tests.rigs.scenes import Scene

UPLOADS = 10_000
ROWS_ON_A_PAGE = 1_000
BLOBS_ON_A_PAGE = 5_000
TABLE_PAGES = UPLOADS // ROWS_ON_A_PAGE
BLOB_PAGES = UPLOADS // BLOBS_ON_A_PAGE


async def multiplied(scene: Scene, copies: int) -> None:
    """Put copies of `a.pfx`, which serves `a.test`, beside it: as if each had been uploaded, installed and proved."""
    storage = scene.storage
    record, row = await scene.record("a.pfx"), await scene.row("a.test")
    uploads, bindings = storage.tables[UPLOADS_TABLE], storage.tables[BINDINGS_TABLE]
    upload_row, binding_row = uploads[upload_key("a.pfx")], bindings[binding_key(row.key)]
    for number in range(copies):
        name, host = f"c{number}.pfx", f"c{number}.test"
        storage.uploads[name] = replace(storage.uploads["a.pfx"])
        storage.bundles[f"{number:064}/{number:064}"] = replace(storage.bundles[record.bundle_id])
        key = BindingKey(role="*", host=host, port=443)
        copy = replace(record, name=name, hosts=(host,), claims=(key,), bundle_id=f"{number:064}/{number:064}")
        uploads[upload_key(name)] = replace(upload_row, columns=dict(to_entity(copy)))
        bindings[binding_key(key)] = replace(binding_row, columns=dict(to_entity(copied(row, copy))))
    sample = from_entity(UploadRecord, uploads[upload_key("c0.pfx")].columns)
    assert (sample.status, sample.etag) == (UploadStatus.LIVE, storage.uploads["c0.pfx"].etag)


def copied(row: DesiredBinding, upload: UploadRecord) -> DesiredBinding:
    [claim] = row.claims
    claim = replace(claim, source=upload.name, bundle_id=upload.bundle_id)
    return replace(row, host=upload.hosts[0], claims=(claim,), source=upload.name, bundle_id=upload.bundle_id)


async def live(scene: Scene) -> None:
    await scene.join("web-0")
    await scene.accepted("a.pfx", "a.test")
    await scene.everyone_obeys("web-0")
    record = await scene.record("a.pfx")
    assert record.status is UploadStatus.LIVE
    await scene.outside.state.uploads.update("a.pfx", lambda _: replace(record, due=()))  # as if they had been sent


async def test_ten_thousand_unchanged_uploads_cost_pages_and_nothing_for_each(scene: Scene) -> None:
    await live(scene)
    await multiplied(scene, UPLOADS - 1)
    scene.storage.clock.advance(timedelta(days=2).total_seconds())  # every bundle is old enough to be looked after
    await scene.beat("web-0")
    before = {name: dict(table) for name, table in scene.storage.tables.items()}
    life = Mortal()
    cloud = scene.seen_by(life)
    report = await sweep(cloud)
    assert (report.looked_at, report.settled, report.warned, report.problems, report.forgotten) == ([], [], [], [], 0)
    assert scene.storage.tables == before
    each_minute = {
        "uploads query": TABLE_PAGES,
        "blob each": BLOB_PAGES,
        "bindings query": TABLE_PAGES,
        "instances query": 1,
        "installations query": 1,
    }
    assert life.steps == {"bundle each": BLOB_PAGES, "history query": 1, "note seal": 1, **each_minute}
    life.steps.clear()
    scene.storage.clock.advance(60)
    await sweep(cloud)
    assert life.steps == each_minute, "a process lists the bundles, and looks for old entries, once an hour"
    scene.storage.clock.advance(59 * 60)
    await scene.beat("web-0")
    await sweep(cloud)
    assert life.steps["bundle each"] == BLOB_PAGES + 1, "beside as many bundles as fit is what the first sweep told"


ENDING = 300


async def test_hundreds_that_end_at_once_cost_a_few_requests_each_and_few_messages(scene: Scene) -> None:
    instances = [f"web-{number}" for number in range(20)]
    await scene.join(*instances)
    await scene.accepted("ending.pfx", "a.test", day=-1, lasts=60)
    await scene.accepted("lasting.pfx", "a.test", day=-9, lasts=365)
    await scene.everyone_obeys(*instances)
    await many_that_end(scene)
    scene.storage.clock.advance(timedelta(days=59).total_seconds() - 3600)
    await scene.beat(*instances)
    life = Mortal()
    report = await sweep(scene.seen_by(life))
    assert (len(report.handed_over), report.problems, report.left) == (ENDING + 1, [], 0)
    assert life.steps["queue send"] == 2 * len(instances)
    # Each row is read and written; each upload is read, written, told, and settled by its row and its reports.
    assert life.steps.total() < ENDING * 25
    for number in range(ENDING):
        assert (await scene.row(f"c{number}.test")).source == f"l{number}.pfx"
        assert (await scene.record(f"l{number}.pfx")).status is UploadStatus.ACCEPTED


async def many_that_end(scene: Scene) -> None:
    """Copies of both uploads at hosts of their own."""
    storage = scene.storage
    row, uploads, bindings = await scene.row("a.test"), storage.tables[UPLOADS_TABLE], storage.tables[BINDINGS_TABLE]
    pair = {"ending.pfx": await scene.record("ending.pfx"), "lasting.pfx": await scene.record("lasting.pfx")}
    for number in range(ENDING):
        key = BindingKey(role="*", host=f"c{number}.test", port=443)
        names = {"ending.pfx": f"e{number}.pfx", "lasting.pfx": f"l{number}.pfx"}
        for name, record in pair.items():
            copy = replace(record, name=names[name], hosts=(key.host,), claims=(key,), due=())
            uploads[upload_key(copy.name)] = replace(uploads[upload_key(name)], columns=dict(to_entity(copy)))
            storage.uploads[copy.name] = replace(storage.uploads[name])
        claims = tuple(replace(claim, source=names[claim.source]) for claim in row.claims)
        placed = replace(row, host=key.host, claims=claims, source=names[row.source])
        bindings[binding_key(key)] = replace(bindings[binding_key(row.key)], columns=dict(to_entity(placed)))
    for name, record in pair.items():
        await scene.outside.state.uploads.update(name, lambda _, record=record: replace(record, due=()))  # type: ignore[misc]


async def test_reports_pass_by_whole_once_an_hour_and_only_new_ones_in_between(scene: Scene) -> None:
    await live(scene)
    await scene.beat("web-0")
    reports = scene.storage.tables[INSTALLATIONS_TABLE]
    [stored] = reports.values()
    for number in range(3 * ROWS_ON_A_PAGE):
        key = installation_key((f"c{number}.test", 443, "web-0"))
        reports[key] = replace(stored, columns={**stored.columns, "host": f"c{number}.test"})
    life = Mortal()
    cloud = scene.seen_by(life)
    asked = []
    for _ in range(61):
        scene.storage.clock.advance(60)
        await scene.beat("web-0")
        life.steps.clear()
        await sweep(cloud)
        asked.append(life.steps["installations query"])
        for key in reports:
            reports[key] = replace(reports[key], written_at=stored.written_at)
    assert asked[0] == 4
    assert set(asked[3:-1]) == {1}
    assert asked[-1] == 4


@pytest.mark.parametrize("what", ["rejected", "waiting_for_metadata", "scheduled", "superseded", "removed"])
async def test_an_upload_that_is_not_served_costs_no_request_of_its_own(what: str, scene: Scene) -> None:
    await live(scene)
    few = await sweep_steps(scene)
    for number in range(10):
        name, host = f"{what} {number}.pfx", f"h{number}.test"
        if what == "rejected":
            await scene.looked_at(await scene.upload(name, host, metadata={"CertificatePassword": "wrong"}))
        elif what == "waiting_for_metadata":
            await scene.looked_at(await scene.upload(name, host, metadata={}))
        elif what == "scheduled":
            await scene.accepted(name, host, day=10)
        elif what == "superseded":
            await scene.accepted(name, "a.test", day=-1 - number)
        else:
            await scene.accepted(name, host)
            await scene.looked_at(await scene.delete(name))
    await scene.everyone_obeys("web-0")
    await sweep(scene.cloud)
    many = await sweep_steps(scene)
    assert many == few


async def sweep_steps(scene: Scene) -> Counter[str]:
    """The requests of a sweep."""
    life = Mortal()
    report = await sweep(scene.seen_by(life))
    assert report.problems == []
    return life.steps
