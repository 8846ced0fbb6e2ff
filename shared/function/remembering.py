"""What the sweep does about the history: it writes the entries left in rows, and deletes those of old days."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from shared.bounded import gather_bounded
from shared.errors import NotSetUpError
from shared.function.announcing import tell_as_it_is
from shared.function.forgetting import unless_changed
from shared.function.history import is_to_be_kept, was_left
from shared.function.snapshot import is_time
from shared.function.sweep_report import in_turn
from shared.state.history import first_day_kept

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.function.snapshot import Snapshot
    from shared.function.sweep_report import SweepReport
    from shared.state.history import HistoryEntry
    from shared.state.records import UploadRecord
    from shared.state.rows import Versioned

AT_ONCE = 8
MAX_FORGOTTEN = 5_000
"""Entries that one sweep deletes at most; the next one goes on."""
_MAX_FAILED = 10
"""Deletions that fail before the rest is left: all may be refused."""
_PAGE = 200
_OLD_ENTRIES = "old entries of the history"


async def write_history(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    """Write the entries that wait in rows: their process ended, or the table was not there."""

    async def write(record: UploadRecord) -> None:
        if is_to_be_kept(cloud, record):  # the first ones show whether the table takes any
            await report.attempt(f"history of upload {record.name}", tell_as_it_is(cloud, record.name))

    now, uploads = cloud.now(), seen.uploads or {}
    left = [each for name, each in uploads.items() if name not in report.touched and was_left(each, now)]
    await gather_bounded(map(write, in_turn(left, now)), limit=AT_ONCE)


async def forget_history(cloud: Cloud, _seen: Snapshot, report: SweepReport) -> None:
    """Delete the entries of days that are kept no more; whether there are any, a process looks once an hour."""
    if not is_time(cloud, _OLD_ENTRIES):
        return
    now, failed = cloud.now(), 0
    old = await _old_entries(cloud, first_day_kept(now).isoformat())

    async def forget(known: Versioned[HistoryEntry]) -> None:
        nonlocal failed
        if failed == _MAX_FAILED:
            report.left += 1
            return
        entry = known.value
        removal = cloud.state.history.remove((entry.at, entry.id), known)
        done = await report.attempt(f"entry {'/'.join(entry.place)} of the history", unless_changed(removal))
        report.forgotten += done is True
        failed += done is None

    await gather_bounded(map(forget, old), limit=AT_ONCE)
    if len(old) < MAX_FORGOTTEN:
        cloud.last_done[_OLD_ENTRIES] = now


async def _old_entries(cloud: Cloud, first_kept: str) -> list[Versioned[HistoryEntry]]:
    """The entries of days before this one, as many as one sweep deletes; the table has its oldest day first."""
    old: list[Versioned[HistoryEntry]] = []
    try:
        async with aclosing(cloud.state.history.all(page=_PAGE)) as entries:
            async for known in entries:
                if known.value.place[0] >= first_kept or len(old) == MAX_FORGOTTEN:
                    break
                old.append(known)
    except NotSetUpError:
        return []  # which is said where entries are to be written
    return old
