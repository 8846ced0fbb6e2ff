"""One change by hand, from somebody's doing to clients that see again what they must."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from local_azure.instances import Instance
from local_azure.servers.by_hand import ByHand
from shared.errors import UnavailableError
from shared.hostnames import DEFAULT_HOST
from tests.soak.drifts import Drift
from tests.soak.model import PROBED_LABELS
from tests.soak.stage import PROOF_CYCLE_S, Stage

RIGHT_WITHIN_S = 4 * PROOF_CYCLE_S + 60
"""So long a change is watched: a cycle, and what certcast waits before it tries a repair again."""
_LOOK_EVERY_S = 0.2
_SEEN_WITHIN_S = 10
_TOLD_WITHIN_S = 10


def name_for(host: str) -> str | None:
    """A server name that shows what is bound for a host."""
    if host == DEFAULT_HOST:
        return None
    return f"{PROBED_LABELS[0]}{host[1:]}" if host.startswith("*.") else host


async def follow(stage: Stage, drift: Drift, instance: Instance, somebody: ByHand) -> None:
    """Look on until it is put right and told; take back what certcast cannot put right once that is told."""
    taken_back = not drift.stays
    try:
        while stage.now() < drift.made + RIGHT_WITHIN_S and drift.right is None:
            if await stage.is_right(instance, name_for(drift.host)):
                if drift.seen is not None:
                    drift.right = stage.now()
            elif drift.seen is None and await _is_seen(stage, drift, instance):
                drift.seen = stage.now()
            if not taken_back and (drift.found is not None or drift.overtaken):
                taken_back = await _take_back(stage, drift, somebody)
            if drift.seen is None and stage.now() > drift.made + _SEEN_WITHIN_S:
                break  # put right before it was seen, or overtaken
            await asyncio.sleep(_LOOK_EVERY_S)
        if drift.seen is None and drift.found is not None:
            drift.seen = drift.right = drift.found
        with suppress(TimeoutError):
            await asyncio.wait_for(drift.told.wait(), _TOLD_WITHIN_S)
    finally:
        if not taken_back:
            await _take_back(stage, drift, somebody)
        drift.over.set()


async def _is_seen(stage: Stage, drift: Drift, instance: Instance) -> bool:
    seen = await stage.shown(instance, name_for(drift.host))
    return seen == drift.fingerprint if drift.fingerprint else bool(seen)


async def _take_back(stage: Stage, drift: Drift, somebody: ByHand) -> bool:
    with stage.disturbing(drift.instance, "somebody takes a change back"):
        try:
            await somebody.take_back()
        except UnavailableError:
            return False  # its server is being restarted, and is looked at again
    return True
