"""Reading the history: what is asked for, and the entries that answer it, newest first."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.errors import CertcastError
from shared.phrasing import logger
from shared.state.history import KEPT_FOR, HistoryEntry, HistoryKind, days_back
from shared.state.keys import history_row
from shared.state.overview.asking import length_of, on_host
from shared.upload import MAX_NAME_CHARS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from shared.state.records import UploadRecord
    from shared.state.tables import State

    Place = tuple[str, str]

log = logger(__name__)

PAST = timedelta(days=7)
"""How far back an upload's own way is told: a request for each day, as the history lies by days."""
MOST_OF_ONE = 200
"""Of the history of one upload."""
_CLOCK_AHEAD = timedelta(minutes=1)
"""How far the clock of the process that made an entry may be ahead of the reader's."""
_FILTER_CHARS = 250
"""Of a name that the service is asked to filter by: it goes into the address of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries are asked for; what is empty leaves all.

    Attributes:
        since: None are from before this moment.
        until: None are from after this moment.
        host: A host, for which a wildcard that covers it counts too; `.example.com` for all below it; a part of hosts
            where it has no dot.
        name: The upload's name.
        kind: A word of `HistoryKind`.
    """

    since: datetime
    until: datetime
    host: str = ""
    name: str = ""
    kind: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str | None], *, now: datetime) -> Wanted | str:
        """Read `since`, `until`, `host`, `name` and `kind`; a sentence where one is wrong.

        Args:
            query: What was asked, as text; a time is one of ISO 8601, or how long ago.
            now: The time.
        """
        found = {key: text for key in ("since", "until", "host", "name", "kind") if (text := query.get(key))}
        for key in ("since", "until"):
            if key in found and _moment(found[key], now) is None:
                return f"{key} must be a time such as 2030-01-02T03:04:05Z, or how long ago: 1d, 12h or 30m"
        if len(found.get("name", "")) > MAX_NAME_CHARS or len(found.get("host", "")) > MAX_NAME_CHARS:
            return f"name and host may have {MAX_NAME_CHARS} characters at most"
        if not _is_text(found.get("name", "")):
            return "name must be text"
        if "kind" in found and found["kind"] not in set(HistoryKind):
            return f"kind must be one of {', '.join(HistoryKind)}"
        oldest = (now - KEPT_FOR).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        since = (_moment(found["since"], now) if "since" in found else None) or oldest
        until = (_moment(found["until"], now) if "until" in found else None) or now + _CLOCK_AHEAD
        texts = {key: found[key] for key in ("host", "name", "kind") if key in found}
        return cls(since=max(since, oldest), until=min(until, now + _CLOCK_AHEAD), **texts)

    def test(self) -> Callable[[HistoryEntry], bool]:
        """What tells whether an entry is wanted."""
        covers = on_host(self.host) if self.host else None

        def is_wanted(entry: HistoryEntry) -> bool:
            named = self.name in {"", entry.name} and self.kind in {"", entry.kind.value}
            within = self.since <= entry.at <= self.until
            return named and within and (covers is None or covers({"hosts": entry.hosts}))

        return is_wanted


def _moment(text: str, now: datetime) -> datetime | None:
    if (length := length_of(text)) is not None:
        return now - length
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:  # of the first or the last day that there is
        return datetime(1 if moment.year == 1 else MAXYEAR, 1, 1, tzinfo=UTC)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


async def past_of(
    state: State, record: UploadRecord, now: datetime, *, back: timedelta = PAST, most: int = MOST_OF_ONE
) -> list[HistoryEntry]:
    """What became of one upload lately, newest first; what waits in its row alone, where the history cannot be read.

    Args:
        state: The tables.
        record: The upload's row.
        now: The time.
        back: How far it is read.
        most: Entries at most.
    """
    wanted = Wanted(since=now - back, until=now + _CLOCK_AHEAD, name=record.name)
    is_wanted, found = wanted.test(), list[HistoryEntry]()
    try:
        async with aclosing(recalled(state, wanted, page=most, record=record)) as entries:
            async for entry in entries:
                found += [entry] if is_wanted(entry) else []
                if len(found) == most:
                    break
    except CertcastError as error:
        log.warning("upload %s: its history cannot be read: %s", record.name, error)
    past = {entry.place: entry for entry in (*found, *record.past)}
    return sorted(past.values(), key=lambda entry: entry.at, reverse=True)


async def recalled(
    state: State,
    wanted: Wanted,
    *,
    after: Place | None = None,
    page: int | None = None,
    record: UploadRecord | None = None,
) -> AsyncGenerator[HistoryEntry, None]:
    """Read the entries of a time, newest first; `wanted.test` has yet to say which are wanted.

    Of a named upload these are its own alone, and those that wait in its row are among them.

    Args:
        state: The tables.
        wanted: What is asked for.
        after: Place of an entry that all these come behind; None for the beginning.
        page: Rows that one request brings at most.
        record: The named upload's row, where it was read already.
    """
    waiting = await _waiting(state, wanted, after, record)
    short = 0 < len(wanted.name) <= _FILTER_CHARS and wanted.name.isprintable()
    having = ("name", wanted.name) if short else None
    for day in days_back(wanted.until, wanted.since):
        if after is not None and day > after[0]:
            continue
        begin = after if after is not None and day == after[0] else (day, history_row(wanted.until))
        async with aclosing(state.history.all(day, after=begin, having=having, page=page)) as rows:
            async for known in rows:
                while waiting and _comes_before(waiting[0], known.value):
                    yield waiting.pop(0)
                if waiting and waiting[0].place == known.value.place:
                    waiting.pop(0)
                if known.value.at < wanted.since:
                    break
                yield known.value
        while waiting and waiting[0].place[0] >= day:
            yield waiting.pop(0)
    for entry in waiting:
        yield entry


def _comes_before(entry: HistoryEntry, other: HistoryEntry) -> bool:
    """Whether an entry is read before another: by days back, within one by its row."""
    return _order(entry.place) < _order(other.place)


def _order(place: Place) -> tuple[int, str]:
    return (-datetime.fromisoformat(place[0]).toordinal(), place[1])


async def _waiting(
    state: State, wanted: Wanted, after: Place | None, record: UploadRecord | None
) -> list[HistoryEntry]:
    """The entries of a named upload that wait in its row, in the order of the others."""
    if record is None and wanted.name:
        record = await state.uploads.get(wanted.name)
    is_wanted = wanted.test()
    found: Sequence[HistoryEntry] = () if record is None else record.past
    return sorted(
        (entry for entry in found if is_wanted(entry) and (after is None or _order(entry.place) > _order(after))),
        key=lambda entry: _order(entry.place),
    )
