"""What of a batch is to be applied, and what to try next when it was not taken; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from instance_agent.targets.base import BindingChange, Install, Remove

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from instance_agent.targets.base import InstalledBinding, Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    """What becomes of each change of a batch; every change is in exactly one of these.

    Attributes:
        refused: Changes the server can never take, with the reason.
        unchanged: Already installed as asked for.
        absent: Removals of what is not there.
        pending: To be applied.
    """

    refused: tuple[tuple[Install, str], ...]
    unchanged: tuple[Install, ...]
    absent: tuple[Remove, ...]
    pending: tuple[BindingChange, ...]


def triage(
    changes: Sequence[BindingChange],
    installed: Mapping[Key, InstalledBinding],
    refusal: Callable[[Install], str | None],
) -> Triage:
    """Sort the changes of one batch.

    Args:
        changes: At most one for each host and port.
        installed: What is there.
        refusal: Why the server can never take a change, or None.

    Raises:
        ValueError: Two changes are for the same host and port.
    """
    if len({change.key for change in changes}) < len(changes):
        raise ValueError("a batch holds two changes for the same host and port")
    refused: list[tuple[Install, str]] = []
    unchanged: list[Install] = []
    absent: list[Remove] = []
    pending: list[BindingChange] = []
    for change in changes:
        there = installed.get(change.key)
        if isinstance(change, Remove):
            (pending if there is not None else absent).append(change)
        elif (reason := refusal(change)) is not None:
            refused.append((change, reason))
        else:
            (unchanged if change.is_done_by(there) else pending).append(change)
    return Triage(refused=tuple(refused), unchanged=tuple(unchanged), absent=tuple(absent), pending=tuple(pending))


Batch = tuple[BindingChange, ...]


def after_failure(batch: Batch, culprit: Key | None) -> tuple[BindingChange | None, tuple[Batch, ...]]:
    """Whom to blame for a batch that was not applied, and what to try instead.

    A culprit the server named is dropped from the batch; otherwise the batch is halved, so that b bad changes among n
    are found in at most 2·b·⌈log₂ n⌉ + 1 tries, and in b + 1 where the server names them.

    Returns:
        The change to blame, if it is known now, and the batches to try next, in order, none of them empty.
    """
    blamed = next((change for change in batch if change.key == culprit), None)
    if blamed is None and len(batch) == 1:
        blamed = batch[0]
    if blamed is not None:
        rest = tuple(change for change in batch if change is not blamed)
        return blamed, ((rest,) if rest else ())
    middle = len(batch) // 2
    return None, (batch[:middle], batch[middle:])
