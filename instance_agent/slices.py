"""Many rows acted on a slice at a time: while one is installed and proved, the bundles of the next are fetched."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from instance_agent.fetching import Bundles, Fetched
    from shared.binding import DesiredBinding

SLICE = 250
"""Rows of one slice: seconds of work at most, between which hints get their turn."""


async def fetched_slices(
    bundles: Bundles, rows: Sequence[DesiredBinding], *, size: int
) -> AsyncGenerator[tuple[Sequence[DesiredBinding], Mapping[str, Fetched]], None]:
    """Each slice of the rows with its bundles; at most two slices' bundles are held at once."""
    slices = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
    coming: asyncio.Task[dict[str, Fetched]] | None = None
    try:
        for number, current in enumerate(slices):
            fetched = await (coming or bundles.fetch(_ids(current)))
            following = slices[number + 1 : number + 2]
            coming = asyncio.ensure_future(bundles.fetch(_ids(following[0]))) if following else None
            yield current, fetched
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])


def _ids(rows: Sequence[DesiredBinding]) -> set[str]:
    return {row.bundle_id for row in rows if row.present}
