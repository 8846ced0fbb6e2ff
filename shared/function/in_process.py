"""What one process of the Function keeps in mind, so as to do less; nothing is decided by it, and it may end any time.

Reports that come at the same moment are entered together, uploads are settled a little later where more reports are to
come, and outlets or tags that were in trouble are left alone for a while.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from shared.bounded import Delays
from shared.errors import AccessDeniedError, CertcastError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 4
"""Batches in hand."""
SENT_AT_ONCE = 4
"""Events that go to one outlet by way of the queue, so that a slow one leaves places for other messages."""
SETTLE_AFTER_S = 1.0
"""How long a status waits for further reports, from the first that does not decide it."""
REFUSED_FOR = timedelta(seconds=55)
"""After the identity was refused, no other blob (or entry) is tried until the next sweep, which tries with a few."""
SLOW_FOR = timedelta(seconds=10)
"""After a blob was not answered for in time, no other is tried for so long."""
BLOB_WAITS = Delays((0, 55, 300, 900, 3600))
"""Waits before a blob that takes nothing, being leased say, is tried again."""
MOST_BLOBS = 5_000
"""Blobs whose trouble is remembered; one that was forgotten is tried, and told of, once more."""


class Gathering(Generic[T, R]):
    """Joins what waits while some batches are in hand into the next one, which begins after all of it was asked for.

    Batches are no part's own: one that is given up takes no other with it.

    Args:
        at_once: Batches in hand.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def take_part(self, item: T, act: Callable[[Sequence[T]], Awaitable[R]]) -> R:
        """Have this done with others, and wait for it; what the batch ends in, each of its parts ends in.

        Args:
            item: What is to be done.
            act: Does a batch; that of whichever part begins it is called.
        """
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if len(self._running) < self._at_once:
            self._running.add(asyncio.create_task(self._run(act), name="a batch"))
        return await done

    async def _run(self, act: Callable[[Sequence[T]], Awaitable[R]]) -> None:
        """Do one batch after the other while anything waits."""
        try:
            await asyncio.sleep(0)  # what begins at the same moment joins
            while self._waiting:
                batch = [part for part in self._waiting if not part[1].done()]
                self._waiting = []
                if batch:
                    await _do(batch, act)
        finally:
            # In the very step that found nothing waiting: a callback comes later, and what joins until then is lost.
            self._running.discard(cast("asyncio.Task[None]", asyncio.current_task()))


async def _do(batch: Sequence[tuple[T, asyncio.Future[R]]], act: Callable[[Sequence[T]], Awaitable[R]]) -> None:
    waiting = [done for _, done in batch]
    try:
        result = await act([item for item, _ in batch])
    except Exception as error:  # noqa: BLE001 - each part raises it
        _fail(waiting, error)
    except BaseException:
        _fail(waiting, UnavailableError("its batch was cut short, as the process ends"))
        raise
    else:
        for done in waiting:
            if not done.done():
                done.set_result(result)


def _fail(waiting: Sequence[asyncio.Future[R]], error: Exception) -> None:
    for done in waiting:
        if not done.done():
            done.set_exception(error)
            done.exception()  # counts as seen, where the part itself was given up and does not ask


class Later:
    """What is done for a name a little later, once.

    Args:
        after_s: How much later; 0 puts nothing off.
    """

    def __init__(self, after_s: float = SETTLE_AFTER_S) -> None:
        self.after_s = after_s
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def put_off(self, name: str, act: Callable[[], Awaitable[None]]) -> None:
        """Do this a little later, unless something is to be done for the name then already."""
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(self._do(name, act), name=f"later: {name}")

    def call_off(self, name: str) -> None:
        """Do nothing later for this name."""
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()

    async def _do(self, name: str, act: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(self.after_s)
        del self._tasks[name]
        await act()


class Settlings:
    """When uploads were settled last, in an order of their own."""

    _MOST = 2_000

    def __init__(self) -> None:
        self._count = 0
        self._begun: dict[str, int] = {}

    def ask(self) -> int:
        """Number a moment."""
        self._count += 1
        return self._count

    def has_begun(self, name: str, *, since: int) -> bool:
        """Whether a settling that came to its end began after this moment."""
        return self._begun.get(name, 0) > since

    def done(self, name: str, begun: int) -> None:
        """Note that one came to its end."""
        self._begun.pop(name, None)
        self._begun[name] = begun
        if len(self._begun) > self._MOST:
            del self._begun[next(iter(self._begun))]


@dataclass(slots=True)
class OutletTrouble:
    """What was met with at one outlet, on the event loop's clock.

    Attributes:
        until: Until when events are sent by way of the queue.
        away_until: Until when none is sent that way either, as it did not take one.
        retired_until: Until when events for it are given up, as it said that it wants no more.
        gate: Lets that many by way of the queue go to it at a time.
    """

    until: float = float("-inf")
    away_until: float = float("-inf")
    retired_until: float = float("-inf")
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SENT_AT_ONCE))


@dataclass(slots=True)
class HistoryTrouble:
    """What was met with at table `history`.

    Attributes:
        until: Until when nothing is written there.
        said: What was said of it; empty since something was written.
    """

    until: datetime | None = None
    said: str = ""

    def is_over(self, now: datetime) -> bool:
        """Whether there is a point in trying it now."""
        return self.until is None or now >= self.until

    def met(self, problem: str, now: datetime) -> bool:
        """Note what was met with; whether that is to be said."""
        is_new, self.until, self.said = self.said != problem, now + REFUSED_FOR, problem
        return is_new

    def passed(self) -> None:
        """Note that something was written."""
        self.until, self.said = None, ""


@dataclass(slots=True)
class BlobTrouble:
    """What this process has met with where it writes one thing to many blobs.

    Attributes:
        refused_until: Until when no blob is tried, as the identity is taken for one that may not, or no answer comes.
        refusal: What was said when it was refused; empty since something was written.
        blobs: Blobs that took nothing: how often they were tried, and when they are tried again.
    """

    refused_until: datetime | None = None
    refusal: str = ""
    blobs: dict[str, tuple[int, datetime]] = field(default_factory=dict)

    def is_over_for(self, name: str, now: datetime) -> bool:
        """Whether there is a point in trying this blob now."""
        known = self.blobs.get(name)
        refused = self.refused_until is not None and now < self.refused_until
        return not refused and (known is None or now >= known[1])

    def met(self, name: str, error: CertcastError, now: datetime) -> bool:
        """Note what a blob was met with; whether that is new."""
        if isinstance(error, AccessDeniedError):
            is_new = not self.refusal
            self.refused_until, self.refusal = now + REFUSED_FOR, str(error)
            return is_new
        tries, _ = self.blobs.pop(name, (0, now))
        # What is held as it is may be so for long; what did not answer may answer in a minute.
        self.blobs[name] = (tries + 1, now + timedelta(seconds=0 if error.retriable else BLOB_WAITS[tries]))
        if len(self.blobs) > MOST_BLOBS:
            del self.blobs[next(iter(self.blobs))]
        return tries == 0

    def not_answered(self, now: datetime) -> None:
        """Note that no answer came in time."""
        self.refused_until = now + SLOW_FOR

    def is_over(self, name: str) -> None:
        """Note that a blob took it."""
        self.blobs.pop(name, None)
        self.refused_until, self.refusal = None, ""


@dataclass(slots=True)
class TagTrouble(BlobTrouble):
    """What this process has met with at blobs' tags.

    Attributes:
        unsupported_until: Until when the account is taken for one without tags.
        full: Blobs with too many tags of others to take all of ours, which take those that there is room for.
    """

    unsupported_until: datetime | None = None
    full: BlobTrouble = field(default_factory=BlobTrouble)

    def has_none(self, now: datetime) -> bool:
        """Whether the account is one without tags."""
        return self.unsupported_until is not None and now < self.unsupported_until
