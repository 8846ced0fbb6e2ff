"""Turns at one upload: the revision that puts overlapping looks in order, and writing under it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.function.election import StaleRevisionError
from shared.state.records import UploadRecord, UploadStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.function.cloud import Cloud

    Change = Callable[[UploadRecord], UploadRecord]
    """From an upload's row as it is to what it should be; it may be called several times."""


async def take_turn(cloud: Cloud, name: str, *, traceparent: str, above: int = 0) -> UploadRecord:
    """Take the upload's next revision; a look that began with a lower one can write nothing any more.

    Args:
        cloud: Whose upload.
        name: Its name.
        traceparent: W3C trace context of the look.
        above: A revision that was met elsewhere: the upload's row may have been lost, and its claims not.
    """

    def change(record: UploadRecord | None) -> UploadRecord:
        known = record or UploadRecord(name=name, revision=0, status=UploadStatus.RECEIVED)
        return replace(known, revision=max(known.revision, above) + 1, traceparent=traceparent)

    return await _written(cloud, name, change)


async def write(cloud: Cloud, mine: UploadRecord, change: Change) -> UploadRecord:
    """Change the upload's row unless a later look has begun.

    Args:
        cloud: Whose row.
        mine: The row as this look knows it.
        change: What to do to it.

    Raises:
        StaleRevisionError: A later look has begun.
    """

    def change_mine(record: UploadRecord | None) -> UploadRecord:
        if record is None or record.revision != mine.revision:
            raise StaleRevisionError(f"upload {mine.name} was looked at again meanwhile")
        return change(record)

    return await _written(cloud, mine.name, change_mine)


async def _written(cloud: Cloud, name: str, change: Callable[[UploadRecord | None], UploadRecord]) -> UploadRecord:
    after = (await cloud.state.uploads.update(name, change)).after
    assert after is not None, "such a change leaves a row"  # noqa: S101 - narrows the type
    return after
