"""The time by the storage service's clock, known from the `Date` of its answers: a machine's own may be wrong.

Rows carry the service's time (`ports.StoredEntity.written_at`), and how old one is can be told by that clock alone.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_COARSE_S = 2.0
"""A `Date` has whole seconds (RFC 9110, section 6.6.1), and servers may go on sending one for a second more."""


class ServiceClock:
    """Shows the machine's time until an answer shows that it is wrong, and then the service's.

    It goes on by time that only passes, so that setting the machine's clock does not move it.

    Args:
        machine: The machine's clock; seconds since 1970.
        passing: Seconds that only ever grow.
    """

    def __init__(
        self, *, machine: Callable[[], float] = time.time, passing: Callable[[], float] = time.monotonic
    ) -> None:
        self.passing = passing
        self._offset_s = machine() - passing()

    def now(self) -> datetime:
        """Tell the time."""
        return datetime.fromtimestamp(self.passing() + self._offset_s, UTC)

    def answered(self, date: str, *, asked_at: float) -> None:
        """Learn from one answer; one without a date that can be read teaches nothing.

        Args:
            date: The answer's `Date`.
            asked_at: What `passing` showed when the request was sent.
        """
        try:
            shown = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        # It was this time or a little later when the service answered, and it answered after it was asked.
        latest = shown + _COARSE_S - asked_at
        earliest = shown - self.passing()
        self._offset_s = min(max(self._offset_s, earliest), latest)
