"""What the pages about one upload and about what changed read: bounded, and once for all that ask at the same time."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.bounded import gather_bounded, together
from shared.errors import CertcastError
from shared.function.dashboard.told import CertificateView, HistoryView
from shared.function.fanout import read_fleet
from shared.function.paging import MAX_ROWS_READ
from shared.phrasing import logger
from shared.state.document import installation_document, instance_document, upload_document
from shared.state.history import HistoryEntry, days_back, history_document
from shared.state.keys import installation_partition
from shared.state.telling import with_reasons
from shared.state.timeline import moment_document, timeline
from shared.upload import MAX_NAME_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shared.function.cloud import Cloud
    from shared.state.records import InstallationRecord, UploadRecord

log = logger(__name__)

MOST_REPORTS_SHOWN = 1_000
"""Shown of one upload, as the status API does."""
MOST_ENTRIES = 200
"""Of the history, on one page."""
MOST_ENTRIES_READ = 5_000
PAST = timedelta(days=3)
"""How far back an upload's own page looks: a request for each day, as the history lies by days."""


async def certificate_view(cloud: Cloud, name: str) -> CertificateView | None:
    """All that the tables tell of one upload; None where there is none of that name."""

    async def read(names: Sequence[str]) -> Mapping[str, CertificateView | None]:
        asked = sorted(set(names))
        return dict(zip(asked, await gather_bounded(_one(cloud, each) for each in asked), strict=True))

    if not 0 < len(name) <= MAX_NAME_CHARS:
        return None
    view: CertificateView | None = (await cloud.looks.take_part(name, read))[name]
    return view


async def _one(cloud: Cloud, name: str) -> CertificateView | None:
    record = await cloud.state.uploads.get(name)
    if record is None:
        return None
    (reports, complete), past = await together(_reports_on(cloud, record), _past_of(cloud, record))
    fleet, now = await read_fleet(cloud), cloud.now()
    [told] = await with_reasons(cloud.state, [record], now, instances=fleet.known, most_rows=MAX_ROWS_READ)
    return CertificateView(
        as_of=now,
        upload=upload_document(told),
        installations=[installation_document(report) for report in reports],
        complete=complete,
        moments=[moment_document(moment) for moment in timeline(record, reports, past)],
        past=[history_document(entry) for entry in past],
        instances=[instance_document(known, now=now) for _, known in sorted(fleet.known.items())],
    )


async def _reports_on(cloud: Cloud, record: UploadRecord) -> tuple[list[InstallationRecord], bool]:
    """What instances reported on the rows that an upload claims, and whether that is all."""
    reports: list[InstallationRecord] = []
    for key in record.claims:
        async with aclosing(cloud.state.installations.all(installation_partition(key.host, key.port))) as rows:
            async for known in rows:
                if len(reports) == MOST_REPORTS_SHOWN:
                    return reports, False
                reports.append(known.value)
    return reports, True


async def _past_of(cloud: Cloud, record: UploadRecord) -> list[HistoryEntry]:
    """What became of an upload, latest first; what waits in its row alone, where the history cannot be read."""
    try:
        found, _ = await _entries(cloud, PAST, lambda entry: entry.name == record.name)
    except CertcastError as error:
        log.warning("dashboard: the history cannot be read: %s", error)
        found = []
    past = {entry.place: entry for entry in (*found, *record.past)}
    return sorted(past.values(), key=lambda entry: entry.at, reverse=True)


async def history_view(cloud: Cloud, since: str, back: timedelta, *, host: str = "", kind: str = "") -> HistoryView:
    """What changed within a time until now.

    Args:
        cloud: What is read.
        since: How long that is, as it was asked for.
        back: The same.
        host: What an upload is to ask for; empty for any.
        kind: A word of `HistoryKind`; empty for any.
    """

    def is_wanted(entry: HistoryEntry) -> bool:
        return (not host or host in entry.hosts) and (not kind or entry.kind.value == kind)

    entries, complete = await _entries(cloud, back, is_wanted)
    return HistoryView(
        as_of=cloud.now(),
        entries=[history_document(entry) for entry in entries],
        since=since,
        host=host,
        kind=kind,
        complete=complete,
    )


async def _entries(
    cloud: Cloud, back: timedelta, is_wanted: Callable[[HistoryEntry], bool]
) -> tuple[list[HistoryEntry], bool]:
    """The entries of a time that are wanted, latest first, and whether these are all."""
    now, found, read = cloud.now(), list[HistoryEntry](), 0
    for day in days_back(now, now - back):
        async with aclosing(cloud.state.history.all(day)) as rows:
            async for known in rows:
                if known.value.at < now - back:
                    return found, True
                if len(found) == MOST_ENTRIES or read == MOST_ENTRIES_READ:
                    return found, False
                read += 1
                found += [known.value] if is_wanted(known.value) else []
    return found, True
