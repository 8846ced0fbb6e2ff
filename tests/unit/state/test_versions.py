"""Versions side by side: what 0.1.0 wrote is acted on, what is written is readable there, newer words are kept.

The recording was made by running 0.1.0's own code; what a rolling upgrade does in either order follows from these:
agents first means today's agents on rows and hints of 0.1.0 and 0.1.0's Function on today's instances and reports, the
Function first means the reverse.
"""

import json
from dataclasses import fields, replace
from typing import get_type_hints

import pytest

from operator_cli.status import read_status
from operator_cli.storage import Storage
from shared.binding import BindingKey, BindingState, Claim, DesiredBinding
from shared.bundle import bundle_id_of
from shared.codec import from_entity, to_document, to_entity
from shared.errors import BrokenMessageError, BrokenRowError
from shared.function.blob_event import Notice
from shared.function.intake import look_at
from shared.function.results import fold
from shared.function.sweep import sweep
from shared.messages import (
    RESULTS_QUEUE,
    BindingReport,
    BindingsChanged,
    EventType,
    InstallOutcome,
    InstallReport,
    OutgoingEvent,
    RecheckUpload,
    decode,
    encode,
    queue_of,
)
from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord, UploadStatus
from shared.state.tables import State
from shared.verdict import VerdictCode, Violation
from tests.fakes.edges import FakeBundles, FakeStorage
from tests.fakes.target import FakeServer
from tests.rigs.agents import agent
from tests.rigs.rows import report_on
from tests.rigs.scenes import Scene, issued
from tests.rigs.some import some
from tests.rigs.versions import RECORDED_AT, left_by_0_1_0, recorded, unreadable_to_0_1_0

STATUSES = {
    "last-year.pfx": "superseded",
    "late.pfx": "live",
    "next-week.pfx": "scheduled",
    "no-password.pfx": "waiting_for_metadata",
    "not-covered.pfx": "rejected",
    "shop/live.pfx": "live",
    "silver.pfx": "accepted",
    "wild.pfx": "live",
    "wrong-password.pfx": "rejected",
}
KINDS = {
    kind.__name__: kind
    for kind in (
        *(UploadRecord, DesiredBinding, Claim, BindingKey, InstanceRecord, InstallationRecord, Violation),
        *(BindingsChanged, RecheckUpload, InstallReport, BindingReport),
    )
}
NEWER_WORDS = {
    "VerdictCode": {"malformed_certificate", "not_allowed", "too_many_claims"},
    "EventType": {"Certcast.Test"},
}
"""Words that 0.1.0 does not know: of verdicts that it cannot come to, whose rows it does not read; and of test events,
which stand in no row."""


@pytest.fixture
def left() -> FakeStorage:
    return left_by_0_1_0()


def command(storage: FakeStorage) -> Storage:
    cloud = storage.cloud()
    return Storage(uploads=cloud.uploads, state=cloud.state, now=cloud.now)


class TestWhatIsLeft:
    async def test_is_told_of_as_it_is(self, left: FakeStorage) -> None:
        document = await read_status(command(left), None)
        assert document["unreadable_rows"] == 0
        uploads = {each["name"]: each for each in document["uploads"]}
        assert {name: each["status"] for name, each in uploads.items()} == STATUSES
        assert uploads["late.pfx"]["reason"] == "agent-1 stopped 35 min ago and had proved it before"
        assert (uploads["late.pfx"]["live"], uploads["late.pfx"]["expected"]) == (1, 1)
        assert [each["code"] for each in uploads["last-year.pfx"]["violations"]] == ["older_than_live"]
        instances = {each["id"]: (each["state"], each["bindings"]) for each in document["instances"]}
        assert instances == {"agent-0": ("running", 4), "agent-1": ("stopped", 4)}
        assert (await read_status(command(left), "gone.pfx"))["uploads"][0]["status"] == "removed"

    async def test_is_swept_without_being_looked_at_again(self, left: FakeStorage) -> None:
        report = await sweep(left.cloud())
        assert not report.problems
        assert [name for name in report.looked_at if STATUSES[name] != "waiting_for_metadata"] == []
        assert report.reaped == ["agent-1"]  # silent for more than half an hour
        uploads = (await read_status(command(left), None))["uploads"]
        assert {each["name"]: each["status"] for each in uploads} == STATUSES
        assert [each["reason"] for each in uploads if each["name"] == "late.pfx"] == [""]

    async def test_goes_on_with_what_an_agent_of_0_1_0_reports(self, left: FakeStorage) -> None:
        cloud = left.cloud()
        del left.tables["installations"]["late.example.com:443", "agent-1"]
        await cloud.state.uploads.update(
            "late.pfx", lambda record: replace(some(record), status=UploadStatus.ACCEPTED, live=1)
        )
        await cloud.state.instances.update("agent-1", lambda row: replace(some(row), stopped=False))
        await fold(cloud, decode(InstallReport, recorded()["messages"]["report"]))
        record = some(await cloud.state.uploads.get("late.pfx"))
        assert (record.status, record.live, record.total) == (UploadStatus.LIVE, 2, 2)

    async def test_is_obeyed_by_an_agent_of_today_and_its_report_is_readable_to_0_1_0(self, left: FakeStorage) -> None:
        certificate = issued("late.example.com", day=270)
        bundle_id = bundle_id_of(certificate.fingerprint, b"")
        key = BindingKey(role="*", host="late.example.com", port=443)
        state = left.state()
        row = replace(
            some(await state.bindings.get(key)),
            bundle_id=bundle_id,  # nothing that was sealed is among the recording
            fingerprint_sha256=certificate.fingerprint,
        )
        await state.bindings.update(key, lambda _: row)
        await FakeBundles(left).seal(bundle_id, certificate.bundle().to_pem())
        server = FakeServer()
        today = agent(left, "agent-9", server=server)
        await today.registration.register()
        left.put(queue_of("agent-9"), recorded()["messages"]["hint"])
        assert await today.drain() == 1
        assert server.bound["late.example.com", 443].bundle_id == bundle_id
        [message] = left.queues[RESULTS_QUEUE].values()
        document = json.loads(some(message.body))
        assert unreadable_to_0_1_0("InstallReport", document) == []
        assert [unreadable_to_0_1_0("BindingReport", each) for each in document["reports"]] == [[]]
        registered = left.tables["instances"]["instance", "agent-9"].columns
        assert unreadable_to_0_1_0("InstanceRecord", registered) == []
        assert registered["queue"] == queue_of("agent-9")


class TestWhatIsWritten:
    @pytest.mark.parametrize("name", KINDS)
    def test_has_the_types_that_0_1_0_reads(self, name: str) -> None:
        hints = get_type_hints(KINDS[name])
        found = {field.name: str(hints[field.name]) for field in fields(KINDS[name])}
        plain = {
            column: text.removeprefix("<class '").removeprefix("<enum '").removesuffix("'>")
            for column, text in found.items()
        }
        told = recorded()["columns"][name]
        missing = {column for column in told.keys() - plain.keys() if told[column]["required"]}
        assert not missing
        shared = told.keys() & plain.keys()
        changed = {
            column for column in shared if plain[column].rpartition(".")[2] != told[column]["type"].rpartition(".")[2]
        }
        assert not changed

    @pytest.mark.parametrize("kind", [UploadStatus, InstallOutcome, BindingState, EventType, VerdictCode])
    def test_has_no_words_that_0_1_0_does_not_know_but_those_of_newer_verdicts(self, kind: type) -> None:
        newer = {word.value for word in kind} - set(recorded()["words"][kind.__name__])  # type: ignore[attr-defined]
        assert newer == NEWER_WORDS.get(kind.__name__, set())

    async def test_is_readable_there_row_by_row(self, scene: Scene) -> None:
        await scene.join("web-0", "web-1")
        await scene.accepted("a.pfx", "a.example.com", "b.example.com")
        await scene.accepted("old.pfx", "a.example.com", day=-3)
        await scene.accepted("gone.pfx", "gone.example.com")
        await scene.everyone_obeys("web-0", outcome=InstallOutcome.FAILED, reason="no room")
        await look_at(
            scene.cloud, await scene.upload("bad.pfx", "a.example.com", metadata={"CertificatePassword": "no"})
        )
        await look_at(scene.cloud, await scene.upload("bare.pfx", "a.example.com", metadata={}))
        await look_at(scene.cloud, await scene.delete("gone.pfx"))
        of = {"uploads": "UploadRecord", "bindings": "DesiredBinding", "instances": "InstanceRecord"}
        for table, kind in (of | {"installations": "InstallationRecord"}).items():
            rows = scene.storage.tables[table].items()
            assert rows, table
            assert {place: wrong for place, row in rows if (wrong := unreadable_to_0_1_0(kind, row.columns))} == {}
        for message in (BindingsChanged(bindings=(BindingKey(role="*", host="a", port=1),)), RecheckUpload(name="a")):
            assert unreadable_to_0_1_0(type(message).__name__, json.loads(encode(message))) == []

    def test_by_an_older_version_over_a_newer_row_is_wholly_the_older_versions(self) -> None:
        """Rows are replaced and not merged: what a newer version noted of another state would be untrue of this one."""
        record = UploadRecord(name="a.pfx", revision=1, status=UploadStatus.LIVE)
        newer = {**to_entity(record), "newer": "about the row as it was"}
        assert from_entity(UploadRecord, newer) == record
        assert "newer" not in to_entity(from_entity(UploadRecord, newer))


class TestWordsOfANewerVersion:
    async def test_in_an_uploads_row_are_kept_shown_and_left_alone(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        row = scene.storage.tables["uploads"]["blob", "a.pfx"]
        event = OutgoingEvent(event_id="1", kind=EventType.LIVE, subject="a.pfx", at=RECORDED_AT, document="{}")
        due = {**to_document(event), "kind": "Certcast.CertificateParked"}
        violations = [{"code": "too_quiet", "detail": "It is."}]
        row.columns |= {"status": "parked", "violations": json.dumps(violations), "due": json.dumps([due])}
        record = await scene.record("a.pfx")
        assert not record.status.is_known
        assert record.due[0].kind.value == "Certcast.CertificateParked"
        assert not (await sweep(scene.cloud)).problems
        assert [event.kind.value for event in scene.storage.published][-1] == "Certcast.CertificateParked"
        after = scene.storage.tables["uploads"]["blob", "a.pfx"].columns
        assert (after["status"], json.loads(str(after["violations"])), after["due"]) == ("parked", violations, "[]")
        [told] = (await read_status(command(scene.storage), None))["uploads"]
        assert (told["status"], told["violations"]) == ("parked", violations)
        await look_at(scene.cloud, Notice(name="a.pfx", again=True))
        assert (await scene.record("a.pfx")).status.is_known

    async def test_as_an_outcome_count_as_failed_and_say_what_to_do(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("a.pfx", "a.example.com")
        item = to_document(report_on(await scene.row("a.example.com"), at=scene.storage.clock())) | {
            "outcome": "queued"
        }
        await fold(
            scene.cloud, decode(InstallReport, json.dumps({"version": 1, "instance": "web-0", "reports": [item]}))
        )
        record = await scene.record("a.pfx")
        assert record.status is UploadStatus.FAILED
        assert "web-0, a.example.com:443: outcome 'queued' is of a newer version: update the Function" in record.reason
        stored = scene.storage.tables["installations"]["a.example.com:443", "web-0"].columns
        assert stored["outcome"] == "queued"

    def test_that_are_none_are_refused(self) -> None:
        for odd in ("", "two words", "x" * 65, "\x1b[31m"):
            with pytest.raises(ValueError, match="is not a valid InstallOutcome"):
                InstallOutcome(odd)

    async def test_that_decide_what_is_bound_make_a_row_unreadable(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        row = scene.storage.tables["bindings"]["*", "a.example.com:443"]
        with pytest.raises(BrokenRowError):
            from_entity(DesiredBinding, row.columns | {"state": "parked"})


class TestOneOfMany:
    REPORT = BindingReport(
        role="*",
        host="a.example.com",
        port=443,
        generation=1,
        source="a.pfx",
        outcome=InstallOutcome.LIVE,
        finished_at=RECORDED_AT,
    )

    @pytest.mark.parametrize("broken", [None, 3, {}, {"outcome": 7}, {"port": "443"}, {"finished_at": "noon"}])
    def test_bad_reports_takes_no_other_with_it(self, broken: object, caplog: pytest.LogCaptureFixture) -> None:
        good = to_document(self.REPORT)
        bad = good | broken if isinstance(broken, dict) and broken else broken
        body = json.dumps({"version": 1, "instance": "web-0", "reports": [bad, good]})
        assert decode(InstallReport, body) == InstallReport(instance="web-0", reports=(self.REPORT,))
        assert "1 of 2 entries of a InstallReport message are left out" in caplog.text

    def test_bad_rows_of_a_hint_takes_no_other_with_it(self) -> None:
        good = {"role": "*", "host": "a.example.com", "port": 443}
        hint = decode(BindingsChanged, json.dumps({"version": 1, "bindings": [good, {"host": "b"}]}))
        assert hint.bindings == (BindingKey(**good),)  # type: ignore[arg-type]

    def test_none_that_can_be_read_is_a_broken_message(self) -> None:
        with pytest.raises(BrokenMessageError):
            decode(InstallReport, json.dumps({"version": 1, "instance": "web-0", "reports": [{}]}))


def test_the_queue_in_an_instances_row_is_not_believed() -> None:
    state: State = left_by_0_1_0().state()
    assert state is not None
    columns = recorded()["tables"]["instances"][0] | {"queue": "install-results"}
    assert from_entity(InstanceRecord, columns).queue == queue_of("agent-0")
