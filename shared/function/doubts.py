"""Uploads whose status or reason may be wrong, found while the reports pass by, each of which is seen and let go of.

Kept are only the reports on the hosts of uploads that are under way: to install, to remove, or to get right. Once an
hour all reports pass by; in between, those that are new, and those on these hosts.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.binding import BindingKey, concerns
from shared.function.settling import with_reason
from shared.function.snapshot import is_time
from shared.function.standing import settled, shows_failure, standing_of
from shared.state.keys import installation_key, installation_partition
from shared.state.reasons import reason_for_live
from shared.state.records import InstallationRecord, UploadRecord, UploadStatus, is_awaited

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud
    from shared.function.snapshot import Snapshot
    from shared.function.standing import Instances
    from shared.state.rows import Versioned

_UNFINISHED = frozenset({UploadStatus.ACCEPTED, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED})

REPORTS, ALL_REPORTS = "reports", "all reports"
OVERLAP = timedelta(minutes=2)
"""Reports of that long before the last reading are read again: what was written then may have been decided since."""
MOST_PLACES = 50
"""Beyond so many hosts of uploads under way, reading the whole table is quicker than reading them one by one."""


def is_under_way(record: UploadRecord) -> bool:
    """Whether instances still have something to prove about an upload."""
    return record.status in _UNFINISHED or (record.status is UploadStatus.REMOVED and record.live > 0)


class Doubts:
    """Takes every report there is, in any order, and then names the uploads that are to be settled.

    Args:
        uploads: Those that are complete.
        bindings: The desired rows.
        instances: The registered ones by id.
        now: The time.
    """

    def __init__(
        self,
        uploads: Iterable[UploadRecord],
        bindings: Mapping[BindingKey, DesiredBinding],
        instances: Instances,
        now: datetime,
    ) -> None:
        self._bindings = bindings
        self._instances = instances
        self._now = now
        self._open: list[UploadRecord] = []
        self._live: dict[str, UploadRecord] = {}
        self._doubtful: set[str] = set()
        for record in uploads:
            if is_under_way(record):
                self._open.append(record)
            elif record.status is UploadStatus.LIVE:
                self._live[record.name] = record
                if self._is_won_otherwise(record):
                    self._doubtful.add(record.name)
            elif self._is_told_otherwise(record):
                self._doubtful.add(record.name)
        self._reports: dict[tuple[str, int], dict[str, InstallationRecord]] = {
            (key.host, key.port): {} for record in self._open for key in record.claims
        }

    @property
    def places(self) -> list[tuple[str, int]]:
        """Hosts and ports whose reports are all needed."""
        return list(self._reports)

    def take(self, report: InstallationRecord) -> None:
        """See one report; again where it passes by twice."""
        kept = self._reports.get((report.host, report.port))
        if kept is not None:
            kept[report.instance] = replace(report, fingerprint_sha256="", stages_ms={})
        row = self._bindings.get(BindingKey(role=report.role, host=report.host, port=report.port))
        record = None if row is None else self._live.get(row.source)
        if row is None or record is None:
            return
        if shows_failure(row, report):
            if self._waits_for(record, row, report.instance):
                self._doubtful.add(record.name)
        elif _is_news_of_drift(record, row, report) and report.instance in self._instances:
            self._doubtful.add(record.name)

    def _waits_for(self, record: UploadRecord, row: DesiredBinding, instance: str) -> bool:
        """Whether the status of an upload depends on what an instance says of a row; one that joined late may fail."""
        known = self._instances.get(instance)
        told = known is not None and instance in record.expected
        return told and known is not None and is_awaited(known, self._now) and concerns(row.role, known.value.role)

    def names(self) -> list[str]:
        """The uploads whose status or reason follows otherwise than it stands in their rows."""
        return sorted(self._doubtful | {record.name for record in self._open if self._differs(record)})

    def _is_told_otherwise(self, record: UploadRecord) -> bool:
        """Whether the reason of what is not served follows otherwise from the rows; no report has a part in it."""
        if record.status is not UploadStatus.SUPERSEDED:
            return with_reason(record, self._rows(record), self._now) != record
        if record.not_after is None or record.not_after > self._now:
            return False  # only its end changes what is written down of it
        rows = self._rows(record)
        won = any(row.source == record.name for row in rows)
        return not won and settled(record, standing_of(record, rows, {}, {}, self._now), self._now) != record

    def _is_won_otherwise(self, record: UploadRecord) -> bool:
        """Whether what is live is served for other hosts than its reason has it, or has expired since."""
        reason = reason_for_live(record.name, self._rows(record), self._now)
        # Of thousands, nearly all have the reason as it is; what a row keeps of a long one is asked of the rest alone.
        return reason != record.reason and replace(record, reason=reason).reason != record.reason

    def _rows(self, record: UploadRecord) -> list[DesiredBinding]:
        return [row for key in record.claims if (row := self._bindings.get(key)) is not None]

    def _differs(self, record: UploadRecord) -> bool:
        rows = self._rows(record)
        reports = {row.key: self._reports[row.host, row.port] for row in rows}
        standing = standing_of(record, rows, reports, self._instances, self._now)
        return settled(record, standing, self._now) != record


def _is_news_of_drift(record: UploadRecord, row: DesiredBinding, report: InstallationRecord) -> bool:
    """Whether a report of what is served tells of a change by something else that the upload's row does not."""
    if report.drifted_at is None or report.generation != row.generation:
        return False
    return record.drifted_at is None or report.drifted_at > record.drifted_at


async def passing_reports(
    cloud: Cloud, seen: Snapshot, doubts: Doubts
) -> AsyncGenerator[Versioned[InstallationRecord], None]:
    """The reports that a sweep is to see; as many as instances times bindings where it sees all.

    Where a sweep's time was over before the last one, the next sweep of the process goes on behind it.
    """
    installations, last = cloud.state.installations, cloud.last_done.get(REPORTS)
    left_off = cloud.left_off.get(REPORTS)
    whole = last is None or left_off is not None or is_time(cloud, ALL_REPORTS) or len(doubts.places) > MOST_PLACES
    since = None if whole or last is None else last - OVERLAP
    async for known in installations.all(after=left_off, since=since):
        cloud.left_off[REPORTS] = installation_key((known.value.host, known.value.port, known.value.instance))
        yield known
    for host, port in () if whole else doubts.places:
        async for known in installations.all(installation_partition(host, port)):
            yield known
    cloud.left_off.pop(REPORTS, None)
    cloud.last_done.update(dict.fromkeys((REPORTS, ALL_REPORTS) if whole else (REPORTS,), seen.taken_at))
