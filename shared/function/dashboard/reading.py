"""What the pages about one upload and about what changed read: bounded, and once for all that ask at the same time."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from shared.bounded import gather_bounded, together
from shared.function.dashboard.told import CertificateView, HistoryView
from shared.function.fanout import read_fleet
from shared.function.paging import MAX_ROWS_READ
from shared.phrasing import logger
from shared.state.document import installation_document, instance_document, upload_document
from shared.state.history import HistoryEntry, history_document
from shared.state.keys import installation_partition
from shared.state.recalling import Wanted, past_of, recalled
from shared.state.telling import with_reasons
from shared.state.timeline import moment_document, timeline
from shared.upload import MAX_NAME_CHARS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.function.cloud import Cloud
    from shared.state.records import InstallationRecord, UploadRecord

log = logger(__name__)

MOST_REPORTS_SHOWN = 1_000
"""Shown of one upload, as the status API does."""
MOST_ENTRIES = 200
"""Of the history, on one page."""
MOST_ENTRIES_READ = 5_000
DEFAULT_SINCE = "7d"


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
    (reports, complete), past = await together(_reports_on(cloud, record), past_of(cloud.state, record, cloud.now()))
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


async def history_view(cloud: Cloud, query: Mapping[str, str]) -> HistoryView | str:
    """What changed, as it is asked for; a sentence where something is wrong with that.

    Args:
        cloud: What is read.
        query: `since`, `host` and `kind` as in the status API; `since` is a week where it is not said.
    """
    asked = {name: text for name in ("since", "host", "kind") if (text := query.get(name, "").strip())}
    since = asked.setdefault("since", DEFAULT_SINCE)
    wanted = Wanted.of(asked, now=cloud.now())
    if isinstance(wanted, str):
        return wanted
    entries, complete = await _entries(cloud, wanted)
    return HistoryView(
        as_of=cloud.now(),
        entries=[history_document(entry) for entry in entries],
        since=since,
        host=wanted.host,
        kind=wanted.kind,
        complete=complete,
    )


async def _entries(cloud: Cloud, wanted: Wanted) -> tuple[list[HistoryEntry], bool]:
    """The entries that are wanted, latest first, and whether these are all."""
    found, read, is_wanted = list[HistoryEntry](), 0, wanted.test()
    async with aclosing(recalled(cloud.state, wanted)) as entries:
        async for entry in entries:
            if len(found) == MOST_ENTRIES or read == MOST_ENTRIES_READ:
                return found, False
            read += 1
            found += [entry] if is_wanted(entry) else []
    return found, True
