"""Asking for another look at an upload later, through the queue `certificate-recheck`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.bounded import Delays
from shared.errors import CertcastError
from shared.messages import RECHECK_QUEUE, RecheckUpload, encode
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from shared.function.cloud import Cloud
    from shared.state.records import UploadRecord

log = logger(__name__)

RECHECK_DELAYS = Delays((2, 5, 10, 30))
"""Waits before an upload without a password is looked at again."""
RECHECK_FOR_S = 900
"""After this long only the sweep looks at it again."""
LONGEST_DELAY = timedelta(days=6)
"""Below the seven days a queue message may be hidden (learn.microsoft.com, "Put Message")."""

ASKED_IN_S = 5.0
"""How long an upload's own work waits for the queue."""


def recheck_delay_s(attempt: int) -> float | None:
    """Seconds to wait before look number `attempt`; None when it is the sweep's turn."""
    if attempt > RECHECK_FOR_S:  # a number from a queue, where counting up to it may take hours
        return None
    waited_s = sum(RECHECK_DELAYS[earlier] for earlier in range(attempt))
    return None if waited_s >= RECHECK_FOR_S else RECHECK_DELAYS[attempt]


async def send_recheck(cloud: Cloud, name: str, *, attempt: int, traceparent: str = "") -> None:
    """Ask for another look at an upload after the delay that this attempt has."""
    delay_s = recheck_delay_s(attempt)
    if delay_s is not None:
        message = RecheckUpload(name=name, attempt=attempt, traceparent=traceparent)
        await cloud.queues.send(RECHECK_QUEUE, encode(message), delay_s=delay_s)


async def send_again(cloud: Cloud, message: RecheckUpload) -> None:
    """Put a message back that could not be acted on now, with the delay that the next attempt has."""
    delay_s = recheck_delay_s(message.attempt + 1)
    if delay_s is None:
        log.error("upload %s: given up what was asked for by a message, after %g s", message.name, RECHECK_FOR_S)
        return
    await cloud.queues.send(RECHECK_QUEUE, encode(replace(message, attempt=message.attempt + 1)), delay_s=delay_s)


async def send_when_due(cloud: Cloud, record: UploadRecord) -> None:
    """Ask for a look when the certificate becomes valid, or, where a message cannot be hidden so long, on the way."""
    if record.not_before is None:
        return
    delay = min(record.not_before - cloud.now(), LONGEST_DELAY)
    message = RecheckUpload(name=record.name, traceparent=record.traceparent)
    await cloud.queues.send(RECHECK_QUEUE, encode(message), delay_s=max(1.0, delay.total_seconds() + 1))


async def ask_for_a_look(record: UploadRecord, asking: Awaitable[None]) -> None:
    """Ask for a look that the sweeps take too, if later: where it cannot be asked for, no more than that comes of it.

    Args:
        record: The upload.
        asking: Puts the message on the queue.
    """
    try:
        async with asyncio.timeout(ASKED_IN_S):
            await asking
    except (CertcastError, TimeoutError) as error:
        why = str(error) or f"queue {RECHECK_QUEUE} did not answer in {ASKED_IN_S:g} s"
        log.warning("upload %s: no look at it could be asked for, it is left to the sweeps: %s", record.name, why)
