"""Applies the good changes of a batch to a server that takes a batch whole or not at all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from instance_agent.installing.batch import after_failure
from instance_agent.targets.base import ApplyError, BindingChange, ServerUnavailableError
from shared.phrasing import logger
from shared.telemetry.names import Stage
from shared.telemetry.spans import spanned

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from instance_agent.installing.batch import Batch
    from instance_agent.targets.base import BindingTarget, InstalledBinding

_T = TypeVar("_T")

log = logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of one change.

    Attributes:
        change: The change.
        after_ms: From the start of the first try to the end of the one that decided.
        failure: Why it was not made; empty when it was.
        retriable: Whether the same change may succeed later.
    """

    change: BindingChange
    after_ms: float
    failure: str = ""
    retriable: bool = False


async def apply_all(
    apply: Callable[[Sequence[BindingChange]], Coroutine[Any, Any, None]], changes: Sequence[BindingChange]
) -> list[Applied]:
    """Apply all changes, in one go where all are good, else without those to blame.

    Args:
        apply: `BindingTarget.apply`; not cancelled, whatever happens to the caller.
        changes: At most one for each host and port.

    Returns:
        One entry for each change, in the order in which they were decided.
    """
    started = time.perf_counter()
    done: list[Applied] = []
    to_try: list[Batch] = [tuple(changes)] if changes else []
    while to_try:
        batch = to_try.pop()
        trouble = await _try(apply, batch)
        after_ms = (time.perf_counter() - started) * 1000
        if trouble is None:
            done += [Applied(change=change, after_ms=after_ms) for change in batch]
            continue
        if isinstance(trouble, ServerUnavailableError):
            left = [change for untried in [batch, *reversed(to_try)] for change in untried]
            done += [Applied(change=each, after_ms=after_ms, failure=str(trouble), retriable=True) for each in left]
            break
        blamed, rest = after_failure(batch, trouble.culprit)
        if blamed is not None:
            failed = Applied(change=blamed, after_ms=after_ms, failure=str(trouble), retriable=trouble.retriable)
            done.append(failed)
        to_try += reversed(rest)
    return done


async def clean_up(target: BindingTarget, gone: Sequence[InstalledBinding]) -> None:
    """Let the target delete what only bindings needed that are gone; what goes wrong there fails no change."""
    if not gone:
        return
    try:
        await to_its_end(target.retire(gone))
    except Exception:  # what is left lying about must not turn a certificate seen live into a failure
        log.exception("cleaning up after %d bindings that are gone failed", len(gone))


async def to_its_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Wait for work that must not be cut short; a cancellation is passed on once the work has ended."""
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is None:
        return task.result()
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.warning("the work that a cancellation waited for failed: %s", failure)
    raise cancellation


@spanned(Stage.APPLY)
async def _try(
    apply: Callable[[Sequence[BindingChange]], Coroutine[Any, Any, None]], batch: Batch
) -> ApplyError | None:
    try:
        await to_its_end(apply(batch))
    except ApplyError as error:
        return error
    except Exception as error:  # a defect met by one change must not hold up the others either
        log.exception("the target failed in a way it does not declare")
        return ApplyError(f"the server's target failed unexpectedly ({type(error).__name__}): see the agent's log")
    return None
