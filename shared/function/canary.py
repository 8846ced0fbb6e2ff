"""Canaries: blobs that `certcast doctor` writes to see whether events arrive, and that are never uploads.

An event about one has it deleted, which is how its writer learns of it: nothing is judged, no row, tag or event is
written. The sweep, which notices blobs without any event, deletes it only when its writer has long stopped waiting.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.errors import CertcastError
from shared.function.deadlines import EVENT_S
from shared.phrasing import logger

if TYPE_CHECKING:
    from datetime import datetime

    from shared.function.cloud import Cloud
    from shared.ports import BlobVersion

log = logger(__name__)

CANARY_KEEP = timedelta(minutes=15)
"""Longer than `certcast doctor` waits: what is older was left by one that ended in between."""


async def remove_canary(cloud: Cloud, name: str) -> None:
    """Delete a canary that an event told of; where that fails, the event need not come again, as the sweep does it."""
    try:
        async with asyncio.timeout(EVENT_S):
            await cloud.uploads.delete(name)
    except (CertcastError, TimeoutError) as error:
        why = str(error) or f"not done in {EVENT_S:g} s"
        log.warning("canary %s: an event told of it, and it could not be deleted: %s", name, why)
    else:
        log.info("canary %s: an event told of it, and it was deleted", name)


def is_left_behind(version: BlobVersion, now: datetime) -> bool:
    """Whether a canary's `certcast doctor` waits no more."""
    return now - version.last_modified >= CANARY_KEEP
