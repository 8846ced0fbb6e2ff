"""Looking whether listeners serve what they should, with patience and bounded concurrency; nothing is changed here."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from instance_agent.installing.probe import Probe, ProbeError, name_to_probe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from instance_agent.targets.base import BindingTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How to look.

    Attributes:
        settle_s: How long a change may take to be seen (a reload takes a moment) before it counts as not made.
        confirm_s: The same for what was installed before, and is installed again when it is not seen.
        timeout_s: Of one handshake.
        first_pause_s: Pause after a look that did not show what was expected; doubles each time.
        longest_pause_s: Where the doubling ends.
        at_once: Handshakes in hand at any moment.
    """

    settle_s: float = 10.0
    confirm_s: float = 1.0
    timeout_s: float = 5.0
    first_pause_s: float = 0.05
    longest_pause_s: float = 0.5
    at_once: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What one look should show.

    Attributes:
        host: Host or wildcard.
        port: The upload's PortNumber.
        fingerprint_sha256: Of the certificate in question.
        served: Whether it should be served there, or no longer be.
    """

    host: str
    port: int
    fingerprint_sha256: str
    served: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the last look showed.

    Attributes:
        met: Whether the expectation was met.
        fingerprint_sha256: The certificate seen; empty when none was.
        problem: Why none was seen.
        reached: Whether a listener answered at all.
        took_ms: From the first look to the last.
    """

    met: bool
    fingerprint_sha256: str = ""
    problem: str = ""
    reached: bool = True
    took_ms: float = 0.0


async def look(
    target: BindingTarget, probe: Probe, expectations: Sequence[Expectation], *, patience_s: float, pace: Pace
) -> list[Sighting]:
    """Look at every expectation until it is met or patience ends; each is looked at least once.

    A server without a listener to be met (`endpoint` is None) shows nothing: such an expectation counts as met.

    Returns:
        One sighting for each expectation, in their order.
    """
    turn = asyncio.Semaphore(pace.at_once)
    until = time.monotonic() + patience_s
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_watch(partial(_glance, target, probe, each, turn, pace), until, pace))
            for each in expectations
        ]
    return [task.result() for task in tasks]


async def _glance(
    target: BindingTarget, probe: Probe, expected: Expectation, turn: asyncio.Semaphore, pace: Pace
) -> Sighting:
    """Look once."""
    address = target.endpoint(expected.port)
    if address is None:
        return Sighting(met=True)
    seen, problem, reached = "", "", True
    async with turn:
        try:
            seen = await probe(address, name_to_probe(expected.host), timeout_s=pace.timeout_s)
        except ProbeError as error:
            problem, reached = str(error), error.reached
    met = (seen == expected.fingerprint_sha256) == expected.served
    return Sighting(met=met, fingerprint_sha256=seen, problem=problem, reached=reached)


async def _watch(glance: Callable[[], Awaitable[Sighting]], until: float, pace: Pace) -> Sighting:
    """Look again and again."""
    started = time.perf_counter()
    pause_s = pace.first_pause_s
    while True:
        sighting = await glance()
        if sighting.met or time.monotonic() + pause_s > until:
            return replace(sighting, took_ms=(time.perf_counter() - started) * 1000)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, pace.longest_pause_s)
