"""Telling the agents whether the tables are whole: what they lack more likely was lost than ever ordered away."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.phrasing import listed, logger
from shared.state.records import BINDINGS_TABLE, UPLOADS_TABLE
from shared.state.wholeness import Wholeness, tell_wholeness
from shared.upload import BLOB_SCHEME

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.function.snapshot import Snapshot
    from shared.function.sweep_report import SweepReport

log = logger(__name__)

TOLD_EVERY = timedelta(minutes=5)
"""How often a process says that they are whole still; what it finds otherwise than before it says at once."""
_TOLD = "wholeness told as "


async def say_what_is_lost(cloud: Cloud, seen: Snapshot) -> None:
    """Say that rows of uploads are lost, before they are made again: a fresh instance is not ready meanwhile."""
    if seen.uploads is None or not (lost := sorted(seen.scrubbed & seen.found.keys() - seen.uploads.keys())):
        return
    log.warning(
        "sweep: %d upload(s) that were done with have no row (%s): table %s lost them; they are judged again",
        *(len(lost), listed(lost), UPLOADS_TABLE),
    )
    await _tell(cloud, seen, whole=False)


async def say_whether_whole(cloud: Cloud, seen: Snapshot, report: SweepReport) -> None:
    """Say that the tables are whole, where this sweep read all of them and found nothing lacking."""
    unread = seen.uploads is None or seen.bindings is None
    answered = seen.answered >= {BLOB_SCHEME, *cloud.sources}
    if report.lacking or unread or not answered or seen.unreadable & {UPLOADS_TABLE, BINDINGS_TABLE}:
        cloud.last_done.pop(_TOLD + "whole", None)
        return
    await report.part("saying that the tables are whole", _tell(cloud, seen, whole=True))


async def _tell(cloud: Cloud, seen: Snapshot, *, whole: bool) -> None:
    this, other = (_TOLD + word for word in (("whole", "lacking") if whole else ("lacking", "whole")))
    last = cloud.last_done.get(this)
    if last is not None and abs(seen.taken_at - last) < TOLD_EVERY:
        return
    await tell_wholeness(cloud.bundles, Wholeness(at=seen.taken_at, whole=whole))
    cloud.last_done[this] = seen.taken_at
    cloud.last_done.pop(other, None)
