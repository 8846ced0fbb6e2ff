"""Whether the web server can be used now: what keeps it from use, since when, and the tries to start it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

from instance_agent.rounds import TROUBLES
from instance_agent.targets.base import ServerUnavailableError
from shared.errors import ConfigurationError
from shared.phrasing import LOGGED_CHARS, logger, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from instance_agent.rounds import Rounds

log = logger(__name__)

LASTING = timedelta(seconds=20)
"""A server that cannot be used for less long is being restarted, or started beside the agent: that is no failure."""


class Usability:
    """What is known of the server's being usable.

    Args:
        now: The clock.

    Attributes:
        trouble: What keeps it from use, in a sentence; empty where nothing does.
        is_started: Whether the target was started, so that its methods may be called.
        on_change: Called when the trouble is another one than before, or over.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.trouble = ""
        self.is_started = True
        self.on_change: Callable[[], None] = lambda: None
        self._now = now
        self._since: datetime | None = None

    @property
    def is_lasting(self) -> bool:
        """Whether it has been unusable so long that what is desired is to be reported as not installed."""
        return self._since is not None and self._now() - self._since >= LASTING

    def broke(self, trouble: str) -> None:
        """Enter that the server cannot be used, and why; each other sentence is logged once."""
        self._since = self._since or self._now()
        trouble = shown(trouble, LOGGED_CHARS)
        if trouble != self.trouble:
            self.trouble = trouble
            log.warning("the web server cannot be used now: %s; trying again", trouble)
            self.on_change()

    def is_well(self) -> None:
        """Enter that the server can be used."""
        self._since = None
        if self.trouble:
            self.trouble = ""
            log.info("the web server can be used again")
            self.on_change()


class Starter:
    """Starts the target, once or again and again.

    Args:
        start: `BindingTarget.start`, with what is to be done at once after it.
        usability: Where it is entered what came of it.
        rounds: The waits, and whether to stop.
    """

    def __init__(self, start: Callable[[], Awaitable[None]], usability: Usability, rounds: Rounds) -> None:
        self._start = start
        self._usability = usability
        self._rounds = rounds
        self._refused: ConfigurationError | None = None

    async def first(self) -> None:
        """Start it, or enter why it cannot be used now.

        Raises:
            ConfigurationError: Only a person can put that right.
        """
        try:
            await self._start()
        except ServerUnavailableError as error:
            self._usability.is_started = False
            self._usability.broke(str(error))

    async def until_usable(self) -> None:
        """Try again after 2, 4, 8, 16, 30, 30 … s until it is started, or until the agent is to stop.

        Where a try shows that only a person can help, the agent is stopped: see `give_up`.
        """
        for number in count():
            await self._rounds.pause(TROUBLES[number])
            if self._usability.is_started or self._rounds.stopping:
                return
            await self._try_again()

    def give_up(self) -> None:
        """Raise what stopped the agent, if such a try did.

        Raises:
            ConfigurationError: Only a person can put that right.
        """
        if self._refused is not None:
            raise self._refused

    async def _try_again(self) -> None:
        try:
            await self._start()
        except ServerUnavailableError as error:
            self._usability.broke(str(error))
        except ConfigurationError as error:
            self._refused = error
            self._rounds.stop()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # as any other step of the agent, it ends no agent
            log.exception("starting the target failed in a way it does not declare")
            self._usability.broke(f"starting the target failed unexpectedly ({type(error).__name__}): see the log")
        else:
            self._usability.is_started = True
            self._usability.is_well()
