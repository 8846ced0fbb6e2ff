"""Pages of a table for the status API: bounded in rows read, entries and bytes, whatever the rows hold."""

from __future__ import annotations

import json
import re
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from shared.state.document import Document

T = TypeVar("T")

DEFAULT_LIMIT = 200
MAX_LIMIT = 1000
MAX_PAGE_BYTES = 2_000_000
"""An answer's size, but for its last entry."""
MAX_ROWS_READ = 5_000
"""Rows read for one page, most of which may be removed uploads that were not asked for."""

_LEAST_ROWS = 100
"""Read with one request, so that many removed uploads do not make many requests."""
_MOST_ROWS = 1000
"""As many as the service gives (learn.microsoft.com, "Query timeout and pagination")."""

Place = tuple[str, str]
"""PartitionKey and RowKey."""

_TOKEN = re.compile(r"([A-Za-z0-9.\-_*:=]{1,512})/([A-Za-z0-9.\-_*:=]{1,512})\Z")
"""A place as text: what `shared.state.keys` makes of names, so that one of any length fits into a URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which page a request is for.

    Attributes:
        limit: Entries at most.
        after: What the last page ended with; None for the first one.
    """

    limit: int
    after: Place | None

    @property
    def rows(self) -> int:
        """Rows to read with one request; one more than are shown says whether there are more."""
        return min(max(self.limit + 1, _LEAST_ROWS), _MOST_ROWS)

    @classmethod
    def of(cls, limit: str | None, after: str | None) -> Asked | str:
        """Read a query's `limit` and `after`; a sentence where one is wrong."""
        if limit is not None and not (re.fullmatch("[0-9]{1,4}", limit) and 1 <= int(limit) <= MAX_LIMIT):
            return f"limit must be a whole number from 1 to {MAX_LIMIT}"
        place = None if after is None else _TOKEN.match(after)
        if after is not None and place is None:
            return "after must be the next of the page before"
        return cls(limit=DEFAULT_LIMIT if limit is None else int(limit), after=place and (place[1], place[2]))


async def page(
    rows: AsyncGenerator[T, None],
    described: Callable[[T], Document | None],
    placed: Callable[[T], Place],
    *,
    limit: int,
) -> tuple[list[Document], str | None]:
    """Describe rows until the page is full.

    Args:
        rows: In the order of their places; closed here.
        described: The entry of one; None leaves it out.
        placed: Where one stands.
        limit: Entries at most.

    Returns:
        The entries, and what the next request asks for as `after`; None when there is no more.
    """
    entries: list[Document] = []
    size = read = 0
    last: Place | None = None
    async with aclosing(rows):
        async for row in rows:
            entry = described(row)
            full = entry is not None and (len(entries) == limit or size >= MAX_PAGE_BYTES)
            if last is not None and (full or read == MAX_ROWS_READ):
                return entries, "/".join(last)
            if entry is not None:
                entries.append(entry)
                size += len(json.dumps(entry))
            last = placed(row)
            read += 1
    return entries, None
