"""The registered instances as one moment knows them, and what some of them are to be told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, BindingKey, concerns
from shared.state.records import InstanceRecord, is_awaited
from shared.state.rows import Versioned

if TYPE_CHECKING:
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.state.records import InstallationRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The registered instances as they were at one moment.

    Attributes:
        known: By id.
    """

    known: Mapping[str, Versioned[InstanceRecord]]

    def covers(self, expected: Iterable[str], reporting: Iterable[str], now: datetime) -> bool:
        """Whether these instances tell who is waited for, or may have been read before somebody came (back).

        Args:
            expected: Ids of those that were told: each ran in that moment.
            reporting: Ids of those that reported.
            now: The time.
        """
        known = self.known
        return all(name in known and is_awaited(known[name], now) for name in expected) and known.keys() >= {*reporting}

    def is_complete(self, row: DesiredBinding, reports: Collection[InstallationRecord], now: datetime) -> bool:
        """Whether every instance that the row is for, and that is waited for, has reported on it as it is now."""
        reported = {report.instance for report in reports if _is_about(report, row)}
        return all(
            name in reported or not concerns(row.role, known.value.role) or not is_awaited(known, now)
            for name, known in self.known.items()
        )


def _is_about(report: InstallationRecord, row: DesiredBinding) -> bool:
    """Whether what an instance reported tells how it stands to a row as it is now."""
    if report.role == row.role:
        return report.generation >= row.generation
    # It obeys the row of its own role instead, or has let go of that.
    return row.role == ANY_ROLE or not row.present


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Rows that changed, and who is to be told.

    Attributes:
        instances: Ids of the instances.
        keys: The rows.
        traceparent: W3C trace context of the change.
    """

    instances: Mapping[str, InstanceRecord]
    keys: Collection[BindingKey]
    traceparent: str

    def about(self, instance: str) -> set[BindingKey]:
        """The rows that concern one of the instances."""
        told = self.instances.get(instance)
        return {key for key in self.keys if told is not None and concerns(key.role, told.role)}
