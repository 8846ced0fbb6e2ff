"""Taking reports that are expected from their queue, without waiting until the Functions host looks there.

The host looks at a queue that was empty ever more seldom. A process that has just told instances of something knows
that reports will come, and takes them for a moment: many at once, too, which are then entered together. The queue
trigger takes what comes at other times, and what is left where the process ends: that is seen again after a minute.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.errors import BrokenMessageError, CertcastError
from shared.function.results import fold
from shared.messages import RESULTS_QUEUE, InstallReport, decode
from shared.phrasing import logger
from shared.telemetry.spans import invoked

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.ports import ReceivedMessage

log = logger(__name__)

LOOKS_EVERY_S = 0.05
EXPECTED_FOR_S = 2.0
"""After a hint, and after each report that came. An idle agent takes its hint within half a second by default."""
AT_ONCE = 32
"""Most messages that one request can take (learn.microsoft.com, "Get Messages")."""
HIDDEN_S = 60
MOST_IN_HAND = 128


class Listener:
    """Looks at the queue of reports while some are expected.

    Args:
        cloud: What the reports are entered into.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._until = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._in_hand: set[asyncio.Task[None]] = set()

    def expect_reports(self) -> None:
        """Look for reports during the next two seconds, and as long as some come."""
        loop = asyncio.get_running_loop()
        self._until = loop.time() + EXPECTED_FOR_S
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._listen(), name="listening for reports")

    async def _listen(self) -> None:
        with invoked(None):  # what comes belongs to the reports' traces, not to that of the hint
            await self._look_while_expected()

    async def _look_while_expected(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < self._until:
            try:
                taken = await self._cloud.queues.receive(RESULTS_QUEUE, limit=AT_ONCE, visibility_s=HIDDEN_S)
            except CertcastError as error:
                log.info(
                    "queue %s: not read while reports are expected, the trigger takes them: %s", RESULTS_QUEUE, error
                )
                return
            if taken:
                self._until = loop.time() + EXPECTED_FOR_S
            for message in taken:
                task = loop.create_task(self._take(message), name=f"report {message.message_id}")
                self._in_hand.add(task)
                task.add_done_callback(self._in_hand.discard)
            while len(self._in_hand) >= MOST_IN_HAND:
                await asyncio.wait(self._in_hand, return_when=asyncio.FIRST_COMPLETED)
            if len(taken) < AT_ONCE:
                await asyncio.sleep(LOOKS_EVERY_S)

    async def _take(self, message: ReceivedMessage) -> None:
        """Enter one report; what cannot be is left for the trigger, which tries again and puts it aside in the end."""
        cloud = self._cloud
        try:
            await fold(cloud, decode(InstallReport, message.body or ""))
        except BrokenMessageError as error:
            log.error("queue %s: a message is dropped: %s", RESULTS_QUEUE, error)
        except CertcastError as error:
            log.warning("queue %s: a report could not be entered and comes again: %s", RESULTS_QUEUE, error)
            return
        except Exception:
            log.exception("queue %s: a report could not be entered and comes again", RESULTS_QUEUE)
            return
        try:
            await cloud.queues.done(RESULTS_QUEUE, message)
        except CertcastError as error:
            log.warning("queue %s: a report that was entered comes again: %s", RESULTS_QUEUE, error)
