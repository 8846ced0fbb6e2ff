"""Typed rows over one table, and optimistic writes.

A row that cannot be read must not stop what others wait for: it is passed over and named, and `update` writes over it.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from shared.codec import from_entity, to_entity
from shared.errors import BrokenRowError, ConflictError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from shared.ports import StoredEntity, Table

log = logger(__name__)

MAX_WRITE_TRIES = 30
_MAX_SAID = 1000
"""Unreadable rows remembered so that each is logged once: who may write a table may write any number of them."""

Row = TypeVar("Row")
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned(Generic[Row]):
    """A row as read.

    Attributes:
        value: The row.
        etag: The version it was read with.
        written_at: When that version was written, by the service's clock.
    """

    value: Row
    etag: str
    written_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Generic[Row]):
    """A row as this process read or wrote it last: a write under its ETag shows whether others wrote since.

    Attributes:
        value: The row; None where there is none that can be read.
        etag: Its version; None where nothing stands in its place.
    """

    value: Row | None
    etag: str | None

    @classmethod
    def of(cls, known: Versioned[Row] | None) -> Held[Row]:
        """A row that a query found, or did not find."""
        return cls(value=None, etag=None) if known is None else cls(value=known.value, etag=known.etag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Generic[Row]):
    """What an update found and what it left.

    Attributes:
        before: The row as it was for the decision that was kept; None where there was none.
        after: The row as it is now.
        etag: The version that it has now; None where there is no row.
    """

    before: Row | None
    after: Row | None
    etag: str | None

    @property
    def held(self) -> Held[Row]:
        """The row as it is now, to be written under its ETag."""
        return Held(value=self.after, etag=self.etag)

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return self.before != self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRow:
    """A row that this version does not understand.

    Attributes:
        table: The table's name.
        partition: PartitionKey.
        row: RowKey.
        reason: What is wrong with it, a clause.
    """

    table: str
    partition: str
    row: str
    reason: str


class Rows(Generic[Key, Row]):
    """Typed rows of one table; every write is conditional, and `update` decides again when others wrote meanwhile.

    Args:
        name: The table's name, for people.
        table: The table.
        kind: What its rows are.
        key: The place of a row of that name.
        named: The name that a row gives itself; a row in another row's place is unreadable.
    """

    def __init__(
        self,
        name: str,
        table: Table,
        kind: type[Row],
        *,
        key: Callable[[Key], tuple[str, str]],
        named: Callable[[Row], Key],
    ) -> None:
        self._name = name
        self._table = table
        self._kind = kind
        self._key = key
        self._named = named
        self._said: set[tuple[str, str, str]] = set()

    async def find(self, key: Key) -> Versioned[Row] | None:
        """Read one row with its version; one that cannot be read counts as none."""
        stored = await self._table.get(*self._key(key))
        return None if stored is None else self._readable(stored)

    async def get(self, key: Key) -> Row | None:
        """Read one row."""
        return (await self.read(key)).value

    async def read(self, key: Key) -> Held[Row]:
        """Read one row, to be changed later by `update`."""
        stored = await self._table.get(*self._key(key))
        if stored is None:
            return Held(value=None, etag=None)
        known = self._readable(stored)
        return Held(value=None if known is None else known.value, etag=stored.etag)

    async def write(self, key: Key, value: Row, known: Versioned[Row] | Held[Row] | None) -> str:
        """Insert the row, or replace the version that is known.

        Raises:
            ConflictError: It was written meanwhile.
        """
        return await self._write(key, value, None if known is None else known.etag)

    async def overwrite(self, key: Key, value: Row) -> None:
        """Write the row whatever stands there, readable or not."""
        await self._table.put(*self._key(key), to_entity(value))

    async def update(
        self, key: Key, change: Callable[[Row | None], Row | None], held: Held[Row] | None = None
    ) -> Update[Row]:
        """Decide, and write if others did not meanwhile; otherwise read and decide again.

        Args:
            key: Names the row.
            change: Maps what is there to what should be; returning the same value, or None, writes nothing. It may be
                called several times. A row that cannot be read counts as none, and is written over.
            held: The row as it was read or written last, which saves reading it; None reads it.

        Returns:
            The row before and after.

        Raises:
            ConflictError: Others kept writing the row for 30 tries.
        """
        for attempt in range(MAX_WRITE_TRIES):
            if held is None:
                held = await self.read(key)
            wanted = change(held.value)
            if wanted is None or wanted == held.value:
                return Update(before=held.value, after=held.value, etag=held.etag)
            try:
                etag = await self._write(key, wanted, held.etag)
            except ConflictError:
                held = None
                await asyncio.sleep(random.uniform(0, 0.01 * min(attempt + 1, 10)))  # noqa: S311 - jitter
                continue
            return Update(before=held.value, after=wanted, etag=etag)
        raise ConflictError(f"row {'/'.join(self._key(key))} is written by too many at once; try again")

    async def remove(self, key: Key, known: Versioned[Row]) -> None:
        """Delete the version that is known.

        Raises:
            ConflictError: It was written meanwhile.
        """
        await self._table.delete(*self._key(key), etag=known.etag)

    async def all(
        self,
        partition: str | None = None,
        *,
        row: str | None = None,
        after: tuple[str, str] | None = None,
        since: datetime | None = None,
        having: tuple[str, str] | None = None,
        page: int | None = None,
        unreadable: list[UnreadableRow] | None = None,
    ) -> AsyncGenerator[Versioned[Row], None]:
        """Read every row of a partition, or of the table.

        Args:
            partition: Encoded as the key function does it; None for all.
            row: The row key that they have, encoded; None for any.
            after: Place of a row, there or not, that all these come after.
            since: They were written then or later, by the service's clock.
            having: A column and the text that stands in it.
            page: Rows that one request brings at most.
            unreadable: Takes the rows that cannot be read.
        """
        found = self._table.query(partition, row=row, after=after, since=since, having=having, page=page)
        async for stored in found:
            try:
                yield self._versioned(stored)
            except BrokenRowError as error:
                self._say(stored, error)
                if unreadable is not None:
                    unreadable.append(self._unreadable(stored, error))

    async def _write(self, key: Key, value: Row, etag: str | None) -> str:
        if etag is None:
            return await self._table.insert(*self._key(key), to_entity(value))
        return await self._table.replace(*self._key(key), to_entity(value), etag=etag)

    def _readable(self, stored: StoredEntity) -> Versioned[Row] | None:
        try:
            return self._versioned(stored)
        except BrokenRowError as error:
            self._say(stored, error)
            return None

    def _versioned(self, stored: StoredEntity) -> Versioned[Row]:
        value = from_entity(self._kind, stored.columns)
        if self._key(self._named(value)) != (stored.partition, stored.row):
            raise BrokenRowError("its columns name another row")
        return Versioned(value=value, etag=stored.etag, written_at=stored.written_at)

    def _unreadable(self, stored: StoredEntity, error: BrokenRowError) -> UnreadableRow:
        return UnreadableRow(table=self._name, partition=stored.partition, row=stored.row, reason=str(error))

    def _say(self, stored: StoredEntity, error: BrokenRowError) -> None:
        said = (stored.partition, stored.row, stored.etag)
        if said in self._said or len(self._said) >= _MAX_SAID:
            return
        self._said.add(said)
        log.warning(
            "table %s: row %s/%s is passed over: %s; delete it if nothing else writes it",
            *(self._name, stored.partition, stored.row, error),
        )
