"""Entries of the history: bounded, placed newest first, written once however often they are written."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codec import from_entity, to_document, to_entity
from shared.function.history import entry_about, with_entry, without_entries
from shared.messages import EventType
from shared.state.history import (
    HOSTS_CHARS,
    KEPT_FOR,
    MAX_PAST,
    HistoryEntry,
    HistoryKind,
    days_back,
    first_day_kept,
    history_document,
)
from shared.state.keys import MAX_KEY_CHARS, history_row
from shared.state.records import UploadRecord, UploadStatus
from shared.verdict import VerdictCode, Violation

NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ROW = UploadRecord(
    name="shop.pfx",
    revision=3,
    status=UploadStatus.LIVE,
    source_etag="0x8D1",
    hosts=("shop.test", "www.shop.test"),
    port=8443,
    subject="CN=shop.test",
    fingerprint_sha256="ab" * 32,
    not_after=NOW + timedelta(days=90),
    traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
)
ENTRY = entry_about(ROW, HistoryKind.LIVE, at=NOW, entry_id="a1", seconds=1.25)
HOSTILE = st.text(alphabet=st.characters(codec="utf-8"), max_size=2_000)


def entry(minutes: float, name: str = "b2") -> HistoryEntry:
    return replace(ENTRY, at=NOW + timedelta(minutes=minutes), id=name)


def test_an_entry_tells_what_certificate_of_which_version_it_is_about() -> None:
    assert history_document(ENTRY) == {
        "id": "a1",
        "at": "2030-01-02T03:04:05.678901Z",
        "kind": "live",
        "event_type": "Certcast.CertificateLive",
        "name": "shop.pfx",
        "version": "0x8D1",
        "hosts": ["shop.test", "www.shop.test"],
        "hosts_total": 2,
        "port": 8443,
        "subject": "CN=shop.test",
        "fingerprint_sha256": "ab" * 32,
        "not_after": "2030-04-02T03:04:05Z",
        "seconds": 1.25,
        "reason": "",
        "instance": None,
        "traceparent": ROW.traceparent,
    }


def test_why_an_upload_was_turned_down_is_told_in_its_violations_words() -> None:
    refused = replace(ROW, violations=(Violation(code=VerdictCode.EXPIRED, detail="It ended in May."),))
    assert entry_about(refused, HistoryKind.REJECTED, at=NOW, entry_id="a").reason == "expired: It ended in May."
    kept = replace(refused, reason="expired; the certificate accepted before stays in place")
    assert entry_about(kept, HistoryKind.REJECTED, at=NOW, entry_id="a").reason == kept.reason
    assert entry_about(kept, HistoryKind.RENEWED, at=NOW, entry_id="a", reason="").reason == ""


def test_each_event_type_is_told_by_some_kind_and_only_drifts_are_told_to_no_other_service() -> None:
    assert {kind.event_type for kind in HistoryKind} == {*EventType, None} - {EventType.TEST}
    assert [kind for kind in HistoryKind if kind.event_type is None] == [HistoryKind.DRIFT_REPAIRED]
    assert HistoryKind("of_a_newer_version").event_type is None


def test_an_entry_comes_back_from_the_table_as_it_was_written() -> None:
    assert from_entity(HistoryEntry, to_entity(ENTRY)) == ENTRY
    assert from_entity(UploadRecord, to_entity(replace(ROW, past=(ENTRY, entry(1))))).past == (ENTRY, entry(1))


def test_a_row_of_a_newer_version_and_one_without_a_past_can_be_read() -> None:
    newer = to_entity(ENTRY) | {"kind": "praised", "stars": 5}
    assert from_entity(HistoryEntry, newer).kind.value == "praised"
    older = {name: value for name, value in to_entity(ROW).items() if name != "past"}
    assert from_entity(UploadRecord, older) == ROW


@given(reason=HOSTILE, subject=HOSTILE, instance=HOSTILE, hosts=st.lists(HOSTILE, max_size=20), name=HOSTILE)
def test_an_entry_is_small_whatever_the_upload_holds(
    reason: str, subject: str, instance: str, hosts: list[str], name: str
) -> None:
    found = HistoryEntry(
        id=name,
        at=NOW,
        kind=HistoryKind.REJECTED,
        name="x" * 1_024,
        version=name,
        hosts=tuple(hosts),
        subject=subject,
        fingerprint_sha256=reason,
        reason=reason,
        instance=instance,
        traceparent=reason,
    )
    assert sum(len(str(value)) for value in to_document(found).values()) < HOSTS_CHARS + 2_800
    assert all(
        found.__getattribute__(each).isprintable() for each in ("reason", "subject", "instance", "id", "version")
    )
    assert found.hosts == tuple(hosts[: len(found.hosts)])
    assert found.hosts_total == len(hosts)
    assert len(found.place[1]) <= MAX_KEY_CHARS


def test_the_hosts_of_an_entry_are_counted_also_where_they_are_cut() -> None:
    many = replace(ENTRY, hosts=tuple(f"host-{n:03d}.example.com" for n in range(250)), hosts_total=0)
    assert len(many.hosts) == HOSTS_CHARS // len("host-000.example.com")
    again = from_entity(HistoryEntry, to_entity(many))
    assert (again.hosts_total, again) == (250, many)


def test_entries_stand_newest_first_in_the_day_of_their_moment() -> None:
    moments = [NOW, NOW + timedelta(microseconds=1), NOW + timedelta(seconds=1), NOW + timedelta(hours=20)]
    assert sorted(moments, key=history_row) == sorted(moments, reverse=True)
    east = timezone(timedelta(hours=14))
    day, row = entry(0).place
    assert (day, row) == ("2030-01-02", f"{history_row(NOW)}-b2")
    assert replace(entry(0), at=NOW.astimezone(east)).place == (day, row)
    assert len(history_row(datetime(1, 1, 1, tzinfo=UTC))) >= len(history_row(datetime(9999, 1, 1, tzinfo=UTC)))


def test_an_entry_waits_once_and_in_order_in_its_uploads_row() -> None:
    once = with_entry(ROW, ENTRY)
    assert with_entry(once, ENTRY) == once
    same_moment = with_entry(once, entry(0))
    assert [each.id for each in same_moment.past] == ["a1", "b2"]
    assert same_moment.past[1].at - NOW == timedelta(microseconds=1)


def test_beyond_twenty_the_oldest_entries_are_dropped() -> None:
    row = ROW
    for number in range(MAX_PAST + 5):
        row = with_entry(row, entry(number, f"id{number}"))
    assert [each.id for each in row.past] == [f"id{number}" for number in range(5, MAX_PAST + 5)]
    assert replace(ROW, past=(*row.past, ENTRY)).past[-1] == ENTRY
    assert len(replace(ROW, past=(*row.past, ENTRY)).past) == MAX_PAST


def test_what_was_written_is_taken_out_and_what_came_meanwhile_stays() -> None:
    row = with_entry(with_entry(ROW, ENTRY), entry(1))
    assert without_entries(row, [ENTRY]).past == (entry(1),)
    assert without_entries(row, []) is row


@pytest.mark.parametrize(("hours", "days"), [(0, ["2030-01-02"]), (4, ["2030-01-02", "2030-01-01"]), (-1, [])])
def test_days_are_gone_through_from_the_newest_back(hours: float, days: list[str]) -> None:
    oldest = NOW - timedelta(hours=hours) if hours >= 0 else NOW + timedelta(days=1)
    assert [*days_back(NOW, oldest)] == days


def test_ninety_days_are_kept_and_the_one_under_way() -> None:
    assert [*days_back(NOW, NOW - KEPT_FOR)][-1] == first_day_kept(NOW).isoformat() == "2029-10-04"
