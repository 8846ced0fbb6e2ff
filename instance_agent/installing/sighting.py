"""Looks whether listeners serve what they should, with patience and bounded concurrency."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from instance_agent.installing.probe import Probe, ProbeError, names_to_probe
from instance_agent.targets.base import HostPort
from shared.bounded import Delays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instance_agent.targets.base import BindingTarget, Install

_PAUSES = Delays((0.05, 0.1, 0.2, 0.4, 0.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How to look.

    Attributes:
        patience_s: How long a change may take to be seen (a reload takes a moment) before it counts as not made.
        confirm_s: The same for what was installed before, and is installed again when it is not seen.
        timeout_s: Of one handshake.
        pauses: After looks that did not show what was expected.
        at_once: Handshakes in hand at any moment.
    """

    patience_s: float = 10.0
    confirm_s: float = 1.0
    timeout_s: float = 5.0
    pauses: Delays = _PAUSES
    at_once: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation(HostPort):
    """What one look at a host and port should show.

    Attributes:
        fingerprint_sha256: Of the certificate in question.
        served: Whether it should be served there, or no longer be.
    """

    fingerprint_sha256: str
    served: bool = True


def served(install: Install) -> Expectation:
    """That an install's certificate is served for its host and port."""
    return Expectation(host=install.host, port=install.port, fingerprint_sha256=install.bundle.fingerprint_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the last look showed.

    Attributes:
        met: Whether the expectation was met.
        fingerprint_sha256: The certificate seen; empty when none was, or no use can be made of the one that should be
            served. So one that is not as expected is another.
        problem: Why none was seen, or why the one seen is of no use.
        unusable: Whether the right certificate was shown in a handshake that no client can finish.
        reached: Whether a listener answered at all.
        asked: The server name that was asked for last; None for none.
        known: Whether the look showed what is served, be it that the server refuses this name or listens no longer; a
            listener that says nothing, or not in time, shows nothing.
        took_ms: From the first look to the last.
    """

    met: bool
    fingerprint_sha256: str = ""
    problem: str = ""
    unusable: bool = False
    reached: bool = True
    asked: str | None = None
    known: bool = True
    took_ms: float = 0.0


class Looker:
    """Looks at a target's listeners.

    A server without a listener to be met (`endpoint` is None) shows nothing: an expectation of it counts as met.

    Args:
        target: The server.
        probe: How to look once.
        pace: How to look again.
    """

    def __init__(self, target: BindingTarget, probe: Probe, pace: Pace) -> None:
        self.pace = pace
        self._target = target
        self._probe = probe
        self._turn = asyncio.Semaphore(pace.at_once)

    async def look(self, expectations: Sequence[Expectation], *, patience_s: float) -> list[Sighting]:
        """Look at every expectation until it is met or patience ends; each is looked at least once.

        Returns:
            One sighting for each expectation, in their order.
        """
        until = time.monotonic() + patience_s
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._watch(each, until)) for each in expectations]
        return [task.result() for task in tasks]

    async def _watch(self, expected: Expectation, until: float) -> Sighting:
        """Look again and again."""
        started = time.perf_counter()
        for number in count():
            sighting = await self._glance(expected)
            pause_s = self.pace.pauses[number]
            if sighting.met or time.monotonic() + pause_s > until:
                break
            await asyncio.sleep(pause_s)
        return replace(sighting, took_ms=(time.perf_counter() - started) * 1000)

    async def _glance(self, expected: Expectation) -> Sighting:
        """Look once, in every way in which clients ask for the host; the first that is not as expected is told."""
        address = self._target.endpoint(expected.port)
        if address is None:
            return Sighting(met=True)
        for name in names_to_probe(expected.host):
            async with self._turn:
                sighting = await self._asked(address, name, expected)
            if not sighting.met:
                break
        return sighting

    async def _asked(self, address: tuple[str, int], name: str | None, expected: Expectation) -> Sighting:
        """Ask once."""
        try:
            seen = await self._probe(address, name, timeout_s=self.pace.timeout_s)
        except ProbeError as error:
            shown = error.shown != "" and error.shown == expected.fingerprint_sha256
            unusable = shown and expected.served
            return Sighting(
                met=not expected.served and not error.timed_out and not shown,
                fingerprint_sha256="" if unusable else error.shown,
                problem=str(error),
                unusable=unusable,
                reached=error.reached,
                asked=name,
                known=not (error.timed_out or error.silent),
            )
        met = (seen == expected.fingerprint_sha256) == expected.served
        return Sighting(met=met, fingerprint_sha256=seen, asked=name)
