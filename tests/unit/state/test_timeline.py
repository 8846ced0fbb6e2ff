"""The way of one upload, by stage and instance."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shared.function.history import entry_about, with_entry
from shared.messages import InstallOutcome
from shared.state.history import HistoryKind
from shared.state.records import InstallationRecord, UploadRecord, UploadStatus
from shared.state.timeline import Moment, moment_document, timeline

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


ROW = UploadRecord(
    name="shop.pfx",
    revision=3,
    status=UploadStatus.LIVE,
    source_etag="0x8D1",
    hosts=("shop.test",),
    fingerprint_sha256="ab" * 32,
    expected=("web-0", "web-1"),
    live=2,
    total=2,
    uploaded_at=NOW,
    counted_from=NOW,
    noticed_at=after(0.2),
    judged_at=after(0.3),
    fanned_out_at=after(0.5),
    live_at=after(2),
)


def report(instance: str, at: float, host: str = "shop.test", **others: object) -> InstallationRecord:
    usual = InstallationRecord(
        host=host,
        port=443,
        instance=instance,
        role="*",
        generation=1,
        source="shop.pfx",
        outcome=InstallOutcome.LIVE,
        finished_at=after(at),
        reported_at=after(at),
        stages_ms={"probe": 4.0, "apply": 100.0},
    )
    return replace(usual, **others)  # type: ignore[arg-type]


def stages(moments: list[Moment]) -> list[tuple[str, str]]:
    return [(moment.stage, moment.instance) for moment in moments]


def test_an_upload_is_followed_from_its_uploader_to_every_instance() -> None:
    found = timeline(ROW, [report("web-1", 1.9), report("web-0", 1.5)], [])
    assert stages(found) == [
        ("uploaded", ""),
        ("noticed", ""),
        ("judged", ""),
        ("told", ""),
        ("installed", "web-0"),
        ("installed", "web-1"),
        ("live", ""),
    ]
    assert [moment.took_ms for moment in found] == [None, 200, 100, 200, 104, 104, 2000]
    assert [moment.detail for moment in found[3:5]] == ["2 instance(s)", "shop.test:443: apply 100 ms, probe 4 ms"]
    assert moment_document(found[-1]) == {
        "at": "2030-01-02T03:04:07.000000Z",
        "stage": "live",
        "instance": None,
        "detail": "2/2",
        "took_ms": 2000.0,
    }


def test_what_came_before_is_told_from_the_history_and_what_both_know_once() -> None:
    live = entry_about(ROW, HistoryKind.LIVE, at=after(2), entry_id="l", seconds=2)
    earlier = entry_about(
        replace(ROW, source_etag="0x7"), HistoryKind.LIVE, at=after(-9_000), entry_id="e", seconds=1.5
    )
    waiting = with_entry(ROW, entry_about(ROW, HistoryKind.RENEWED, at=after(0.4), entry_id="r", reason="in its place"))
    found = timeline(waiting, [], [live, earlier, waiting.past[0]])
    assert stages(found) == [
        ("live", ""),
        ("uploaded", ""),
        ("noticed", ""),
        ("judged", ""),
        ("renewed", ""),
        ("told", ""),
        ("live", ""),
    ]
    assert (found[0].detail, found[0].took_ms) == (f"version 0x7; certificate {'ab' * 8}", 1500.0)
    assert found[4].detail.startswith("in its place; version 0x8D1")


def test_hosts_of_which_an_instance_says_the_same_are_told_once_by_the_slowest() -> None:
    many = [report("web-0", 1 + n / 100, host=f"h{n}.test", stages_ms={"apply": n}) for n in range(250)]
    bad = report("web-0", 1, host="bad.test", outcome=InstallOutcome.PROBE_MISMATCH, reason="met another certificate")
    found = [moment for moment in timeline(ROW, [*many, bad], []) if moment.instance]
    assert stages(found) == [("probe_mismatch", "web-0"), ("installed", "web-0")]
    assert found[0].detail == "bad.test:443: apply 100 ms, probe 4 ms; met another certificate"
    assert (found[1].detail, found[1].took_ms) == ("h249.test:443 and 249 more: apply 249 ms", 249)


def test_a_change_behind_certcasts_back_is_told_where_it_was() -> None:
    drifted = report("web-1", 1.9, drifted_at=after(100))
    entry = entry_about(ROW, HistoryKind.DRIFT_REPAIRED, at=after(100), entry_id="d", instance="web-1")
    found = timeline(ROW, [drifted], [entry])
    assert stages(found)[-1] == ("drift_repaired", "web-1")
    assert stages(found).count(("drift_repaired", "web-1")) == 1
    assert found[-1].detail == "shop.test:443: changed behind certcast's back, put right"


def test_of_a_removed_upload_it_is_told_who_let_go_of_it_and_not_what_others_serve_since() -> None:
    gone = replace(ROW, status=UploadStatus.REMOVED, fanned_out_at=after(50))
    let_go = report("web-0", 51, source="", outcome=InstallOutcome.REMOVED)
    earlier = report("web-1", 40, source="other.pfx")
    found = timeline(gone, [let_go, earlier], [])
    assert stages(found)[-2:] == [("told", ""), ("let_go", "web-0")]
    assert (found[-2].detail, found[-2].took_ms) == ("2 instance(s), of its removal", None)
    assert ("installed", "web-0") not in stages(timeline(ROW, [replace(let_go, source="other.pfx")], []))


def test_what_was_installed_once_more_was_not_told_late() -> None:
    again = replace(ROW, fanned_out_at=after(500), counted_from=after(500), live_at=after(501))
    told = next(moment for moment in timeline(again, [], []) if moment.stage == "told")
    assert (told.detail, told.took_ms) == ("2 instance(s), once more", None)


def test_what_was_turned_down_was_told_to_no_instance() -> None:
    found = timeline(replace(ROW, status=UploadStatus.REJECTED, live_at=None), [], [])
    assert stages(found) == [("uploaded", ""), ("noticed", ""), ("judged", "")]
    assert found[-1].detail == "rejected"
