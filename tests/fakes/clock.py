"""Processes whose clock is wrong: libfaketime shifts the time of day for what is started under it, and nothing else.

Time that only passes (timers, time-outs) is left as it is: a clock is set wrong, or set right, while timers go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ShiftedClock:
    """A clock that any number of processes go by, and that can be set while they run.

    Attributes:
        file: Where libfaketime reads how wrong it is.
    """

    file: Path

    @classmethod
    def right(cls, file: Path) -> ShiftedClock:
        """A clock that is right until it is set."""
        file.write_text("+0\n")
        return cls(file)

    @property
    def environment(self) -> dict[str, str]:
        """What a process must be started with to go by it."""
        [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, off: timedelta) -> None:
        """Set it so far from the right time."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{off.total_seconds():+.0f}\n")
        new.replace(self.file)  # whole: a process may be reading it
