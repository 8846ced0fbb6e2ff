"""Reading the history: newest first, whatever day it lies in, with what waits in a named upload's row."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.function.history_api import history
from shared.function.paging import MAX_LIMIT
from shared.state.history import KEPT_FOR, HistoryEntry, HistoryKind
from shared.state.recalling import Wanted, recalled
from shared.state.records import UploadRecord, UploadStatus
from tests.fakes.edges import FakeStorage
from tests.fakes.storage import START

ENTRY = HistoryEntry(id="0", at=START, kind=HistoryKind.LIVE, name="a.pfx", hosts=("a.example.com",))


def entry(hours_ago: float, name: str = "a.pfx", **others: object) -> HistoryEntry:
    values = {"id": f"{hours_ago:g}", "at": START - timedelta(hours=hours_ago), "name": name} | others
    return replace(ENTRY, **values)  # type: ignore[arg-type]


async def filled(*entries: HistoryEntry, waiting: Sequence[HistoryEntry] = ()) -> FakeStorage:
    storage = FakeStorage()
    state = storage.state()
    for each in entries:
        await state.history.overwrite((each.at, each.id), each)
    if waiting:
        row = UploadRecord(name="a.pfx", revision=1, status=UploadStatus.LIVE, past=tuple(waiting))
        await state.uploads.overwrite("a.pfx", row)
    return storage


async def read(storage: FakeStorage, **query: str) -> list[str]:
    """The ids of what is answered, page by page."""
    found: list[str] = []
    after: str | None = None
    while True:
        answer = await history(storage.cloud(), {**query, "after": after})
        assert answer.status == 200, answer.document
        found += [each["id"] for each in answer.document["entries"]]
        after = answer.document["next"]
        if after is None:
            return found


@pytest.mark.parametrize("limit", ["1", "2", "1000"])
async def test_all_is_told_newest_first_across_days_and_pages(limit: str) -> None:
    hours = [0, 1, 13, 23, 24, 25, 49, 24 * 40, 24 * 89]
    storage = await filled(*map(entry, reversed(hours)))
    assert await read(storage, limit=limit) == [f"{each:g}" for each in hours]


async def test_a_time_a_kind_a_host_and_a_name_narrow_it() -> None:
    storage = await filled(
        entry(1),
        entry(2, hosts=("*.example.com",)),
        entry(3, "b.pfx", hosts=("b.test",), kind=HistoryKind.REJECTED),
        entry(30),
    )
    assert await read(storage, since="90m") == ["1"]
    assert await read(storage, since="1d", until="90m") == ["2", "3"]
    assert await read(storage, until="2h") == ["2", "3", "30"]
    assert await read(storage, since="2026-02-28T12:00:00Z") == ["1", "2", "3"]
    assert await read(storage, kind="rejected") == ["3"]
    assert await read(storage, name="b.pfx") == ["3"]
    assert await read(storage, host="a.example.com") == ["1", "2", "30"]
    assert await read(storage, host=".test") == ["3"]
    assert await read(storage, host="a.example.com", name="b.pfx") == []
    assert await read(storage, since="1h", until="2h") == []


@pytest.mark.parametrize("limit", ["1", "3", "1000"])
async def test_what_waits_in_a_named_uploads_row_is_among_it_in_order_and_once(limit: str) -> None:
    waiting = [entry(0.5), entry(25), entry(26), entry(100), entry(24 * 80)]
    storage = await filled(entry(0), entry(1), entry(26), entry(24 * 70), waiting=waiting)
    assert await read(storage, limit=limit) == ["0", "1", "26", "1680"]
    named = ["0", "0.5", "1", "25", "26", "100", "1680", "1920"]
    assert await read(storage, limit=limit, name="a.pfx") == named
    assert await read(storage, limit=limit, name="a.pfx", since="2h") == named[:3]
    assert await read(await filled(waiting=waiting), limit=limit, name="a.pfx") == ["0.5", "25", "26", "100", "1920"]


@given(
    stored=st.sets(st.integers(0, 200), max_size=12),
    waiting=st.sets(st.integers(0, 200), max_size=12),
    limit=st.integers(1, 5),
)
async def test_nothing_is_left_out_or_told_twice(stored: set[int], waiting: set[int], limit: int) -> None:
    storage = await filled(*map(entry, stored), waiting=[entry(each) for each in waiting])
    assert await read(storage, name="a.pfx", limit=str(limit)) == [str(each) for each in sorted(stored | waiting)]


@pytest.mark.parametrize("name", ["x" * 1_024, "it's.pfx", "a\nb.pfx", "größe/%2F.pfx", "a' or name ne '.pfx"])
async def test_an_upload_of_any_name_can_be_asked_for(name: str) -> None:
    storage = await filled(entry(1, name), entry(2, "other.pfx"))
    assert await read(storage, name=name) == ["1"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"since": "yesterday"}, "since must be a time"),
        ({"until": "-1d"}, "until must be a time"),
        ({"kind": "praised"}, "kind must be one of accepted, renewed"),
        ({"name": "x" * 1_025}, "at most"),
        ({"host": "x" * 1_025}, "at most"),
        ({"name": "\udcff.pfx"}, "name must be text"),
        ({"limit": "0"}, f"limit must be a whole number from 1 to {MAX_LIMIT}"),
        ({"after": "x"}, "after must be the next"),
        ({"after": "blob/a.pfx"}, "after must be the next"),
        ({"after": "2030-1-2/0"}, "after must be the next"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_a_sentence(query: dict[str, str], said: str) -> None:
    answer = await history(FakeStorage().cloud(), query)
    assert answer.status == 400
    assert said in answer.document["error"]


def test_no_more_is_read_than_is_kept_and_no_less_than_its_oldest_day() -> None:
    now = datetime(2030, 5, 1, 12, tzinfo=UTC)
    for since in (None, "9999d", "0001-01-01T00:00:00+14:00", "2000-01-01"):
        wanted = Wanted.of({"since": since}, now=now)
        assert isinstance(wanted, Wanted)
        assert wanted.since == (now - KEPT_FOR).replace(hour=0)
    for until in ("9999-12-31T23:59:59-14:00", "2031-01-01T00:00:00Z"):
        late = Wanted.of({"until": until}, now=now)
        assert isinstance(late, Wanted)
        assert late.until - now == timedelta(minutes=1)


async def test_an_entry_by_a_clock_that_is_a_little_ahead_is_told() -> None:
    assert await read(await filled(entry(-0.01), entry(0))) == ["-0.01", "0"]


async def test_where_a_reader_stops_nothing_more_is_read() -> None:
    asked: list[str] = []

    async def step(what: str) -> None:
        asked.append(what)

    storage = await filled(*(entry(number / 100) for number in range(100)))
    wanted = Wanted.of({}, now=START)
    assert isinstance(wanted, Wanted)
    entries = recalled(storage.state(step), wanted, page=10)
    assert (await anext(entries)).id == "0"
    await entries.aclose()
    assert asked == ["history query"]
