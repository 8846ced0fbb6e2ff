"""The registered instances, read once for everything that one moment asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, concerns
from shared.state.records import InstanceRecord, is_awaited
from shared.state.rows import Versioned

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud
    from shared.state.records import InstallationRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The registered instances as they were at one moment.

    Attributes:
        known: By id.
    """

    known: Mapping[str, Versioned[InstanceRecord]]

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


async def read_fleet(cloud: Cloud) -> Fleet:
    """Read every instance's row."""
    return Fleet(known={known.value.id: known async for known in cloud.state.instances.all()})
