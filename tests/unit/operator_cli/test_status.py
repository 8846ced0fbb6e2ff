import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from rich.console import Console, Group

from operator_cli.status import read_status
from operator_cli.status_overview import Wish, overview, time_of
from operator_cli.status_tables import ago, upload_tables
from operator_cli.storage import Storage
from shared.binding import BindingKey
from shared.errors import CertcastError
from shared.messages import EventType, InstallOutcome, OutgoingEvent
from shared.state.document import Document, status_document
from shared.state.overview import Asked
from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord, UploadStatus
from shared.state.rows import Versioned
from shared.verdict import Caution, VerdictCode, Violation, WarningCode
from tests.fakes.edges import FakeStorage
from tests.rigs.rows import registered

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
LIVE = UploadRecord(
    name="shop.pfx",
    revision=1,
    status=UploadStatus.LIVE,
    hosts=("www.example.com",),
    live=3,
    total=3,
    not_after=NOW + timedelta(days=30),
    uploaded_at=NOW - timedelta(seconds=2),
    counted_from=NOW - timedelta(seconds=1.2),
    live_at=NOW,
)
INSTANCE = registered("web-0", role="web", bindings=2, ready=True, last_seen=NOW - timedelta(seconds=3))


def seen(record: InstanceRecord, written_at: datetime = NOW) -> Versioned[InstanceRecord]:
    return Versioned(value=record, etag="1", written_at=written_at)


def opened(storage: FakeStorage) -> Storage:
    cloud = storage.cloud()
    return Storage(uploads=cloud.uploads, state=cloud.state, now=cloud.now)


def drawn(document: Document, *, width: int = 200, colour: Literal["standard"] | None = None) -> str:
    """One upload that was asked for, or all."""
    console = Console(width=width, force_terminal=colour is not None, color_system=colour)
    with console.capture() as capture:
        if any("installations" in upload for upload in document["uploads"]):
            console.print(upload_tables(document, time_of(document)))
        else:
            console.print(Group(*overview(document, Wish(asked=Asked())).parts))
    return capture.get()


def test_the_document_has_the_promised_keys_and_is_json() -> None:
    document = json.loads(json.dumps(status_document([LIVE], [seen(INSTANCE)], now=NOW)))
    upload, listed = document["uploads"][0], document["instances"][0]
    assert (
        upload.items()
        >= {
            "name": "shop.pfx",
            "status": "live",
            "hosts": ["www.example.com"],
            "violations": [],
            "live": 3,
            "expected": 3,
            "seconds_to_live": 1.2,
            "not_after": "2030-02-01T03:04:05Z",
        }.items()
    )
    assert listed.items() >= {"id": "web-0", "role": "web", "ready": True, "alive": True}.items()
    assert listed["last_seen"] == "2030-01-02T03:04:05.000000Z"  # by the service's clock, whatever the instance says


def test_reasons_are_told_with_code_and_detail() -> None:
    violation = Violation(code=VerdictCode.EXPIRED, detail="It ended.")
    rejected = UploadRecord(name="a.pfx", revision=1, status=UploadStatus.REJECTED, violations=(violation,))
    document = status_document([rejected], [], now=NOW)
    assert document["uploads"][0]["violations"] == [{"code": "expired", "detail": "It ended."}]
    assert document["uploads"][0]["not_after"] is None
    assert "expired: It ended." in drawn(document)


@pytest.mark.parametrize(("live", "shown"), [(0, []), (1, ["shop.pfx"])])
def test_a_removed_upload_is_shown_as_long_as_an_instance_serves_it(live: int, shown: list[str]) -> None:
    removed = dataclasses.replace(LIVE, status=UploadStatus.REMOVED, live=live)
    assert [upload["name"] for upload in status_document([removed], [], now=NOW)["uploads"]] == shown
    assert len(status_document([removed], [], now=NOW, asked_for=True)["uploads"]) == 1


def test_uploads_and_instances_are_sorted() -> None:
    uploads = [dataclasses.replace(LIVE, name=name) for name in ("b.pfx", "a.pfx")]
    instances = [seen(dataclasses.replace(INSTANCE, id=name)) for name in ("web-1", "web-0")]
    document = status_document(uploads, instances, now=NOW)
    assert [upload["name"] for upload in document["uploads"]] == ["a.pfx", "b.pfx"]
    assert [instance["id"] for instance in document["instances"]] == ["web-0", "web-1"]


@pytest.mark.parametrize(
    ("record", "written_at", "state"),
    [
        (INSTANCE, NOW, "ready"),
        (dataclasses.replace(INSTANCE, ready=False), NOW, "starting"),
        (dataclasses.replace(INSTANCE, stopped=True), NOW, "stopped"),
        (INSTANCE, NOW - timedelta(minutes=5), "silent"),
    ],
)
def test_an_instances_state_is_one_word(record: InstanceRecord, written_at: datetime, state: str) -> None:
    line = next(
        line
        for line in drawn(status_document([], [seen(record, written_at)], now=NOW)).splitlines()
        if line.split()[:1] == ["web-0"]
    )
    assert line.split()[1] == state


def test_names_from_outside_cannot_steer_the_terminal() -> None:
    nasty = dataclasses.replace(LIVE, name="\x1b[31mred\x9b2J[bold]x[/bold].pfx", reason="line\nbreak\x1b]0;title\x07")
    text = drawn(status_document([nasty], [], now=NOW))
    assert not {"\x1b", "\x9b", "\x07"} & set(text)
    assert "[bold]x[/bold]" in text


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (timedelta(seconds=-2), "0 s ago"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(minutes=3), "3 min ago"),
        (timedelta(hours=5), "5 h ago"),
        (timedelta(days=2), "2 d ago"),
    ],
)
def test_how_long_ago_is_told_in_one_unit(before: timedelta, text: str) -> None:
    assert ago((NOW - before).isoformat(), NOW) == text


async def test_a_named_upload_comes_with_what_each_instance_reported() -> None:
    storage = opened(FakeStorage())
    state = storage.tables
    record = dataclasses.replace(LIVE, claims=(BindingKey(role="*", host="www.example.com", port=443),))
    await state.uploads.update("shop.pfx", lambda _: record)
    for instance in ("web-1", "web-0"):
        report = InstallationRecord(
            host="www.example.com",
            port=443,
            instance=instance,
            role="*",
            generation=4,
            source="shop.pfx",
            outcome=InstallOutcome.LIVE,
            finished_at=NOW,
            reported_at=NOW,
            stages_ms={"apply": 2.5},
        )
        await state.installations.update(("www.example.com", 443, instance), lambda _, report=report: report)  # type: ignore[misc]
    document = await read_status(storage, "shop.pfx")
    installations = document["uploads"][0]["installations"]
    assert [item["instance"] for item in installations] == ["web-0", "web-1"]
    assert installations[0]["stages_ms"] == {"apply": 2.5}
    assert "www.example.com:443" in drawn(document)


async def test_a_removed_upload_is_shown_when_named_and_an_unknown_one_is_an_error() -> None:
    storage = opened(FakeStorage())
    state = storage.tables
    removed = dataclasses.replace(LIVE, status=UploadStatus.REMOVED, live=0)
    await state.uploads.update("shop.pfx", lambda _: removed)
    assert (await read_status(storage, None))["uploads"] == []
    assert (await read_status(storage, "shop.pfx"))["uploads"][0]["status"] == "removed"
    with pytest.raises(CertcastError, match=r"no upload 'other\.pfx' is known"):
        await read_status(storage, "other.pfx")


def named(record: UploadRecord) -> Document:
    document = status_document([record], [], now=NOW)
    document["uploads"][0]["installations"] = []
    return document


def test_people_see_what_has_waited_for_more_than_a_minute_and_since_when() -> None:
    waits = dataclasses.replace(LIVE, status=UploadStatus.ACCEPTED, live=1, fanned_out_at=NOW - timedelta(seconds=59))
    assert "Waits for" not in drawn(named(waits))
    waits = dataclasses.replace(waits, fanned_out_at=NOW - timedelta(seconds=200))
    assert "Waits for proof from 2 of 3 instances; since 3 min." in drawn(named(waits))


def test_people_see_that_the_topic_takes_no_events() -> None:
    due = OutgoingEvent(
        event_id="1", kind=EventType.LIVE, subject=LIVE.name, at=NOW - timedelta(hours=2), document="{}", traceparent=""
    )
    assert "1 event(s) about it wait for topic or webhook; since 2 h." in drawn(
        named(dataclasses.replace(LIVE, due=(due,)))
    )


def test_warnings_stand_apart_from_reasons_and_are_yellow() -> None:
    warned = dataclasses.replace(
        LIVE, reason="expired", warnings=(Caution(code=WarningCode.UNKNOWN_METADATA, detail="Did you mean Role?"),)
    )
    assert "expired warning: Did you mean Role?" in drawn(named(warned))
    assert "\x1b[33mwarning: Did you mean Role?" in drawn(named(warned), colour="standard")
    assert "Did you mean" in drawn(status_document([warned], [], now=NOW))


def test_the_chain_of_an_upload_that_is_asked_for_is_shown_with_the_leaf_first() -> None:
    chained = dataclasses.replace(LIVE, chain=("CN=www.example.com", "CN=Intermediate"))
    lines = [line.split() for line in drawn(named(chained)).splitlines()]
    at = lines.index(["chain", "CN=www.example.com"])
    assert lines[at + 1] == ["CN=Intermediate"]
    assert "CN=Intermediate" not in drawn(status_document([chained], [], now=NOW))


def test_of_a_bad_renewal_people_see_what_to_do_and_what_stays_in_place() -> None:
    violation = Violation(code=VerdictCode.INVALID_METADATA, detail="No CertificatePassword is set.")
    bad = dataclasses.replace(
        LIVE, status=UploadStatus.REJECTED, violations=(violation,), reason="invalid_metadata; the one before stays"
    )
    text = " ".join(drawn(named(bad)).split())
    assert "invalid_metadata: No CertificatePassword is set. invalid_metadata; the one before stays" in text


async def test_a_blob_that_was_not_noticed_is_told_from_one_that_is_not_there() -> None:
    storage = opened(FakeStorage())
    for name in ("late.pfx", "notes.txt"):
        await storage.uploads.write(name, b"", {})
    for name, said in (
        ("late.pfx", "was written at 2026-03-01T12:00:00Z, and the Function has not noticed it yet, .* is it running"),
        ("notes.txt", "blob 'notes.txt' is not looked at: names of uploads end in .pfx or .p12"),
        ("none.pfx", "no upload 'none.pfx' is known"),
    ):
        with pytest.raises(CertcastError, match=said):
            await read_status(storage, name)


def test_what_an_older_function_answers_is_drawn_without_what_it_lacks() -> None:
    document = status_document([LIVE], [seen(INSTANCE)], now=NOW)
    newer = {
        "as_of",
        "state",
        "trouble",
        "asked_id",
        "drifted_at",
        "warnings",
        "chain",
        "waiting_for",
        "events_waiting",
    }
    older = {
        key: [{name: value for name, value in each.items() if name not in newer} for each in entries]
        for key, entries in document.items()
        if key not in newer
    }
    assert "web-0" in drawn(older)


def test_trouble_and_since_when_an_instance_is_gone_are_shown_beside_it() -> None:
    gone = NOW - timedelta(minutes=4)
    known = [
        seen(dataclasses.replace(INSTANCE, trouble="nginx: [emerg] unknown directive")),
        seen(dataclasses.replace(INSTANCE, id="web-1", bindings=7), gone),
        seen(dataclasses.replace(INSTANCE, id="web-2", stopped=True), gone),
    ]
    document = status_document([], known, now=NOW)
    lines = {line.split()[0]: " ".join(line.split()) for line in drawn(document).splitlines() if "web-" in line}
    assert lines["web-0"] == "web-0 trouble web fake 2 0 0 s ago nginx: [emerg] unknown directive"
    assert lines["web-1"].startswith("web-1 silent since 03:00:05 UTC web fake (7) 0 4 min ago")
    assert lines["web-2"].startswith("web-2 stopped 4 min ago web fake (2) 0 4 min ago")
    assert [each["state"] for each in document["instances"]] == ["running", "silent", "stopped"]


async def test_reports_of_instances_that_do_not_run_are_shown_as_such() -> None:
    report = {
        "host": "a.example.com",
        "port": 443,
        "outcome": "live",
        "stages_ms": {},
        "reason": "",
    }
    document = status_document([LIVE], [seen(INSTANCE, NOW - timedelta(minutes=4))], now=NOW)
    document["uploads"][0]["installations"] = [report | {"instance": name} for name in ("web-0", "web-9")]
    text = " ".join(drawn(document).split())
    assert "web-0 (silent since 03:00:05 UTC) live" in text
    assert "web-9 (no longer registered) live" in text
