"""What the board holds, and how it is brought up to date: by what was written since, and a portion of all else."""

from __future__ import annotations

import secrets
import time
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.function.board.entries import Entries
from shared.function.board.view import View
from shared.state.document import counted_since, instance_document
from shared.state.keys import upload_key
from shared.state.missing import Roll
from shared.state.overview import Summary
from shared.state.presence import presence_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from shared.function.paging import Place
    from shared.state.document import Document
    from shared.state.presence import Instances
    from shared.state.records import InstanceRecord
    from shared.state.rows import Versioned
    from shared.state.tables import State

PORTION_ROWS = 500
PORTION_EVERY_S = 10.0
"""How often a portion of all rows is read again, by which those are found that are gone."""
PASSING_S = 10.0
"""What is told that changes with time alone, such as "last seen 40 s ago", is at most so old; likewise all counts."""
OVERLAP = timedelta(seconds=15)
"""Rows are asked for that were written so long before the last reading, or since: the service's servers may differ in
the time that they write into a row, and this process knows it from `Date` headers of whole seconds alone."""

_PAGE_ROWS = 250
"""Read with one request: all else in this process waits while so many are decoded."""
_COUNTED = 200_000
"""Uploads times instances, up to which what an instance serves is counted by the uploads, between its heartbeats."""


class Holding:
    """The uploads and instances of one account.

    Args:
        most: Uploads kept at most.
        passing: Seconds that only ever grow.

    Attributes:
        is_whole: Whether all rows were read once.
    """

    def __init__(self, most: int, passing: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._passing = passing
        self._entries = Entries(most)
        self._instances: Instances = {}
        self._after: Place | None = None
        self.is_whole = self._is_over = False
        self._rows_read = 0
        self._read_from: datetime | None = None
        self._as_of: datetime | None = None
        self._untold: set[str] = set()
        self._told_as: object = None
        self._portion_due = self._passing_due = 0.0
        self._summary_due = 0.0
        self._uploads: Sequence[Document] | None = None
        self._seen: Sequence[Document] = ()
        self._view: View | None = None
        self._is_changed = False
        self._name, self._version = secrets.token_hex(4), 0

    async def bring_up_to_date(self, state: State, now: Callable[[], datetime]) -> None:
        """Read what is new; for the first time, everything. Where it fails, the next one goes on where this one was."""
        self._instances = {known.value.id: known async for known in state.instances.all()}
        began = now()  # after an answer, from which the service's time is known
        since = self._read_from = self._read_from or began
        self._as_of = self._as_of or began
        roll = Roll(self._instances, began)
        if not self.is_whole:
            while not self.is_whole:
                await self._read_portion(state, roll, began)
        elif self._passing() >= self._portion_due:
            await self._read_portion(state, roll, began)
        rows = [row async for row in state.uploads.all(since=since - OVERLAP, page=_PAGE_ROWS)]
        self._untold |= self._entries.take(rows)
        await self._tell_of_untold(state, roll, began)
        await self._tell_of_others(roll, began)
        self._read_from = self._as_of = began
        self._is_changed = True

    async def _read_portion(self, state: State, roll: Roll, now: datetime) -> None:
        """Read the rows that come next, of a round through all; what should be among them and is not is forgotten."""
        rows, after = [], self._after
        async with aclosing(state.uploads.all(after=after, page=_PAGE_ROWS)) as found:
            async for row in found:
                rows.append(row)
                if len(rows) == PORTION_ROWS:
                    break
        until = upload_key(rows[-1].value.name) if len(rows) == PORTION_ROWS else None
        gone = self._entries.between(after, until) - {row.value.name for row in rows}
        if gone:
            self._entries.drop(gone)
            self._untold -= gone
        self._untold |= self._entries.take(rows) | self._entries.dependent(row.value.name for row in rows)
        await self._tell_of_untold(state, roll, now)
        self._after, self._portion_due = until, self._passing() + PORTION_EVERY_S
        if not self.is_whole:
            self._rows_read += len(rows)
            self._is_changed = True
        if until is None:
            self.is_whole, self._is_over, self._entries.is_full = True, self._entries.is_full, False
            self._entries.tidy()

    async def _tell_of_untold(self, state: State, roll: Roll, now: datetime) -> None:
        await self._entries.name_others(state, self._untold, now)
        await self._entries.tell(self._untold, roll)
        self._untold = set()

    async def _tell_of_others(self, roll: Roll, now: datetime) -> None:
        """Tell of all again where instances came, went or changed, and else of what changes with time."""
        told_as = [_told_by(known, now) for _, known in sorted(self._instances.items())]
        if told_as == self._told_as and self._passing() < self._passing_due:
            return
        names = self._entries.passing if told_as == self._told_as else None
        await self._entries.tell(names, roll)
        self._told_as, self._passing_due = told_as, self._passing() + PASSING_S

    def view(self, now: datetime, trouble: str = "") -> View:
        """What it shows now.

        Args:
            now: The time, by the service's clock.
            trouble: Why it is not newer.
        """
        if self._view is None or self._is_changed:
            self._view, self._is_changed = self._made(self._as_of or now, self._view), False
        if trouble != self._view.trouble:
            self._version += 1
            self._view = replace(self._view, trouble=trouble, version=self._named_version)
        return self._view

    def _made(self, as_of: datetime, before: View | None) -> View:
        uploads = self._entries.documents
        instances = self._instance_documents(as_of)
        seen = [{**each, "last_seen": None} if each["alive"] else each for each in instances]
        is_same = uploads is self._uploads and seen == self._seen
        self._uploads, self._seen = uploads, seen
        complete, note = self.is_whole and not self._is_over, self._note()
        if before is not None and is_same and note == before.note and self._passing() < self._summary_due:
            return replace(before, as_of=as_of, instances=instances, rows_read=self._rows_read)
        self._summary_due = self._passing() + PASSING_S
        summary = Summary.of(uploads, instances, now=as_of)
        if before is None or not is_same or (summary, note) != (before.summary, before.note):
            self._version += 1
        return View(
            as_of=as_of,
            uploads=uploads,
            instances=instances,
            summary=summary,
            complete=complete,
            rows_read=self._rows_read,
            note=note,
            trouble="" if before is None else before.trouble,
            version=self._named_version,
        )

    def _instance_documents(self, as_of: datetime) -> list[Document]:
        known: Sequence[Versioned[InstanceRecord]] = [self._instances[name] for name in sorted(self._instances)]
        if len(known) * len(self._entries) <= _COUNTED:
            known = counted_since(self._entries.records, known, as_of, whole=self.is_whole)
        return [instance_document(each, now=as_of) for each in known]

    def _note(self) -> str:
        if not self.is_whole:
            return f"the uploads are being read: {self._rows_read:,} so far"
        if self._is_over:
            return f"there are more than {self._most:,} uploads, and these are the first; `certcast status` has all"
        return ""

    @property
    def _named_version(self) -> str:
        return f"{self._name}-{self._version}"


def _told_by(known: Versioned[InstanceRecord], now: datetime) -> tuple[object, ...]:
    """All of an instance that what is told of uploads depends on, but for when it was seen."""
    row = known.value
    return (row.id, row.role, presence_of(known, now), row.ready, row.trouble, row.started_at)
