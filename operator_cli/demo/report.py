"""What the demo saw, step by step, as a document and as a timeline for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table

from operator_cli.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

STAGES = (
    *("joined", "left", "uploaded", "metadata", "deleted", "changed", "event", "noticed", "sweep"),
    *("accepted", "queued", "installed", "proved", "live", "found"),
)
"""In the order in which they come about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something that happened on a certificate's way.

    Attributes:
        stage: One of `STAGES`.
        ms: Milliseconds from the beginning of the step.
        instance: Where; empty where it concerns all.
    """

    stage: str
    ms: float
    instance: str = ""

    def to_json(self) -> dict[str, Any]:
        """The form used in the demo's document."""
        return {"stage": self.stage, "instance": self.instance or None, "ms": round(self.ms, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Something that was to be seen from outside.

    Attributes:
        what: The expectation.
        seen: Whether it was met.
        ms: Milliseconds from the beginning of the step until it was seen, or given up.
        where: The instance, or empty.
        instead: What was seen in its place.
    """

    what: str
    seen: bool
    ms: float
    where: str = ""
    instead: str = ""

    def to_json(self) -> dict[str, Any]:
        """The form used in the demo's document."""
        document = {"what": self.what, "instance": self.where or None, "seen": self.seen, "ms": round(self.ms, 1)}
        return document if self.seen else {**document, "instead": self.instead}


@dataclass(slots=True, kw_only=True)
class StepReport:
    """One step of the demo.

    Attributes:
        name: For programs.
        title: For people.
        changed: Called whenever something is added.
    """

    name: str
    title: str
    changed: Callable[[StepReport], None]
    moments: list[Moment] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    ms: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything was seen; a step in which nothing was looked for shows nothing."""
        return bool(self.observations) and all(observation.seen for observation in self.observations)

    def add(self, item: Moment | Observation) -> None:
        """Enter something, once."""
        if isinstance(item, Moment):
            if any((known.stage, known.instance) == (item.stage, item.instance) for known in self.moments):
                return
            self.moments.append(item)
        else:
            self.observations.append(item)
        self.changed(self)

    def to_json(self) -> dict[str, Any]:
        """The form used in the demo's document."""
        return {
            "step": self.name,
            "title": self.title,
            "ok": self.ok,
            "ms": round(self.ms, 1),
            "timeline": [moment.to_json() for moment in self._ordered()],
            "observations": [observation.to_json() for observation in self.observations],
        }

    def _ordered(self) -> list[Moment]:
        return sorted(self.moments, key=lambda moment: (STAGES.index(moment.stage), moment.instance))

    def missing(self) -> list[str]:
        """Sentences about what was not seen."""
        return [
            f"{observation.what}{f' on {observation.where}' if observation.where else ''}"
            f"{f' (instead: {observation.instead})' if observation.instead else ''}"
            for observation in self.observations
            if not observation.seen
        ]

    def drawn(self) -> RenderableType:
        """The step for people: the way of the certificate, then what was seen of it from outside."""
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        for stage in STAGES:
            moments = [moment for moment in self._ordered() if moment.stage == stage]
            if moments:
                table.add_row(stage, safe(_times((moment.instance, moment.ms) for moment in moments)))
        for what in dict.fromkeys(observation.what for observation in self.observations):
            same = [observation for observation in self.observations if observation.what == what]
            seen = all(observation.seen for observation in same)
            times = _times((observation.where, observation.ms) for observation in same)
            table.add_row(
                safe("seen" if seen else "NOT SEEN", "green" if seen else "bold red"), safe(f"{what}: {times}")
            )
            for observation in same:
                if observation.instead and not observation.seen:
                    table.add_row("", safe(f"{observation.where} {observation.instead}".strip(), "red"))
        return Group(safe(self.title, "bold"), Padding(table, (0, 0, 1, 2)))


def _times(items: Iterable[tuple[str, float]]) -> str:
    return "  ".join(f"{where} {ms:.0f} ms".strip() for where, ms in items)
