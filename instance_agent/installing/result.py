"""What became of one change, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from instance_agent.targets.base import BindingChange
from shared.messages import InstallOutcome

if TYPE_CHECKING:
    from instance_agent.installing.sighting import Sighting
    from instance_agent.targets.base import Install

_NO_STAGES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one change.

    Attributes:
        change: The change.
        outcome: What became of it.
        reason: A sentence for people; empty where all went as usual.
        seen_fingerprint_sha256: The certificate the probe met; empty when it met none.
        retriable: Whether the same change may succeed later.
        stages_ms: Milliseconds by stage, `apply` and `probe`, for the stages it came to.
    """

    change: BindingChange
    outcome: InstallOutcome
    reason: str = ""
    seen_fingerprint_sha256: str = ""
    retriable: bool = False
    stages_ms: Mapping[str, float] = field(default_factory=dict)


def failed(
    change: BindingChange, reason: str, *, retriable: bool, stages_ms: Mapping[str, float] = _NO_STAGES
) -> Result:
    """A change that was not made, or whose making could not be seen."""
    return Result(change=change, outcome=InstallOutcome.FAILED, reason=reason, retriable=retriable, stages_ms=stages_ms)


def live(change: Install, seen: Sighting, stages_ms: Mapping[str, float]) -> Result:
    """A change that is served, as far as can be seen."""
    unseen = "bound, but not looked at: this server has no listener the agent could meet"
    return Result(
        change=change,
        outcome=InstallOutcome.LIVE,
        reason="" if seen.fingerprint_sha256 else unseen,
        seen_fingerprint_sha256=seen.fingerprint_sha256,
        stages_ms=stages_ms,
    )
