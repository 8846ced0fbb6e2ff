"""Rows that nobody of ours wrote: each is passed over and named, and stops nothing else (on a real table service)."""

import tracemalloc
import zlib
from typing import Any

import pytest
from azure.data.tables import EdmType, EntityProperty

from shared.binding import ANY_ROLE, BindingKey
from shared.codec import MAX_UNPACKED_BYTES, from_entity
from shared.errors import BrokenMessageError, BrokenRowError
from shared.function.intake import handle_notice, recheck
from shared.function.results import fold
from shared.function.status_api import instances
from shared.function.sweep import sweep
from shared.messages import InstallReport, RecheckUpload, queue_of
from shared.state.keys import decode_key, encode_key, upload_key
from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord, UploadStatus
from shared.state.rows import UnreadableRow
from tests.rigs.attacked import Attacked
from tests.rigs.rows import registered, report_on
from tests.rigs.some import some

HOST = "a.example.com"

BAD_INSTANCES: dict[str, dict[str, Any]] = {
    "one column": {"x": "1"},
    "numbers for text": {"id": 5, "role": 5, "session": 5},
    "a year beyond all": {"last_seen": "9999-12-31T23:59:59-23:59"},
    "a number beyond 32 bits": {"bindings": EntityProperty(2**40, EdmType.INT64)},
    "another row's id": {"id": "web-0"},
    "deep JSON": {"id": "[" * 30_000},
}


def bomb_columns() -> dict[str, Any]:
    """A text of 370 MB in few bytes."""
    bomb = zlib.compress(b'"' + b"a" * 370_000_000 + b'"', 9)
    return {
        f"subject__z{number}": bomb[number * 60_000 : (number + 1) * 60_000]
        for number in range(-(-len(bomb) // 60_000))
    }


def a_row(**changes: Any) -> dict[str, Any]:
    """What an agent writes, with something wrong in it."""
    good = {
        "id": "bad",
        "role": "*",
        "host": "h",
        "target_kind": "k",
        "target_version": "1",
        "agent_version": "1",
        "session": "s",
        "started_at": "2026-01-01T00:00:00Z",
        "last_seen": "2026-01-01T00:00:00Z",
    }
    return good | changes


@pytest.mark.parametrize("columns", BAD_INSTANCES.values(), ids=BAD_INSTANCES)
async def test_an_instances_row_that_cannot_be_read_stops_no_upload_and_no_sweep(
    columns: dict[str, Any], site: Attacked, caplog: pytest.LogCaptureFixture
) -> None:
    whole = columns if "x" in columns else a_row(**columns)
    await site.write_row("instances", "instance", "bad", **whole)
    await site.join("web-0")
    record = await site.looked_at("a.pfx", HOST)
    assert (record.status, record.expected) == (UploadStatus.ACCEPTED, ("web-0",))
    assert record.etag, "the upload is complete"
    assert "CertificatePassword" not in await site.metadata("a.pfx")
    assert len(await site.account.queues.receive(queue_of("web-0"), limit=32, visibility_s=1)) == 1
    report = await sweep(site.cloud)
    assert report.problems == []
    answer = await instances(site.cloud)
    assert [each["id"] for each in answer.document["instances"]] == ["web-0"]
    assert "table instances: row instance/bad is passed over" in caplog.text
    unreadable: list[UnreadableRow] = []
    assert [each.value.id async for each in site.account.state.instances.all(unreadable=unreadable)] == ["web-0"]
    assert [(each.table, each.row) for each in unreadable] == [("instances", "bad")]


async def test_a_recheck_is_not_dropped_for_a_bad_row(site: Attacked) -> None:
    await site.write_row("instances", "instance", "bad", x="1")
    await site.upload("a.pfx", HOST)
    record = some(await recheck(site.cloud, RecheckUpload(name="a.pfx")))
    assert record.status is UploadStatus.ACCEPTED
    assert not issubclass(BrokenRowError, BrokenMessageError)


async def test_an_uploads_row_that_cannot_be_read_is_written_over_and_its_claim_goes_on(site: Attacked) -> None:
    for _ in range(3):
        await site.looked_at("a.pfx", HOST)
    before = some(await site.account.state.bindings.get(BindingKey(role=ANY_ROLE, host=HOST, port=443)))
    await site.write_row("uploads", *upload_key("a.pfx"), x="1")
    await handle_notice(site.cloud, await site.upload("a.pfx", HOST))
    record = some(await site.account.state.uploads.get("a.pfx"))
    row = some(await site.account.state.bindings.get(before.key))
    assert record.status is UploadStatus.ACCEPTED
    assert (row.bundle_id, row.source) == (record.bundle_id, "a.pfx")
    assert some(row.claim_of("a.pfx")).revision == record.revision > some(before.claim_of("a.pfx")).revision


@pytest.mark.parametrize("lost", [False, True], ids=["damaged", "deleted"])
async def test_a_bindings_row_that_is_gone_is_made_again_from_the_uploads(lost: bool, site: Attacked) -> None:  # noqa: FBT001
    await site.join("web-0")
    await site.looked_at("old.pfx", HOST)
    await site.looked_at("new.pfx", HOST)
    row = some(await site.account.state.bindings.find(BindingKey(role=ANY_ROLE, host=HOST, port=443)))
    if lost:
        await site.account.state.bindings.remove(row.value.key, row)
    else:
        await site.write_row("bindings", encode_key("*"), encode_key(row.value.key.host_port), x="1")
    report = await sweep(site.cloud)
    assert report.problems == []
    again = some(await site.account.state.bindings.get(row.value.key))
    assert (again.source, again.bundle_id) == (row.value.source, row.value.bundle_id)
    assert {claim.source for claim in again.claims} == {"old.pfx", "new.pfx"}


async def test_bundles_are_kept_while_a_row_that_may_name_them_cannot_be_read(site: Attacked) -> None:
    record = await site.looked_at("a.pfx", HOST)
    await site.account.uploads.delete("a.pfx")
    for table, key in (("uploads", upload_key("a.pfx")), ("bindings", ("=2A", encode_key(f"{HOST}:443")))):
        await site.write_row(table, *key, x="1")
    report = await sweep(site.cloud)
    assert report.problems == []
    assert await site.account.bundles.open(record.bundle_id)


async def test_a_column_that_unpacks_to_370_megabytes_is_refused_before_it_does(site: Attacked) -> None:
    await site.write_row("uploads", "blob", "bomb.pfx", name="bomb.pfx", revision=1, status="live", **bomb_columns())
    tracemalloc.start()
    try:
        record = await site.looked_at("a.pfx", HOST)
        report = await sweep(site.cloud)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert record.status is UploadStatus.ACCEPTED
    assert report.problems == []
    assert peak < 8 * MAX_UNPACKED_BYTES


@pytest.mark.parametrize(
    "columns",
    [
        {"bindings": EntityProperty(2**62, EdmType.INT64)},
        {"role": "\ud800"},
        {"last_seen": "0001-01-01T00:00:00+23:59"},
        {"ready": "yes"},
    ],
    ids=["a huge number", "half a character", "a time before all", "text for a truth"],
)
def test_whatever_stands_in_a_row_only_one_error_comes_of_it(columns: dict[str, Any]) -> None:
    with pytest.raises(BrokenRowError, match="InstanceRecord"):
        from_entity(InstanceRecord, a_row(**columns))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused_in_columns(number: str) -> None:
    text = f'{{"apply": {number}}}'
    entry = {
        "host": HOST,
        "port": 443,
        "instance": "i",
        "role": "*",
        "generation": 1,
        "source": "",
        "outcome": "live",
        "finished_at": "2026-01-01T00:00:00Z",
        "reported_at": "2026-01-01T00:00:00Z",
        "stages_ms": text,
    }
    with pytest.raises(BrokenRowError):
        from_entity(InstallationRecord, entry)


def test_deep_and_packed_columns_are_refused_and_not_recursed_into() -> None:
    deep = zlib.compress(b"[" * 1_000_000)
    row = {"name": "a", "revision": 1, "status": "live", "hosts__z0": deep}
    with pytest.raises(BrokenRowError, match="hosts"):
        from_entity(UploadRecord, row)


@pytest.mark.parametrize("name", ["a b.pfx", "größe/ü.pfx", "x=y=zz.pfx", "*.example.com:443"])
def test_a_key_is_read_back(name: str) -> None:
    assert decode_key(encode_key(name)) == name


@pytest.mark.parametrize("key", ["a b", "ü", "=zz", "=C3", "=41"])
def test_a_key_that_is_not_ours_is_told_apart(key: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_key(key)


async def test_a_report_of_an_instance_whose_row_is_damaged_waits_for_its_heartbeat(site: Attacked) -> None:
    await site.join("web-0")
    await site.looked_at("a.pfx", HOST)
    row = some(await site.account.state.bindings.get(BindingKey(role=ANY_ROLE, host=HOST, port=443)))
    report = InstallReport(instance="web-0", reports=(report_on(row, at=site.cloud.now()),))
    await site.write_row("instances", "instance", "web-0", x="1")
    await fold(site.cloud, report)
    assert [entry async for entry in site.account.state.installations.all()] == []
    record = registered("web-0", at=site.cloud.now())
    await site.account.state.instances.update("web-0", lambda _: record)
    await fold(site.cloud, report)
    assert some(await site.account.state.uploads.get("a.pfx")).status is UploadStatus.LIVE
