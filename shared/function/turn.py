"""Turns at one upload: the revision that puts overlapping looks in order, and writing under it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.function.election import StaleRevisionError
from shared.state.records import UploadRecord, UploadStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.function.cloud import Cloud
    from shared.state.rows import Held

    Change = Callable[[UploadRecord], UploadRecord]
    """From an upload's row as it is to what it should be; it may be called several times."""


class Turn:
    """One look's turn at an upload: its row, carried along from write to write.

    Args:
        cloud: Whose upload.
        held: The row with the revision that this turn took.

    Attributes:
        record: The row as this look read or wrote it last.
        held: The same, with its version.
        began: When it took the turn.
        asks: What the look waits for now, where it is given up while it does: a phrase such as `the vault v`.
    """

    def __init__(self, cloud: Cloud, held: Held[UploadRecord]) -> None:
        assert held.value is not None, "a turn begins with a row"  # noqa: S101 - narrows the type
        self.record = held.value
        self.held = held
        self.asks = "the table uploads"
        self.began = cloud.now()
        self._cloud = cloud

    def now_asks(self, what: str) -> None:
        """Note what the look waits for from now on."""
        self.asks = what

    async def write(self, change: Change) -> UploadRecord:
        """Change the row unless a later look has begun.

        Raises:
            StaleRevisionError: A later look has begun.
        """
        mine = self.record.revision

        def change_mine(record: UploadRecord | None) -> UploadRecord:
            if record is None or record.revision != mine:
                raise StaleRevisionError(f"upload {self.record.name} was looked at again meanwhile")
            return change(record)

        update = await self._cloud.state.uploads.update(self.record.name, change_mine, self.held)
        self.held = update.held
        self.record = update.after or self.record
        return self.record

    async def read(self) -> UploadRecord:
        """Read the row again, which others have written with this look's leave.

        Raises:
            StaleRevisionError: A later look has begun.
        """
        self.held = await self._cloud.state.uploads.read(self.record.name)
        return await self.write(lambda record: record)


async def take_turn(
    cloud: Cloud, name: str, *, traceparent: str, above: int = 0, held: Held[UploadRecord] | None = None
) -> Turn:
    """Take the upload's next revision; a look that began with a lower one can write nothing any more.

    Args:
        cloud: Whose upload.
        name: Its name.
        traceparent: W3C trace context of the look.
        above: A revision that was met elsewhere: the upload's row may have been lost, and its claims not.
        held: The row as it was read last.
    """
    now = cloud.now()

    def change(record: UploadRecord | None) -> UploadRecord:
        known = record or UploadRecord(name=name, revision=0, status=UploadStatus.RECEIVED, held_up_since=now)
        return replace(known, revision=max(known.revision, above) + 1, traceparent=traceparent)

    return Turn(cloud, (await cloud.state.uploads.update(name, change, held)).held)
