"""Asking for another look at an upload later, through the queue `certificate-recheck`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.bounded import Delays
from shared.messages import RECHECK_QUEUE, RecheckUpload, encode

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.state.records import UploadRecord

RECHECK_DELAYS = Delays((2, 5, 10, 30))
"""Waits before an upload without a password is looked at again."""
RECHECK_FOR_S = 900
"""After this long only the sweep looks at it again."""
LONGEST_DELAY = timedelta(days=6)
"""Below the seven days a queue message may be hidden (learn.microsoft.com, "Put Message")."""


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


async def send_when_due(cloud: Cloud, record: UploadRecord) -> None:
    """Ask for a look when the certificate becomes valid, or, where a message cannot be hidden so long, on the way."""
    if record.not_before is None:
        return
    delay = min(record.not_before - cloud.now(), LONGEST_DELAY)
    message = RecheckUpload(name=record.name, traceparent=record.traceparent)
    await cloud.queues.send(RECHECK_QUEUE, encode(message), delay_s=max(1.0, delay.total_seconds() + 1))
