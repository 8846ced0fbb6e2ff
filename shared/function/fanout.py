"""Telling the registered instances which desired rows changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.binding import BindingKey, concerns
from shared.bounded import gather_bounded
from shared.errors import CertcastError, MissingError, UnavailableError
from shared.messages import BindingsChanged, encode, queue_of, split_changes
from shared.phrasing import logger
from shared.state.records import MAX_ID_CHARS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from shared.function.cloud import Cloud
    from shared.function.fleet import Fleet
    from shared.state.records import InstanceRecord

log = logger(__name__)

MAX_INSTANCES = 2_000
"""Bounds what one instance can register: an upload's row names all that are waited for, and holds a megabyte."""
HINT_TTL_S = 3600
"""A hint not taken within the hour is worthless: agents reconcile every five minutes and whenever they start."""


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
) -> None:
    """Send each instance one message with the rows that concern it.

    What cannot be sent to one instance is said and concerns that one alone: it reads every row at its next reconcile.

    Raises:
        UnavailableError: The queue service does not answer at all; sending everything again does no harm.
    """
    unanswered = await gather_bounded(_tell(cloud, instance, keys, traceparent) for instance in instances)
    if cloud.listener is not None and not all(unanswered):
        cloud.listener.expect_reports()
    if unanswered and all(unanswered):
        raise UnavailableError(f"none of {len(unanswered)} instances could be told: {unanswered[0]}")


async def _tell(
    cloud: Cloud, instance: InstanceRecord, keys: Collection[BindingKey], traceparent: str
) -> UnavailableError | None:
    mine = tuple(sorted(key for key in keys if concerns(key.role, instance.role)))
    if not mine:
        return None
    try:
        for part in split_changes(BindingsChanged(bindings=mine, traceparent=traceparent)):
            await cloud.queues.send(queue_of(instance.id), encode(part), ttl_s=HINT_TTL_S)
    except MissingError:
        return None  # reaped meanwhile: if it returns it registers again and reads every row
    except CertcastError as error:
        log.warning("instance %s: could not be told, it finds out at its next reconcile: %s", instance.id, error)
        return error if isinstance(error, UnavailableError) else None
    return None
