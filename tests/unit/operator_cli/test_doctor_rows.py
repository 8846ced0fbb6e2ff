"""What `certcast doctor` reads out of rows: agents and uploads that need somebody."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from operator_cli.doctor.agents import STARTS_WITHIN, agents_seen
from operator_cli.doctor.uploads import NOTICED_WITHIN, WAITS_LONG, noticed_seen, uploads_seen
from shared.messages import EventType, OutgoingEvent
from shared.ports import BlobVersion
from shared.state.findings import NAMED, Seen, Severity
from shared.state.records import SILENT_AFTER, InstanceRecord, UploadRecord, UploadStatus
from shared.state.rows import Versioned
from tests.fakes.storage import START
from tests.rigs.rows import registered

NOW = START + timedelta(hours=1)


def row(value: Any, *, ago: timedelta = timedelta()) -> Versioned[Any]:
    return Versioned(value=value, etag="e", written_at=NOW - ago)


def agent(name: str = "web-1", *, ago: timedelta = timedelta(), **others: Any) -> Versioned[InstanceRecord]:
    return row(registered(name, **{"ready": True, "bindings": 3, **others}), ago=ago)


def codes(seen: Seen) -> list[tuple[str, str, Severity]]:
    return [(finding.code, finding.about, finding.severity) for finding in seen.findings]


class TestAgents:
    def test_that_do_their_work_are_counted(self) -> None:
        seen = agents_seen([agent("a"), agent("b")], NOW)
        assert (seen.remark, seen.findings) == ("2 of 2 run", ())

    def test_none_at_all(self) -> None:
        assert codes(agents_seen([], NOW)) == [("no_agents", "agents", Severity.WRONG)]

    @pytest.mark.parametrize(
        ("found", "code", "severity", "says"),
        [
            (agent(ago=SILENT_AFTER), "silent", Severity.WRONG, "journalctl"),
            (agent(stopped=True, ago=timedelta(minutes=3)), "stopped", Severity.WARNING, "stopped 3 min ago"),
            (agent(trouble="nginx is down"), "trouble", Severity.WRONG, "nginx is down"),
            (agent(failing=2), "failing", Severity.WRONG, "2 of 5"),
            (agent(ready=False, started_at=NOW - STARTS_WITHIN), "not_ready", Severity.WRONG, "/readyz"),
            (agent(ready=False, started_at=NOW), "not_ready", Severity.WARNING, "/readyz"),
            (agent(asked_id="web-0"), "id_in_use", Severity.WARNING, "web-0"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_that_does_not_is_named_with_what_to_do(
        self, found: Versioned[InstanceRecord], code: str, severity: Severity, says: str
    ) -> None:
        seen = agents_seen([agent("well"), found], NOW)
        assert codes(seen) == [(code, "instance web-1", severity)]
        assert says in seen.findings[0].detail

    def test_old_versions_beside_newer_ones(self) -> None:
        versions = {"a": "0.9.0", "b": "0.10.0", "c": "0.10.0", "d": "a newer numbering"}
        seen = agents_seen([agent(name, agent_version=version) for name, version in versions.items()], NOW)
        assert codes(seen) == [("old_version", "instance a", Severity.WARNING)]
        assert "0.10.0" in seen.findings[0].detail

    def test_of_hundreds_the_first_are_named_and_the_rest_counted(self) -> None:
        seen = agents_seen([agent(f"web-{number}", ago=SILENT_AFTER) for number in range(300)], NOW)
        assert len(seen.findings) == NAMED + 1
        assert seen.findings[-1].detail == f"the same of {300 - NAMED} more"

    def test_whatever_others_wrote_into_a_row_is_one_printable_line(self) -> None:
        hostile = agent("\u202e<script>", trouble="x\n\x1b[2J", agent_version="9" * 500, asked_id="\n")
        for finding in agents_seen([hostile, agent("b", agent_version="1.2.3")], NOW).findings:
            assert finding.about.isprintable()
            assert finding.detail.isprintable()


def upload(**others: Any) -> Versioned[UploadRecord]:
    usual = UploadRecord(
        name="a.pfx", revision=1, status=UploadStatus.LIVE, etag="1", won=1, not_after=NOW + timedelta(days=9)
    )
    return row(replace(usual, **others))


def event(at_ago: timedelta) -> OutgoingEvent:
    return OutgoingEvent(kind=EventType.LIVE, subject="a.pfx", event_id="i", at=NOW - at_ago, document="{}")


class TestUploads:
    @pytest.mark.parametrize(
        ("found", "code", "severity", "says"),
        [
            (upload(not_after=NOW), "ended", Severity.WRONG, "upload a new one"),
            (
                upload(status=UploadStatus.ACCEPTED, total=3, live=1, fanned_out_at=NOW - WAITS_LONG),
                "waiting",
                Severity.WARNING,
                "proof from 2 of 3 instances",
            ),
            (upload(held_up="the vault", held_up_since=NOW - WAITS_LONG), "waiting", Severity.WARNING, "the vault"),
            (upload(due=(event(WAITS_LONG),)), "events_waiting", Severity.WARNING, "EventGrid Data Sender"),
            (upload(password_left="a lease"), "password_left", Severity.WARNING, "a lease"),
            (upload(tags_refused="no role"), "tags_refused", Severity.WARNING, "no role"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_that_need_somebody_are_named(
        self, found: Versioned[UploadRecord], code: str, severity: Severity, says: str
    ) -> None:
        seen = uploads_seen([upload(name="well.pfx"), found], NOW)
        assert codes(seen) == [(code, "upload a.pfx", severity)]
        assert says in seen.findings[0].detail

    @pytest.mark.parametrize(
        "found",
        [
            upload(),
            upload(status=UploadStatus.SUPERSEDED, not_after=NOW),
            upload(won=0, not_after=NOW),
            upload(status=UploadStatus.REMOVED, not_after=NOW),
            upload(status=UploadStatus.ACCEPTED, total=3, fanned_out_at=NOW - WAITS_LONG / 2),
            upload(status=UploadStatus.SCHEDULED, not_before=NOW + timedelta(days=3), judged_at=START),
            upload(due=(event(WAITS_LONG / 2),)),
        ],
        ids=lambda found: found.value.status.value,
    )
    def test_what_is_as_it_should_be_is_not_told(self, found: Versioned[UploadRecord]) -> None:
        assert uploads_seen([found], NOW).findings == ()


def blob(name: str = "a.pfx", *, etag: str = "2", ago: timedelta = NOTICED_WITHIN) -> BlobVersion:
    return BlobVersion(name=name, etag=etag, size=1, last_modified=NOW - ago, created=START, metadata={})


class TestNoticed:
    def test_what_neither_event_nor_sweep_came_to_shows_that_neither_runs(self) -> None:
        seen = noticed_seen([blob(), blob("b.pfx")], {"a.pfx": upload().value}, NOW)
        assert codes(seen) == [("not_noticed", "container certificates", Severity.WRONG)]
        assert "2 upload(s), a.pfx, b.pfx" in seen.findings[0].detail

    @pytest.mark.parametrize(
        "found",
        [
            blob(ago=NOTICED_WITHIN - timedelta(seconds=1)),
            blob("notes.txt"),
            blob(f"certcast-doctor-{7:032x}.pfx", ago=timedelta(hours=1)),
            blob(etag="1"),
            blob(etag="judged"),
            blob(etag="being judged"),
        ],
        ids=lambda found: found.name + found.etag,
    )
    def test_what_is_new_or_known_or_no_upload_is_not_told(self, found: BlobVersion) -> None:
        known = upload(source_etag="judged", judging="being judged").value
        assert noticed_seen([found], {"a.pfx": known}, NOW).findings == ()

    def test_what_was_done_with_and_has_no_row_has_lost_it(self) -> None:
        done = replace(blob(), metadata={"Certcast_Bundle": "ab/cd"})
        seen = noticed_seen([done, blob("b.pfx")], {}, NOW)
        assert codes(seen) == [("rows_lost", "table uploads", Severity.WRONG)]
        assert "1 upload(s) that were done with have no row, a.pfx" in seen.findings[0].detail
        assert noticed_seen([done], {"a.pfx": upload(etag=done.etag).value}, NOW).findings == ()

    def test_what_a_look_met_trouble_with_was_noticed(self) -> None:
        assert noticed_seen([blob()], {"a.pfx": upload(held_up="a vault").value}, NOW).findings == ()
