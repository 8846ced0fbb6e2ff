"""One Event Grid subscription: filter, validation handshake, delivery with retries, and loss and disorder on demand.

Events wait in memory and are lost with this process: the application's own sweep finds what they were about, as it does
in Azure after an event has expired. https://learn.microsoft.com/azure/event-grid/delivery-and-retry
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import aiohttp

from local_azure.eventgrid.schemas import EventSchema, handshake, notification
from local_azure.eventgrid.storage_event import BLOB_CREATED, BLOB_DELETED
from shared.bounded import Delays
from shared.phrasing import logger

if TYPE_CHECKING:
    from local_azure.eventgrid.schemas import GridRequest, Handshake
    from local_azure.eventgrid.storage_event import Event

log = logger("certcast.eventgrid")

_ATTEMPT_TIMEOUT_S = 30.0
_DELAYS = Delays((1, 1, 2, 5, 10))
_AZURES_DELAYS = (10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200)
_PARALLEL_ATTEMPTS = 64
_SUCCESSES = frozenset({200, 201, 202, 203, 204})
_NEVER_RETRIED = frozenset({400, 401, 403, 413})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Which events go where.

    Attributes:
        endpoint: The webhook's URL; its query may hold the function's key.
        subject_begins_with: Only subjects that begin so.
        event_types: Only these event types.
        schema: What they are delivered in.
    """

    endpoint: str = field(repr=False)
    subject_begins_with: str = ""
    event_types: frozenset[str] = frozenset({BLOB_CREATED, BLOB_DELETED})
    schema: EventSchema = EventSchema.EVENT_GRID

    def wants(self, event_type: str, subject: str) -> bool:
        """Whether an event passes the filter; case does not matter in subjects, as in Event Grid."""
        return event_type in self.event_types and subject.lower().startswith(self.subject_begins_with.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySchedule:
    """When a failed delivery is tried again, and when it is given up.

    A person waits here, so that it is sooner than Event Grid's 10, 30, 60, 300 seconds and more; a host that is started
    late has its events within a second or two.

    Attributes:
        delays: Waits after the first, second … failure.
        refused_delay_s: Wait after a refused connection, as the endpoint has not started yet; None for the same as
            after another failure.
        time_to_live_s: Age at which an event is dropped.
        most_attempts: After so many an event is dropped.
    """

    delays: Delays = _DELAYS
    refused_delay_s: float | None = 1.0
    time_to_live_s: float = 86_400.0
    most_attempts: int = 1_000_000

    @classmethod
    def of_azure(cls, scale: float = 1.0) -> RetrySchedule:
        """Event Grid's own, with every time multiplied."""
        delays = Delays(tuple(seconds * scale for seconds in _AZURES_DELAYS))
        return cls(delays=delays, refused_delay_s=None, time_to_live_s=86_400.0 * scale, most_attempts=30)

    def delay_s(self, failures: int, *, refused: bool) -> float:
        """The wait after so many failures in a row."""
        return self.refused_delay_s if refused and self.refused_delay_s is not None else self.delays[failures - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disorder:
    """What may become of an event on its way, as Event Grid promises neither once nor in order.

    Attributes:
        doubled: Probability that it is delivered twice.
        late: Probability that a delivery waits, so that later events pass it.
        late_s: How long it waits at most.
    """

    doubled: float = 0.0
    late: float = 0.0
    late_s: float = 5.0


class EventDelivery:
    """Delivers the events of one subscription, each on its own, at least once and in no particular order.

    Attributes:
        subscription: Which events go where.
        drop: Probability that an event is withheld, for tests; may be set at any time.
        disorder: What may become of the others; may be set at any time.
        counts: How many events were `posted`, `delivered`, `failed` (attempts), `dropped` (refused, too old) and
            `lost` (withheld).
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        schedule: RetrySchedule | None = None,
        drop: float = 0.0,
        disorder: Disorder | None = None,
    ) -> None:
        self.disorder = disorder or Disorder()
        self.subscription = subscription
        self.counts: Counter[str] = Counter()
        self._schedule = schedule or RetrySchedule()
        self.drop = drop
        self._random = random.Random(0)  # noqa: S311 - each run withholds the same
        self._session: aiohttp.ClientSession | None = None
        self._validated = asyncio.Event()
        self._attempts = asyncio.Semaphore(_PARALLEL_ATTEMPTS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshake: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin the validation handshake; events posted before it succeeds wait for it."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ATTEMPT_TIMEOUT_S))
        self._handshake = asyncio.create_task(self._validate(), name="Event Grid validation")

    async def stop(self) -> None:
        """Stop delivering; what is undelivered is forgotten."""
        if self._tasks:
            log.warning("%d events were not delivered before the relay stopped", len(self._tasks))
        tasks = [*self._tasks, *([self._handshake] if self._handshake else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def validated(self) -> None:
        """Wait until the endpoint has proved that it wants the events."""
        await self._validated.wait()

    async def idle(self) -> None:
        """Wait until no delivery is waiting or under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def post(self, event: Event) -> None:
        """Take an event that passed the filter for delivery; returns at once."""
        self.counts["posted"] += 1
        if self._happens(self.drop):
            self.counts["lost"] += 1
            log.warning("%s of %s is withheld", event["eventType"], event["subject"])
            return
        for _ in range(2 if self._happens(self.disorder.doubled) else 1):
            late_s = self._random.uniform(0, self.disorder.late_s) if self._happens(self.disorder.late) else 0.0
            task = asyncio.create_task(self._deliver(event, late_s), name=f"event {event['id']}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability

    async def _deliver(self, event: Event, late_s: float) -> None:
        await asyncio.sleep(late_s)
        loop = asyncio.get_running_loop()
        expires = loop.time() + self._schedule.time_to_live_s
        await self._validated.wait()
        for attempt in count(1):
            status, said = await self._send(notification(self.subscription.schema, event, deliveries=attempt - 1))
            if status in _SUCCESSES:
                self.counts["delivered"] += 1
                log.info("%s of %s delivered", event["eventType"], event["subject"])
                return
            self.counts["failed"] += 1
            wait_s = self._schedule.delay_s(attempt, refused=status is None)
            if status in _NEVER_RETRIED:
                reason = "which is never retried"
            elif loop.time() + wait_s > expires:
                reason = "and it is too old"
            elif attempt >= self._schedule.most_attempts:
                reason = f"and that was attempt {attempt}"
            else:
                log.info("%s of %s: %s; again in %g s", event["eventType"], event["subject"], said, wait_s)
                await asyncio.sleep(wait_s)
                continue
            self.counts["dropped"] += 1
            log.error("%s of %s is dropped: %s, %s", event["eventType"], event["subject"], said, reason)
            return

    async def _validate(self) -> None:
        for attempt in count(1):
            asked = handshake(self.subscription.schema)
            status, said = await self._send(asked.request, asked)
            if status in _SUCCESSES:
                log.info("events are delivered as %s", self.subscription.schema)
                self._validated.set()
                return
            refused = status is None
            (log.debug if refused else log.error)("the Event Grid subscription is not validated: %s", said)
            await asyncio.sleep(min(self._schedule.delay_s(attempt, refused=refused), 5.0))

    async def _send(self, request: GridRequest, asked: Handshake | None = None) -> tuple[int | None, str]:
        """Send one request; answers its status (None when the connection was refused) and a sentence about it."""
        if self._session is None:
            raise RuntimeError("start comes first")
        async with self._attempts:
            try:
                async with self._session.request(
                    request.method,
                    self.subscription.endpoint,
                    data=request.body or None,
                    headers=request.headers,
                    allow_redirects=False,
                ) as answer:
                    body = await answer.read()
                    if asked is not None and answer.status in _SUCCESSES and not asked.agreed(answer.headers, body):
                        return 0, "the endpoint did not agree to be sent events"
                    return answer.status, f"the endpoint answered {answer.status}"
            except aiohttp.ClientConnectorError:
                return None, "the endpoint refuses connections"
            except (aiohttp.ClientError, TimeoutError) as error:
                return 0, f"the endpoint did not answer ({type(error).__name__})"
