"""Whether all is served, what needs somebody, and what is asked for: over entries of the status document."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.state.document import Document, instance_document, upload_document
from shared.state.overview import (
    SORTS,
    Asked,
    Summary,
    chosen,
    instance_needs_somebody,
    length_of,
    needs_somebody,
)
from shared.state.records import UploadRecord, UploadStatus
from shared.state.rows import Versioned
from tests.rigs.rows import registered

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
LIVE = UploadRecord(
    name="shop.pfx",
    revision=1,
    status=UploadStatus.LIVE,
    hosts=("www.example.com",),
    live=12,
    total=12,
    not_after=NOW + timedelta(days=60),
    uploaded_at=NOW - timedelta(seconds=2),
    counted_from=NOW - timedelta(seconds=1.2),
    live_at=NOW,
    fanned_out_at=NOW,
)


def entry(name: str = "shop.pfx", **others: Any) -> Document:
    return upload_document(replace(LIVE, name=name, **others))


def instance(name: str, *, written_at: datetime = NOW, **others: Any) -> Document:
    return instance_document(Versioned(value=registered(name, **others), etag="1", written_at=written_at), now=NOW)


FLEET = [instance(f"web-{number}", ready=True) for number in range(12)]


def line(uploads: list[Document], instances: list[Document] = FLEET) -> str:
    return Summary.of(uploads, instances, now=NOW).line


class TestTheLine:
    def test_says_what_there_is_to_say(self) -> None:
        uploads = [entry(f"{number}.pfx") for number in range(494)]
        uploads += [entry(f"end-{number}.pfx", not_after=NOW + timedelta(days=3)) for number in range(3)]
        uploads += [entry(name, status=UploadStatus.REJECTED) for name in ("a.pfx", "b.pfx")]
        uploads += [entry("c.pfx", status=UploadStatus.PARTIALLY_LIVE, live=11)]
        silent = instance("web-7b", written_at=NOW - timedelta(minutes=2))
        assert line(uploads, [*FLEET, silent]) == (
            "497 of 500 live on 12/12; 2 rejected, 1 partially live; 3 end within 14 days; "
            "instance web-7b silent for 2 min"
        )

    def test_is_short_where_all_is_well(self) -> None:
        assert line([entry()]) == "1 of 1 live on 12/12"

    @pytest.mark.parametrize(
        ("uploads", "said"),
        [
            ([], "no uploads"),
            ([entry(status=UploadStatus.SUPERSEDED)], "nothing to be served now; 1 superseded"),
            ([entry(), entry("old.pfx", status=UploadStatus.SUPERSEDED)], "1 of 1 live on 12/12; 1 superseded"),
            ([entry(), entry(live=3, total=3)], "2 of 2 live on 3/3 to 12/12"),
            ([entry(live=0, total=0)], "0 of 1 live; 1 live on no instance that runs"),
            ([entry(not_after=NOW)], "1 of 1 live on 12/12; 1 has ended"),
            ([entry(not_after=NOW + timedelta(days=14))], "1 of 1 live on 12/12; 1 ends within 14 days"),
            ([entry(not_after=NOW, status=UploadStatus.SUPERSEDED)], "nothing to be served now; 1 superseded"),
            ([entry(drifted_at=NOW)], "1 of 1 live on 12/12; 1 was changed by something else within a day"),
            ([entry(drifted_at=NOW - timedelta(days=2))], "1 of 1 live on 12/12"),
            ([entry(status=UploadStatus.WAITING_FOR_METADATA)], "0 of 1 live; 1 waiting for metadata"),
            ([entry(status=UploadStatus("resting"))], "0 of 1 live; 1 resting"),
        ],
    )
    def test_of_uploads(self, uploads: list[Document], said: str) -> None:
        found = line(uploads)
        assert found.removesuffix("; 1 has waited for more than a minute") == said

    @pytest.mark.parametrize(
        ("instances", "said"),
        [
            ([], "no uploads; no instance is registered"),
            ([instance("web-0", stopped=True)], "no uploads; no instance runs"),
            (
                [instance("web-0", ready=True), instance("web-1", trouble="nginx")],
                "no uploads; instance web-1 in trouble",
            ),
            (
                [instance("web-0", failing=2), instance("web-1", failing=1)],
                "no uploads; instances web-0, web-1 failing",
            ),
            (
                [
                    instance("w", ready=True),
                    *[instance(f"web-{n}", written_at=NOW - timedelta(minutes=2 + n)) for n in range(5)],
                ],
                "no uploads; instances web-0, web-1, web-2 and 2 more silent for 2 min or longer",
            ),
        ],
    )
    def test_of_instances(self, instances: list[Document], said: str) -> None:
        assert line([], instances) == said

    def test_of_an_instance_that_has_joined_and_is_not_through_yet(self) -> None:
        assert line([entry()], [*FLEET, instance("new")]) == "1 of 1 live on 12/12; instance new not ready yet"

    def test_has_no_letters_that_steer_a_terminal(self) -> None:
        found = line([entry(status=UploadStatus("word"))], [instance("a\x1b[2J\u202e", failing=1)])
        assert found.isprintable()
        assert "a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}" in found


@pytest.mark.parametrize(
    ("uploads", "is_so"),
    [
        ([], True),
        ([entry()], True),
        ([entry(), entry(status=UploadStatus.SUPERSEDED), entry(status=UploadStatus.SCHEDULED)], True),
        ([entry(), entry(status=UploadStatus.REJECTED)], False),
        ([entry(), entry(status=UploadStatus.ACCEPTED)], False),
        ([entry(live=0, total=0)], False),
        ([entry(not_after=NOW)], False),
    ],
)
def test_all_are_served_when_each_that_should_be_is_proved_and_valid(uploads: list[Document], *, is_so: bool) -> None:
    assert Summary.of(uploads, FLEET, now=NOW).all_served is is_so


def test_the_summary_is_json_that_has_the_line() -> None:
    document = json.loads(json.dumps(Summary.of([entry()], FLEET, now=NOW).document))
    assert document["line"] == "1 of 1 live on 12/12"
    assert (document["uploads"], document["served"], document["by_status"]) == (1, 1, {"live": 1})
    assert (document["all_served"], document["silent"]) == (True, [])


@pytest.mark.parametrize(
    ("record", "is_so"),
    [
        ({}, False),
        ({"status": UploadStatus.REJECTED}, True),
        ({"status": UploadStatus.FAILED}, True),
        ({"status": UploadStatus.PARTIALLY_LIVE}, True),
        ({"status": UploadStatus.SUPERSEDED}, False),
        ({"status": UploadStatus.SUPERSEDED, "not_after": NOW}, False),
        ({"status": UploadStatus.ACCEPTED}, False),
        ({"status": UploadStatus.ACCEPTED, "fanned_out_at": NOW - timedelta(minutes=1)}, True),
        ({"status": UploadStatus.SCHEDULED, "not_before": NOW + timedelta(days=9)}, False),
        ({"status": UploadStatus.WAITING_FOR_METADATA, "judged_at": NOW}, False),
        ({"status": UploadStatus.WAITING_FOR_METADATA, "judged_at": NOW - timedelta(hours=1)}, True),
        ({"held_up": "the vault did not answer", "held_up_since": NOW - timedelta(hours=1)}, True),
        ({"status": UploadStatus.REMOVED, "live": 0}, False),
        ({"status": UploadStatus.REMOVED, "live": 1, "fanned_out_at": NOW - timedelta(hours=1)}, True),
        ({"not_after": NOW + timedelta(days=14)}, True),
        ({"not_after": NOW + timedelta(days=14, seconds=1)}, False),
        ({"not_after": datetime.max.replace(tzinfo=UTC)}, False),
        ({"live": 0, "total": 0}, True),
    ],
)
def test_what_needs_somebody(record: dict[str, Any], *, is_so: bool) -> None:
    assert needs_somebody(entry(**record), now=NOW) is is_so


def test_instances_that_need_somebody_are_silent_troubled_or_failing() -> None:
    away = NOW - timedelta(minutes=2)
    found = [
        instance("well", ready=True),
        instance("starting"),
        instance("stopped", stopped=True, failing=3),
        instance("silent", written_at=away),
        instance("troubled", trouble="nginx"),
        instance("failing", failing=1),
    ]
    assert [each["id"] for each in found if instance_needs_somebody(each)] == ["silent", "troubled", "failing"]


def names(uploads: list[Document], asked: Asked, instances: list[Document] = FLEET) -> list[str]:
    return [upload["name"] for upload in chosen(uploads, asked, now=NOW, instances=instances).shown]


class TestAsking:
    UPLOADS = (
        entry("shops/a.pfx", hosts=("a.example.com",), role="web"),
        entry("shops/b.pfx", hosts=("*.example.com",), status=UploadStatus.PARTIALLY_LIVE, live=9),
        entry("c.pfx", hosts=("c.example.org",), role="api", not_after=NOW + timedelta(days=5)),
        entry("d.pfx", hosts=(), status=UploadStatus.REJECTED, not_after=NOW),
    )

    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            (Asked(), ["c.pfx", "d.pfx", "shops/a.pfx", "shops/b.pfx"]),
            (Asked(prefix="shops/"), ["shops/a.pfx", "shops/b.pfx"]),
            (Asked(host="A.example.com"), ["shops/a.pfx", "shops/b.pfx"]),
            (Asked(host="www.a.example.com"), []),
            (Asked(host=".example.com"), ["shops/a.pfx", "shops/b.pfx"]),
            (Asked(host="example"), ["c.pfx", "shops/a.pfx", "shops/b.pfx"]),
            (Asked(host="*.example.com"), ["shops/b.pfx"]),
            (Asked(failed=True), ["d.pfx", "shops/b.pfx"]),
            (Asked(expiring=timedelta(days=5)), ["c.pfx"]),
            (Asked(expiring=timedelta(days=4)), []),
            (Asked(statuses=frozenset({"live", "rejected"}), prefix="d"), ["d.pfx"]),
            (Asked(limit=2, offset=1), ["d.pfx", "shops/a.pfx"]),
            (Asked(sort="name", descending=True, limit=1), ["shops/b.pfx"]),
        ],
    )
    def test_chooses_among_uploads(self, asked: Asked, found: list[str]) -> None:
        assert names([*self.UPLOADS], asked) == found

    def test_the_total_is_of_all_pages(self) -> None:
        assert chosen(self.UPLOADS, Asked(prefix="shops/", limit=1), now=NOW, instances=FLEET).total == 2

    def test_an_instance_stands_for_what_concerns_it_by_its_role(self) -> None:
        fleet = [instance("api-0", role="api"), instance("web-0", role="web")]
        assert names([*self.UPLOADS], Asked(instance="api-0"), fleet) == ["c.pfx", "d.pfx", "shops/b.pfx"]
        assert names([*self.UPLOADS], Asked(instance="web-9"), fleet) == []

    def test_with_failed_an_instance_stands_for_what_it_does_not_serve(self) -> None:
        uploads = [entry("a.pfx") | {"missing": ["web-0"]}, entry("b.pfx") | {"missing": ["web-1"]}]
        assert names(uploads, Asked(instance="web-0", failed=True)) == ["a.pfx"]
        assert names(uploads, Asked(instance="gone", failed=True)) == []

    def test_an_older_function_tells_it_by_the_reason_alone(self) -> None:
        older = {key: value for key, value in entry("a.pfx").items() if key != "missing"}
        older["reason"] = "web-0 has not proved it (told 14 s ago, last seen 40 s ago)"
        assert names([older], Asked(instance="web-0", failed=True)) == ["a.pfx"]


@pytest.mark.parametrize(
    ("sort", "up", "down"),
    [
        ("name", "abcd", "dcba"),
        ("status", "cbad", "dabc"),
        ("host", "bcad", "acbd"),
        ("live", "bcad", "adcb"),
        ("expiry", "bacd", "cabd"),
        ("time", "bacd", "abcd"),
        ("changed", "bacd", "cabd"),
    ],
)
def test_every_order_goes_both_ways_and_leaves_what_has_no_value_to_the_end(sort: str, up: str, down: str) -> None:
    empty: dict[str, Any] = {"live_at": None, "not_after": None, "hosts": (), "uploaded_at": None}
    uploads = [
        entry("a", hosts=("c",)),
        entry("b", hosts=("a",), status=UploadStatus.REJECTED, live=1, live_at=None, not_after=NOW),
        entry("c", hosts=("b",), status=UploadStatus.FAILED, live=6, not_after=NOW + timedelta(days=90)),
        entry("d", **empty, status=UploadStatus.REMOVED),
    ]
    uploads[0]["seconds_to_live"], uploads[1]["seconds_to_live"], uploads[2]["seconds_to_live"] = 3, 2, None
    uploads[2]["drifted_at"] = "2031-01-01T00:00:00.000000Z"
    assert set(SORTS) >= {sort}
    for descending, expected in ((False, up), (True, down)):
        assert "".join(names(uploads, Asked(sort=sort, descending=descending))) == expected, descending


def test_every_order_has_such_a_test() -> None:
    assert set(SORTS) == {"name", "status", "host", "live", "expiry", "time", "changed"}


class TestAQuery:
    def test_is_read_whole(self) -> None:
        query = {
            "host": " a.example.com ",
            "instance": "web-0",
            "prefix": "shops/",
            "status": "live, failed",
            "failed": "true",
            "expiring": "14d",
            "sort": "-expiry",
            "limit": "50",
            "offset": "100",
            "code": "of the function",
        }
        assert Asked.of(query) == Asked(
            host="a.example.com",
            instance="web-0",
            prefix="shops/",
            statuses=frozenset({"live", "failed"}),
            failed=True,
            expiring=timedelta(days=14),
            sort="expiry",
            descending=True,
            limit=50,
            offset=100,
        )

    def test_of_empty_values_asks_for_all(self) -> None:
        assert Asked.of(dict.fromkeys(("host", "status", "failed", "expiring", "sort", "limit"), " ")) == Asked()

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("expiring", "soon", "expiring must be a length of time such as 14d, 12h or 30m"),
            ("expiring", "-1d", "expiring must be"),
            ("sort", "colour", "sort must be one of name, status, host, live, expiry, time, changed"),
            ("sort", "--name", "sort must be"),
            ("failed", "yes", "failed must be true or false"),
            ("limit", "0", "limit must be a whole number from 1"),
            ("limit", "9" * 5000, "limit must be"),
            ("offset", "-1", "offset must be a whole number"),
            ("offset", "\u0663", "offset must be a whole number"),
            ("host", "a" * 1101, "host must be a text of 1100 characters at most"),
        ],
    )
    def test_with_a_mistake_is_refused_with_a_sentence(self, key: str, value: str, said: str) -> None:
        found = Asked.of({key: value})
        assert isinstance(found, str)
        assert found.startswith(said)

    @given(
        st.dictionaries(st.sampled_from(["host", "status", "sort", "limit", "offset", "expiring", "prefix"]), st.text())
    )
    def test_never_fails_whatever_is_written_in_it(self, query: dict[str, str]) -> None:
        found = Asked.of(query)
        if isinstance(found, Asked):
            chosen([entry(hosts=("a.example.com", "*.example.com"))], found, now=NOW, instances=FLEET)
        else:
            assert found.isprintable()

    def test_is_narrowed_by_what_uploads_are_and_not_by_where_they_stand(self) -> None:
        assert Asked(failed=True).is_narrowed
        assert not Asked(limit=3, offset=2, sort="expiry", descending=True).is_narrowed


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("14d", timedelta(days=14)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("45s", timedelta(seconds=45)),
        ("d", None),
        ("1.5d", None),
        ("999999d", None),
        ("14 d", None),
    ],
)
def test_a_length_of_time_has_one_unit(text: str, length: timedelta | None) -> None:
    assert length_of(text) == length


def test_ten_thousand_uploads_are_looked_at_in_well_under_100_ms() -> None:
    uploads = [entry(f"{number}.pfx", hosts=(f"{number}.example.com",)) for number in range(10_000)]
    fleet = [instance(f"web-{number}") for number in range(100)]
    asked = Asked(host="77.example.com", failed=False, expiring=timedelta(days=90), sort="expiry", limit=50)

    def timed(job: Any) -> float:
        began = time.process_time()
        job()
        return time.process_time() - began

    for job in (
        lambda: Summary.of(uploads, fleet, now=NOW).line,
        lambda: [upload for upload in uploads if needs_somebody(upload, now=NOW)],
        lambda: chosen(uploads, asked, now=NOW, instances=fleet),
        lambda: chosen(uploads, Asked(sort="changed", descending=True, limit=50), now=NOW, instances=fleet),
    ):
        assert min(timed(job) for _ in range(3)) < 0.1
