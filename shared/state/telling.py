"""Uploads' rows, read to be told: with the instances, and with the desired rows that their reasons depend on."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bounded import ROWS_AT_ONCE, gather_bounded
from shared.errors import AccessDeniedError
from shared.state.keys import binding_key
from shared.state.missing import Roll
from shared.state.reasons import as_told, depends_on_others

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
    from datetime import datetime

    from shared.binding import BindingKey, DesiredBinding
    from shared.state.presence import Instances
    from shared.state.records import UploadRecord
    from shared.state.tables import State

MOST_READS = 50
"""Beyond so many desired rows, reading the table is quicker than reading them one by one."""


async def with_reasons(
    state: State,
    records: Sequence[UploadRecord],
    now: datetime,
    *,
    instances: Instances | None = None,
    most_rows: int | None = None,
) -> list[UploadRecord]:
    """The same uploads with reasons that are true now; as they stand in their rows, to who may not read the others.

    Args:
        state: The tables.
        records: Uploads' rows, as they were read a moment ago.
        now: The time.
        instances: The registered ones by id: counts are of those that run, and who is missing is named. None leaves it.
        most_rows: Desired rows that are read at most; what lies beyond is told as it stands in the upload's row.
    """
    dependent = [record for record in records if depends_on_others(record)]
    told = await _with_names(state, records, dependent, now, most_rows)
    if instances is None:
        return told
    roll = Roll(instances, now)
    return [roll.as_seen(record) for record in told]


async def _with_names(
    state: State, records: Sequence[UploadRecord], dependent: Sequence[UploadRecord], now: datetime, most: int | None
) -> list[UploadRecord]:
    """With the uploads named that are served in their place."""
    keys = {key for record in dependent for key in record.claims}
    names = {record.name for record in dependent}
    found = _each(state, keys) if len(keys) <= MOST_READS else _among(state, keys, most)
    try:
        rows = {row.key: _without_others(row, names) async for row in found}
    except AccessDeniedError:
        return list(records)  # uploaders need not have that right, and what stands in the uploads' rows is true too
    return [as_told(record, rows, now) for record in records]


async def _each(state: State, keys: Iterable[BindingKey]) -> AsyncGenerator[DesiredBinding, None]:
    for row in await gather_bounded((state.bindings.get(key) for key in sorted(keys)), limit=ROWS_AT_ONCE):
        if row is not None:
            yield row


async def _among(state: State, keys: Collection[BindingKey], most: int | None) -> AsyncGenerator[DesiredBinding, None]:
    """Read the part of the table in which these rows are, as it lies there."""
    places = {binding_key(key) for key in keys}
    (partition, first), last = min(places), max(places)
    read = 0
    async with aclosing(state.bindings.all(after=(partition, first[:-1]))) as among:
        async for known in among:
            place, read = binding_key(known.value.key), read + 1
            if place > last or (most is not None and read > most):
                return
            if place in places:
                yield known.value


def _without_others(row: DesiredBinding, names: Collection[str]) -> DesiredBinding:
    """What is needed of a row: of thousands, the claims would take most of the memory."""
    return replace(row, claims=tuple(each for each in row.claims if each.source == row.source or each.source in names))
