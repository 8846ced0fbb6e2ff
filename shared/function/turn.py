"""Taking turns at one upload: the revision that puts overlapping looks in order, and writing under it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.binding import StaleRevisionError
from shared.errors import ConflictError
from shared.state.records import UploadRecord, UploadStatus

if TYPE_CHECKING:
    from shared.function.cloud import Cloud


async def take_turn(cloud: Cloud, name: str, *, traceparent: str) -> UploadRecord:
    """Take the upload's next revision; whatever began with a lower one can write nothing any more."""

    def change(record: UploadRecord | None) -> UploadRecord:
        known = record or UploadRecord(name=name, revision=0, status=UploadStatus.RECEIVED)
        return replace(known, revision=known.revision + 1, traceparent=traceparent)

    record = await cloud.state.uploads.update(name, change)
    if record is None:  # pragma: no cover - `change` never answers None
        raise ConflictError(f"upload {name} could not be entered")
    return record


async def write(cloud: Cloud, mine: UploadRecord, **columns: object) -> UploadRecord:
    """Write columns of the upload's row unless a later look has begun.

    Raises:
        StaleRevisionError: A later look has begun.
    """

    def change(record: UploadRecord | None) -> UploadRecord:
        if record is None or record.revision != mine.revision:
            raise StaleRevisionError(f"upload {mine.name} was looked at again meanwhile")
        return replace(record, **columns)  # type: ignore[arg-type]  # column names are checked by the tests of each path

    return await cloud.state.uploads.update(mine.name, change) or mine
