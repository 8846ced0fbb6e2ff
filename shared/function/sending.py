"""Sending what stands in the outbox to its outlets: to each at least once, in the order of each upload's events.

A topic is sent an event at once, beside what else is told; what it does not take then goes by way of the queue
`certificate-recheck`, with a message for each outlet. So does all that a webhook is sent: it may take seconds, and an
event given up half-way is one delivered twice. Trouble is kept for each outlet on its own, so that one that is
away holds up neither another nor any installation: a topic that does not answer holds up the status of one upload in
ten seconds, by a second.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from logging import INFO, WARNING
from typing import TYPE_CHECKING

from shared.bounded import Delays, try_all
from shared.errors import AccessDeniedError, BusyError, CertcastError, RetiredError, ThrottledError
from shared.function.outbox import Taken, pending, send_due
from shared.phrasing import logger
from shared.telemetry import names
from shared.telemetry.names import Kind, Stage
from shared.telemetry.spans import note, span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from shared.function.cloud import Cloud
    from shared.function.in_process import OutletTrouble
    from shared.messages import OutgoingEvent
    from shared.ports import Outlet
    from shared.state.records import UploadRecord
    from shared.state.rows import Held

log = logger(__name__)

PROMPT_S = 1.0
"""How long an upload's own work may wait for an outlet."""
TROUBLED_S = 10.0
"""After an outlet did not take an event in that time, it is sent none at once for so long."""
AWAY_S = 4.0
"""After an outlet did not take an event by way of the queue, it is sent no other for so long: thousands may wait, and
each may keep a look on the same queue from its turn. Less than the first of the waits that follow."""
PLACE_S = 0.5
"""How long an event may wait for one of the places at its outlet."""
RETIRED_S = 3600.0
"""After an outlet said that it wants no more events, they are given up for so long; then it is asked once more."""
RETRY_DELAYS = Delays((5, 15, 60))
"""Waits before an outlet that did not take an event is tried again; after the last it is the sweep's turn."""
LONGEST_PAUSE_S = 86_400.0
"""A longer pause than a day that an outlet asks for counts as one of a day."""
ROUND_S = 60.0
"""After that, one upload's further events for an outlet are left to another message."""
KEEP_TRYING = timedelta(days=7)


def nothing_taken(cloud: Cloud) -> Taken:
    """That no outlet took anything just now; entered, it takes out what only outlets that are gone had not taken."""
    return Taken(outlets=frozenset(outlet.key for outlet in cloud.outlets))


def _taken(cloud: Cloud, by: Mapping[str, Collection[str]]) -> Taken:
    """What outlets, by their keys, are done with."""
    ids = {each for events in by.values() for each in events}
    return replace(
        nothing_taken(cloud), by={each: frozenset(key for key, events in by.items() if each in events) for each in ids}
    )


async def send_now(cloud: Cloud, record: UploadRecord) -> Taken:
    """Send the events that stand in an upload's row; what an outlet does not take at once goes by way of the queue."""
    if not record.due:
        return nothing_taken(cloud)
    sent = await asyncio.gather(*(_sent_at_once(cloud, outlet, record) for outlet in cloud.outlets))
    by = {outlet.key: ids for outlet, ids in zip(cloud.outlets, sent, strict=True)}
    left = [outlet for outlet in cloud.outlets if len(by[outlet.key]) < len(pending(record, outlet.key))]
    await asyncio.gather(*(_put_off(cloud, outlet, record.name) for outlet in left))
    return _taken(cloud, by)


async def _sent_at_once(cloud: Cloud, outlet: Outlet, record: UploadRecord) -> set[str]:
    """Send an outlet what it answers soon; the ids of the events that it took."""
    sent: set[str] = set()
    clock, trouble = asyncio.get_running_loop().time, cloud.outlet_trouble[outlet.key]
    if not outlet.at_once or clock() < trouble.until:
        return sent
    try:
        async with asyncio.timeout(PROMPT_S):
            for event in pending(record, outlet.key):
                await _send(outlet, replace(event, subject=record.name))
                sent.add(event.event_id)
    except (CertcastError, TimeoutError) as error:
        trouble.until = clock() + TROUBLED_S
        log.info("event for %s: not taken at once (%s)", record.name, str(error) or "no answer yet")
    return sent


async def _send(outlet: Outlet, event: OutgoingEvent) -> None:
    """Send an outlet one event, in the trace of its upload."""
    with span(Stage.PUBLISH, of=event.traceparent or None, kind=Kind.PRODUCER, upload=event.subject):
        note({names.QUEUE: outlet.name})
        await outlet.send(event)


async def _put_off(cloud: Cloud, outlet: Outlet, name: str) -> None:
    try:
        await send_due(cloud, name, outlet=outlet.key)
    except CertcastError as error:
        log.warning("event for %s: the sweep has it sent, it could not be put off: %s", name, error)


async def publish(cloud: Cloud, name: str, *, attempt: int = 0, outlet: str = "") -> None:
    """Send the events that stand in an upload's row, in order; what an outlet does not take is tried again there.

    Args:
        cloud: Where they are sent.
        name: The upload.
        attempt: Counts the tries so far.
        outlet: The key of the outlet that they are for; empty for all.

    Raises:
        CertcastError: The row or the queue could not be reached; the queue delivers the message again.
    """
    if not cloud.outlets:
        await _drop_all(cloud, name)
        return
    chosen = [each for each in cloud.outlets if outlet in {"", each.key}]
    await try_all((_send_to(cloud, each, name, max(0, attempt)) for each in chosen), limit=len(cloud.outlets))


async def _drop_all(cloud: Cloud, name: str) -> None:
    held = await cloud.state.uploads.read(name)
    if held.value is None or not held.value.due:
        return
    log.warning(
        "upload %s: %d event(s) are dropped, neither a topic nor a webhook is set any more", name, len(held.value.due)
    )
    dropped = {event.event_id for event in held.value.due}

    def change(record: UploadRecord | None) -> UploadRecord | None:
        return record and replace(record, due=tuple(event for event in record.due if event.event_id not in dropped))

    await cloud.state.uploads.update(name, change, held)


async def _send_to(cloud: Cloud, outlet: Outlet, name: str, attempt: int) -> None:
    """Send one outlet what it has not taken of an upload's events; two messages about that take turns."""
    clock = asyncio.get_running_loop().time
    async with cloud.sending.hold(f"{outlet.key} {name}"):
        began = clock()
        held = await cloud.state.uploads.read(name)
        if held.value is None:
            return
        held = await _entered(cloud, nothing_taken(cloud), name, held)
        for event in pending(held.value, outlet.key) if held.value else ():
            if clock() - began > ROUND_S:
                await send_due(cloud, name, outlet=outlet.key)
                return
            error = await _sent(cloud, outlet, replace(event, subject=name))
            if error is not None:
                await _again(cloud, outlet, replace(event, subject=name), attempt, error)
                return
            held = await _entered(cloud, _taken(cloud, {outlet.key: {event.event_id}}), name, held)


async def _sent(cloud: Cloud, outlet: Outlet, event: OutgoingEvent) -> CertcastError | None:
    """Send an event by way of the queue; why it is to be tried again, or None where it was taken or is given up."""
    clock, trouble = asyncio.get_running_loop().time, cloud.outlet_trouble[outlet.key]
    if clock() < trouble.retired_until:
        why = f"{outlet.name} said lately that it wants no more"
        log.error("event %s for %s is given up: %s", event.kind.value, event.subject, why)
        return None
    try:
        async with _place(outlet, trouble):
            await _send(outlet, event)
    except BusyError as error:
        return error
    except CertcastError as error:
        _note(trouble, error, clock())
        if not _is_hopeless(error) and cloud.now() - event.at <= KEEP_TRYING:
            return error
        log.error("event %s for %s is given up: %s", event.kind.value, event.subject, error)
    return None


@asynccontextmanager
async def _place(outlet: Outlet, trouble: OutletTrouble) -> AsyncIterator[None]:
    """Have one of the places at an outlet.

    Raises:
        BusyError: None is free, or it did not take an event a moment ago.
    """
    try:
        async with asyncio.timeout(PLACE_S):
            await trouble.gate.acquire()
    except TimeoutError:
        raise BusyError(f"{outlet.name} has not answered for those before yet") from None
    try:
        if asyncio.get_running_loop().time() < trouble.away_until:
            raise BusyError(f"{outlet.name} did not take another one a moment ago")
        yield
    finally:
        trouble.gate.release()


def _note(trouble: OutletTrouble, error: CertcastError, now: float) -> None:
    """Keep in mind what an outlet was in trouble with; one that refuses an event for good is in none."""
    if isinstance(error, RetiredError):
        trouble.retired_until = now + RETIRED_S
    elif isinstance(error, ThrottledError):
        pause = now + max(AWAY_S, min(error.after_s, LONGEST_PAUSE_S))
        trouble.until = trouble.away_until = max(trouble.away_until, pause)
    elif not _is_hopeless(error):
        trouble.away_until = max(trouble.away_until, now + AWAY_S)


def _is_hopeless(error: CertcastError) -> bool:
    """Whether the outlet refuses the event itself; a role may still be granted."""
    return not error.retriable and not isinstance(error, AccessDeniedError)


async def _again(cloud: Cloud, outlet: Outlet, event: OutgoingEvent, attempt: int, error: CertcastError) -> None:
    level = INFO if isinstance(error, BusyError) else WARNING
    if attempt >= len(RETRY_DELAYS.seconds):
        log.log(level, "event %s for %s: %s; the sweep tries again", event.kind.value, event.subject, error)
        return
    pause_s = min(error.after_s, LONGEST_PAUSE_S) if isinstance(error, ThrottledError) else 0.0
    delay_s = max(RETRY_DELAYS[attempt], pause_s)
    log.log(level, "event %s for %s: %s; again in %d s", event.kind.value, event.subject, error, delay_s)
    await send_due(cloud, event.subject, outlet=outlet.key, attempt=attempt + 1, delay_s=delay_s)


async def _entered(cloud: Cloud, taken: Taken, name: str, held: Held[UploadRecord]) -> Held[UploadRecord]:
    return (await cloud.state.uploads.update(name, lambda record: record and taken.entered(record), held)).held
