"""What one process of the Function read or wrote a short while ago: it saves reading, and a write shows what is old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.state.records import InstallationRecord
from shared.state.rows import Held

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.binding import BindingKey, DesiredBinding
    from shared.state.rows import Update

Place = tuple[str, int]
"""Host and port."""
Reports = dict[str, Held[InstallationRecord]]
"""By instance."""

MOST_ROWS = 2_000
MOST_REPORTS = 20_000


class Recent:
    """Desired rows and reports, the latest ones.

    A remembered row says that its generation was elected for that upload, which stays true; a remembered report is
    written under its ETag. What is decided from them is decided again from the tables where that matters.
    """

    def __init__(self) -> None:
        self._rows: dict[BindingKey, DesiredBinding] = {}
        self._reports: dict[Place, Reports] = {}

    def row(self, key: BindingKey) -> DesiredBinding | None:
        """A desired row as it was, if it is remembered."""
        return self._rows.get(key)

    def see_changes(self, changes: Iterable[Update[DesiredBinding]]) -> None:
        """Remember the desired rows that this process has written."""
        for change in changes:
            if change.after is not None:
                self.see_row(change.after, is_new=change.before is None)

    def see_row(self, row: DesiredBinding, *, is_new: bool = False) -> None:
        """Remember a desired row; of a host and port that is new, nothing was reported yet."""
        self._rows.pop(row.key, None)
        self._rows[row.key] = row
        while len(self._rows) > MOST_ROWS:
            del self._rows[next(iter(self._rows))]
        if is_new:
            self.see_reports({(row.host, row.port): {}})

    def knows_reports(self, place: Place) -> bool:
        """Whether what was reported about a host and port is remembered."""
        return place in self._reports

    def reports(self, place: Place) -> Reports:
        """What was reported about a host and port, to be added to when more is entered."""
        return self._reports.get(place, {})

    def see_reports(self, found: Mapping[Place, Reports]) -> None:
        """Remember all that was reported about hosts and ports, unless it is known: others may be adding to that."""
        for place, reports in found.items():
            self._reports.setdefault(place, reports)
        size = sum(map(len, self._reports.values()))
        while size > MOST_REPORTS or len(self._reports) > MOST_ROWS:
            size -= len(self._reports.pop(next(iter(self._reports))))
