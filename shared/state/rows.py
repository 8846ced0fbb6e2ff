"""Typed rows over one table, and optimistic writes."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from shared.codec import from_entity, to_entity
from shared.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.ports import StoredEntity, Table

MAX_WRITE_TRIES = 30

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
class Update(Generic[Row]):
    """What an update found and what it left.

    Attributes:
        before: The row as it was read for the decision that was kept; None where there was none.
        after: The row as it is now.
    """

    before: Row | None
    after: Row | None

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return self.before != self.after


class Rows(Generic[Key, Row]):
    """Typed rows of one table; every write is conditional, and `update` decides again when others wrote meanwhile."""

    def __init__(self, table: Table, kind: type[Row], key: Callable[[Key], tuple[str, str]]) -> None:
        self._table = table
        self._kind = kind
        self._key = key

    async def find(self, key: Key) -> Versioned[Row] | None:
        """Read one row with its version."""
        stored = await self._table.get(*self._key(key))
        return None if stored is None else self._versioned(stored)

    async def get(self, key: Key) -> Row | None:
        """Read one row."""
        found = await self.find(key)
        return None if found is None else found.value

    async def write(self, key: Key, value: Row, known: Versioned[Row] | None) -> str:
        """Insert the row, or replace the version that is known.

        Raises:
            ConflictError: It was written meanwhile.
        """
        if known is None:
            return await self._table.insert(*self._key(key), to_entity(value))
        return await self._table.replace(*self._key(key), to_entity(value), etag=known.etag)

    async def overwrite(self, key: Key, value: Row) -> None:
        """Write the row whatever stands there, readable or not."""
        await self._table.put(*self._key(key), to_entity(value))

    async def update(self, key: Key, change: Callable[[Row | None], Row | None]) -> Update[Row]:
        """Read, decide, and write if no other did meanwhile; otherwise again.

        Args:
            key: Names the row.
            change: Maps what is there to what should be; returning the same value, or None, writes nothing. It may be
                called several times.

        Returns:
            The row before and after.

        Raises:
            ConflictError: Others kept writing the row for 30 tries.
        """
        for attempt in range(MAX_WRITE_TRIES):
            known = await self.find(key)
            current = None if known is None else known.value
            wanted = change(current)
            if wanted is None or wanted == current:
                return Update(before=current, after=current)
            try:
                await self.write(key, wanted, known)
            except ConflictError:
                await asyncio.sleep(random.uniform(0, 0.01 * min(attempt + 1, 10)))  # noqa: S311 - jitter
                continue
            return Update(before=current, after=wanted)
        raise ConflictError(f"row {'/'.join(self._key(key))} is written by too many at once; try again")

    async def remove(self, key: Key, known: Versioned[Row]) -> None:
        """Delete the version that is known.

        Raises:
            ConflictError: It was written meanwhile.
        """
        await self._table.delete(*self._key(key), etag=known.etag)

    async def all(self, partition: str | None = None, *, row: str | None = None) -> AsyncIterator[Versioned[Row]]:
        """Read every row of a partition, or of the table; those with one row key alone. Keys are encoded ones."""
        async for stored in self._table.query(partition, row=row):
            yield self._versioned(stored)

    def _versioned(self, stored: StoredEntity) -> Versioned[Row]:
        value = from_entity(self._kind, stored.columns)
        return Versioned(value=value, etag=stored.etag, written_at=stored.written_at)
