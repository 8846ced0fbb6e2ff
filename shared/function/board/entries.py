"""Uploads' rows in memory, and what is told of each: told again when the row, others or the instances change."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.function.paging import MAX_ROWS_READ, Place
from shared.state.document import Document, is_listed, upload_document
from shared.state.keys import upload_key
from shared.state.reasons import depends_on_others
from shared.state.records import UploadRecord, UploadStatus
from shared.state.telling import with_reasons

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from shared.binding import BindingKey
    from shared.state.missing import Roll
    from shared.state.rows import Versioned
    from shared.state.tables import State

MOST_UPLOADS = 20_000
"""Kept in memory, at some kilobytes each."""
_AT_ONCE = 100
"""Told without a break: what else the process does is to come between."""


@dataclass(slots=True)
class _Entry:
    """One upload.

    Attributes:
        etag: Of its row.
        place: Of its row.
        record: Its row, without what no page of the fleet shows; `named` the same with the uploads named that are
            served in its place.
        document: What is told of it; None until it was told.
        is_shown: Whether it is listed unasked.
        is_lasting: Whether what is told stays true while time passes.
    """

    etag: str
    place: Place
    record: UploadRecord
    named: UploadRecord
    document: Document | None = None
    is_shown: bool = True
    is_lasting: bool = False


class Entries:
    """All uploads' rows, up to a bound.

    Attributes:
        is_full: Whether there were more than are kept.
    """

    def __init__(self, most: int = MOST_UPLOADS) -> None:
        self.is_full = False
        self._most = most
        self._known: dict[str, _Entry] = {}
        self._documents: list[Document] | None = None
        self._told: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._claimants: defaultdict[BindingKey, set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._known)

    def take(self, rows: Iterable[Versioned[UploadRecord]]) -> set[str]:
        """Enter rows that were read; the names of those that changed, and of those whose reason may have, by them."""
        changed: set[str] = set()
        for row in rows:
            name, known = row.value.name, self._known.get(row.value.name)
            if known is not None and known.etag == row.etag:
                continue
            keys = {*row.value.claims, *(known.record.claims if known else ())}
            changed |= {other for key in keys & self._claimants.keys() for other in self._claimants[key]}
            self.drop([name])
            if _is_over(row.value):
                changed.discard(name)
            elif len(self._known) < self._most:
                self._enter(name, row)
                changed.add(name)
            else:
                self.is_full = True
        return changed & self._known.keys()

    def _enter(self, name: str, row: Versioned[UploadRecord]) -> None:
        # One list of instances for all that told the same: it may be thousands of names for each of the uploads.
        expected = self._told.setdefault(row.value.expected, row.value.expected)
        record = replace(row.value, expected=expected, dns_names=())
        self._known[name] = _Entry(etag=row.etag, place=upload_key(name), record=record, named=record)
        if depends_on_others(record):
            for key in record.claims:
                self._claimants[key].add(name)

    def drop(self, names: Iterable[str]) -> None:
        """Forget uploads."""
        for name in names:
            entry = self._known.pop(name, None)
            if entry is not None:
                self._documents = None
            for key in entry.record.claims if entry else ():
                if key in self._claimants:
                    self._claimants[key].discard(name)
                    if not self._claimants[key]:
                        del self._claimants[key]

    def between(self, after: Place | None, until: Place | None) -> set[str]:
        """The uploads whose rows lie behind one place and up to another; None for the beginning and the end."""
        return {
            name
            for name, entry in self._known.items()
            if (after is None or entry.place > after) and (until is None or entry.place <= until)
        }

    def tidy(self) -> None:
        """Forget lists of instances that no upload has any more."""
        self._told = {entry.record.expected: entry.record.expected for entry in self._known.values()}

    async def name_others(self, state: State, names: Iterable[str], now: datetime) -> None:
        """Find out which uploads are served in the place of these, where one is."""
        records = [self._known[name].record for name in self.dependent(names)]
        for told in await with_reasons(state, records, now, most_rows=MAX_ROWS_READ) if records else ():
            self._known[told.name].named = told

    def dependent(self, names: Iterable[str]) -> set[str]:
        """Those of these uploads of which something is told that depends on others."""
        return {name for name in names if (known := self._known.get(name)) and depends_on_others(known.record)}

    async def tell(self, names: Iterable[str] | None, roll: Roll) -> None:
        """Tell of these uploads, or of all, as the instances are."""
        wanted = [*(self._known if names is None else names)]
        for at in range(0, len(wanted), _AT_ONCE):
            for name in wanted[at : at + _AT_ONCE]:
                entry = self._known.get(name)
                if entry is None:
                    continue
                told = roll.as_seen(entry.named)
                entry.is_lasting = told is entry.named
                document, is_shown = upload_document(told), is_listed(told)
                if (document, is_shown) != (entry.document, entry.is_shown):
                    entry.document, entry.is_shown, self._documents = document, is_shown, None
            await asyncio.sleep(0)

    @property
    def passing(self) -> list[str]:
        """The uploads of which something is told that changes with time."""
        return [name for name, entry in self._known.items() if not entry.is_lasting]

    @property
    def records(self) -> list[UploadRecord]:
        """Their rows."""
        return [entry.record for entry in self._known.values()]

    @property
    def documents(self) -> list[Document]:
        """What is told of those that are listed, by name: the same list until any of it changes."""
        if self._documents is None:
            shown = [known for _, known in sorted(self._known.items(), key=lambda item: item[0]) if known.is_shown]
            self._documents = [each.document for each in shown if each.document is not None]
        return self._documents


def _is_over(record: UploadRecord) -> bool:
    """Whether nothing will be told of it any more: it was removed, and no instance is waited for to let go of it."""
    return record.status is UploadStatus.REMOVED and not (record.live or record.apart or record.reason)
