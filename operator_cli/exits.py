"""The exit codes of every command and the failures that carry them."""

from __future__ import annotations

from enum import IntEnum

from shared.errors import CertcastError


class Exit(IntEnum):
    """What a command's exit code says; scripts build on these numbers."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    TIMED_OUT = 3
    INTERRUPTED = 130


class TimedOutError(CertcastError):
    """What was waited for did not happen in time; it may still happen."""
