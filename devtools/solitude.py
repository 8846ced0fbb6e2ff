"""One set-up at a time: a lock file that the system releases when its holder is gone."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL_S = 0.2


@contextlib.contextmanager
def alone(path: Path) -> Iterator[int]:
    """Hold the lock file; waits, and says so once, while another process holds it.

    Yields:
        The lock's file descriptor. A child that inherits it keeps the lock when its parent is killed, so that no
        other process works on a folder which an orphaned pip still fills.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        told = False
        while not _taken(descriptor):
            if not told:
                print("waiting for another dev.py that is setting up here", flush=True)
                told = True
            time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _taken(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _taken(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
