"""The policy as it is now: read again after a minute; while there is one that cannot be used, nothing is accepted."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from shared.errors import BusyError, CertcastError
from shared.phrasing import logger
from shared.validation.policy import Policy
from shared.validation.policy_text import read_policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logger(__name__)

KEPT_S = 60.0
"""A policy is read again after this long; what it says now holds for uploads from then on, and for the next sweep."""
FAILED_S = 10.0
"""One that cannot be used is read again after this long, however many uploads ask meanwhile."""


class Rules:
    """The policy in force.

    Args:
        read: Reads its text; None where there is no policy.
        clock: Seconds that pass.
    """

    def __init__(
        self, read: Callable[[], Awaitable[str]] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._reading = asyncio.Lock()
        self._text: str | None = None
        self._policy = Policy()
        self._failure = ""
        self._good_until = float("-inf")

    async def current(self) -> Policy:
        """The policy.

        Raises:
            BusyError: It cannot be read, or is faulty, and uploads are put off. The text quotes nothing of it, as
                anybody may see it.
        """
        if self._read is None:
            return self._policy
        async with self._reading:
            if self._clock() >= self._good_until:
                await self._renew(self._read)
        if self._failure:
            raise BusyError(
                "the policy that CERTCAST_POLICY names cannot be used, so that nothing is accepted: the Function's log "
                "and `certcast doctor` say why"
            )
        return self._policy

    async def _renew(self, read: Callable[[], Awaitable[str]]) -> None:
        before, self._failure = self._failure, ""
        try:
            text = await read()
            if text != self._text:
                self._policy, self._text = read_policy(text), text
        except CertcastError as error:
            self._text, self._failure = None, str(error)
            if self._failure != before:
                log.error("policy: nothing is accepted until it can be used: %s", error)
        self._good_until = self._clock() + (FAILED_S if self._failure else KEPT_S)
