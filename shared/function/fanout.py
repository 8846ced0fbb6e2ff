"""Telling the registered instances which desired rows changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.binding import BindingKey, concerns
from shared.bounded import gather_bounded
from shared.errors import CertcastError, MissingError
from shared.function.fleet import Fleet, News
from shared.messages import BindingsChanged, encode, queue_of, split_changes
from shared.phrasing import logger
from shared.state.records import MAX_ID_CHARS, InstanceRecord
from shared.telemetry import names
from shared.telemetry.names import Kind, Stage
from shared.telemetry.spans import invoked, note, span

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from shared.function.cloud import Cloud

log = logger(__name__)

MAX_INSTANCES = 2_000
"""Bounds what one instance can register: an upload's row names all that are waited for, and holds a megabyte."""
TOLD_IN_S = 5.0
"""How long all others wait for an instance whose queue does not answer; it is told once more by the sweep."""
HINT_TTL_S = 3600
"""A hint not taken within the hour is worthless: agents reconcile every five minutes and whenever they start."""


async def read_fleet(cloud: Cloud) -> Fleet:
    """Read every instance's row, once for all that ask at the same moment: never before this was asked for."""

    async def read(_: Sequence[None]) -> Fleet:
        return Fleet(known={known.value.id: known async for known in cloud.state.instances.all()})

    return await cloud.fleet.take_part(None, read)


def recipients(fleet: Fleet, keys: Collection[BindingKey]) -> list[InstanceRecord]:
    """List the registered instances that any of these rows concerns, sorted by id.

    The instances are to be read after the rows are written: one that registers later reads the rows itself.
    """
    roles = {key.role for key in keys}
    found = [known.value for known in fleet.known.values()]
    mine = [i for i in found if not i.stopped and any(concerns(role, i.role) for role in roles)]
    told = sorted((i for i in mine if len(i.id) <= MAX_ID_CHARS), key=lambda instance: instance.id)[:MAX_INSTANCES]
    if len(told) < len(mine):
        log.error(
            "fan-out: %d of %d registered instances are told and waited for: ids of %d characters and %d instances are "
            "the most; see who registers them",
            *(len(told), len(mine), MAX_ID_CHARS, MAX_INSTANCES),
        )
    return told


def ids_of_role(instances: Iterable[InstanceRecord], role: str) -> tuple[str, ...]:
    """The ids of those that rows of this role are for, in order."""
    return tuple(sorted(instance.id for instance in instances if concerns(role, instance.role)))


async def notify(
    cloud: Cloud, instances: Collection[InstanceRecord], keys: Collection[BindingKey], *, traceparent: str
) -> tuple[str, ...]:
    """Send each instance one message with the rows that concern it, and with what others tell it at the same moment.

    What cannot be sent to one instance is said and concerns that one alone: the sweep tells it once more, or it reads
    every row at its next reconcile.

    Returns:
        The ids of those that could not be told, in order.
    """
    if not instances or not keys:
        return ()
    named = {instance.id: instance for instance in instances}
    with span(Stage.FAN_OUT, of=traceparent, kind=Kind.PRODUCER) as telling:
        note({names.SYSTEM: names.QUEUE_STORAGE, names.MESSAGES: len(named), names.BINDINGS: len(keys)})
        news = News(instances=named, keys=keys, traceparent=telling.traceparent)
        untold = await cloud.hints.take_part(news, lambda gathered: _tell_all(cloud, gathered))
    return tuple(sorted(named.keys() & untold))


async def _tell_all(cloud: Cloud, gathered: Sequence[News]) -> frozenset[str]:
    """Tell every instance what there is for it; the ids of those that could not be told."""
    ids = sorted({instance for news in gathered for instance in news.instances})
    with invoked(gathered[0].traceparent):  # several uploads' news may meet here
        results = dict(zip(ids, await gather_bounded(_tell(cloud, name, gathered) for name in ids), strict=True))
    if cloud.listener is not None and True in results.values():
        cloud.listener.expect_reports()
    return frozenset(name for name, result in results.items() if result is None)


async def _tell(cloud: Cloud, instance: str, gathered: Sequence[News]) -> bool | None:
    """Tell one instance; whether there was anything to tell it, None where it could not be told."""
    mine = tuple(sorted({key for news in gathered for key in news.about(instance)}))
    if not mine:
        return False
    trace = next(news.traceparent for news in gathered if news.about(instance))
    try:
        async with asyncio.timeout(TOLD_IN_S):
            for part in split_changes(BindingsChanged(bindings=mine, traceparent=trace)):
                await cloud.queues.send(queue_of(instance), encode(part), ttl_s=HINT_TTL_S)
    except MissingError:
        return False  # reaped meanwhile: if it returns it registers again and reads every row
    except (CertcastError, TimeoutError) as error:
        log.warning(
            "instance %s: could not be told now, it finds out within minutes, by the sweep or its reconcile: %s",
            instance,
            str(error) or f"its queue did not answer in {TOLD_IN_S:g} s",
        )
        return None
    return True
