"""The end of a look at an upload: it is told what became of it, and the version is marked as done with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bounded import together
from shared.function.announcing import tell, tell_all, tell_once_more
from shared.function.election import StaleRevisionError
from shared.function.scrubbing import Scrubbed, scrub
from shared.function.tagging import is_untold

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from shared.function.cloud import Cloud
    from shared.function.turn import Turn
    from shared.ports import BlobVersion
    from shared.state.records import UploadRecord


async def finish(cloud: Cloud, turn: Turn, scrubbing: Awaitable[Scrubbed]) -> UploadRecord:
    """Tell what the upload's row says, then mark the version as done with, whether it could be told or not.

    Args:
        cloud: Where it is told.
        turn: The look's turn at the upload.
        scrubbing: Leaves the version that is done with.
    """
    scrubbed, told = await together(scrubbing, tell(cloud, turn.record))
    try:
        record = await turn.write(
            lambda current: replace(told(current), etag=scrubbed.etag, password_left=scrubbed.left)
        )
    except StaleRevisionError:
        # A later look has told its own meanwhile, and this one's tags may lie over those.
        await tell_once_more(cloud, turn.record.name, told)
        raise
    if is_untold(cloud, record):
        await tell_all(cloud, turn.held)
    return record


async def complete(cloud: Cloud, turn: Turn, version: BlobVersion) -> UploadRecord:
    """Take the password out of the upload's metadata, and finish under the ETag that this leaves."""
    return await finish(cloud, turn, scrub(cloud, turn.record, version))
