"""What bench/targets.py measured: values, the limits that the product promises, and how both are told."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from _results import Figure, Plot, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _results import Cell

ADDING_LIMIT = 1.2
STATIC_LIMIT = 1.15
STATIC = "nginx static"
DYNAMIC = "nginx dynamic"
WITHOUT_RELOAD = ("haproxy", DYNAMIC, "caddy", "embedded")


@dataclass(slots=True, kw_only=True)
class Measured:
    """One target at one number of hosts; lists have one value for each repetition.

    Attributes:
        target: Which.
        hosts: How many were bound.
        version: What the target says of its server.
        fill_s: All hosts in one `apply`.
        add_ms: From `apply` of one more host to the first handshake, from outside, that showed its certificate.
        apply_ms: The part of it until `apply` returned.
        remove_ms: `apply` that removes it.
        agent_ms: The agent's whole way: asking what is bound, `apply`, its own proof.
        first_cpu_us: Processor time of a name's first handshake.
        cpu_us: Processor time of a handshake after that.
        per_second: Handshakes, with the client on the same processors.
        to_static: Processor time against nginx's with one certificate in the same round.
        memory_mb: What the server's processes take with all certificates loaded.
        proved: Handshakes that showed the certificate they should.
        others: Those that did not.
    """

    target: str
    hosts: int
    version: str = ""
    fill_s: float = 0.0
    add_ms: list[float] = field(default_factory=list)
    apply_ms: list[float] = field(default_factory=list)
    remove_ms: list[float] = field(default_factory=list)
    agent_ms: list[float] = field(default_factory=list)
    first_cpu_us: float = 0.0
    cpu_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    to_static: list[float] = field(default_factory=list)
    memory_mb: float = 0.0
    proved: int = 0
    others: int = 0

    @property
    def name(self) -> str:
        """The target and its hosts."""
        return f"{self.target}, {self.hosts:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One promise.

    Attributes:
        what: It in words.
        ratio: What was measured.
        limit: What it may be.
    """

    what: str
    ratio: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether it is kept."""
        return self.ratio <= self.limit


def limits(every: Sequence[Measured]) -> list[Limit]:
    """The promises that can be judged by what was measured."""
    found = []
    for target in WITHOUT_RELOAD:
        of_it = sorted((each for each in every if each.target == target and each.add_ms), key=lambda each: each.hosts)
        if len(of_it) > 1:
            few, many = of_it[0], of_it[-1]
            ratio = _undisturbed(many.add_ms) / _undisturbed(few.add_ms)
            what = f"{target}: adding a host beside {many.hosts:,} others, against beside {few.hosts:,}"
            found.append(Limit(what=what, ratio=ratio, limit=ADDING_LIMIT))
    for each in every:
        if each.target == DYNAMIC and each.to_static:
            what = f"{DYNAMIC}, {each.hosts:,} hosts: processor time of a handshake, against {STATIC}"
            found.append(Limit(what=what, ratio=statistics.median(each.to_static), limit=STATIC_LIMIT))
    return found


def tables(every: Sequence[Measured], judged: Sequence[Limit], notes: Sequence[str]) -> list[Table]:
    """What was measured, and the promises."""
    adding = ("target, hosts", "served after, ms", "apply, ms", "removing, ms", "agent, ms", "fill, s", "additions")
    shaking = ("target, hosts", "each, µs", "first, µs", "times static", "a second", "memory, MB", "version")
    limited = [(limit.what, limit.ratio, limit.limit) for limit in judged]
    return [
        Table("Adding one host, medians", adding, tuple(map(_adding, _bound(every))), _HOW_ADDED),
        Table(
            "Processor time of a handshake", shaking, tuple(map(_shaking, every)), f"{_HOW_SHAKEN} {' '.join(notes)}"
        ),
        *([Table("Limits", ("ratio", "measured", "may be"), tuple(limited), _HOW_JUDGED)] if limited else []),
    ]


def figures(every: Sequence[Measured]) -> list[Figure]:
    """One more host beside the most there were, against beside the fewest; a handshake there, against static nginx."""
    found = []
    for target in dict.fromkeys(each.target for each in _bound(every)):
        of_it = sorted((each for each in every if each.target == target), key=lambda each: each.hosts)
        few, many = of_it[0], of_it[-1]
        ratio, ratio_to = None, ""
        if many is not few:
            ratio, ratio_to = _undisturbed(many.add_ms) / _undisturbed(few.add_ms), f"that beside {few.hosts:,}"
        added = statistics.median(many.add_ms)
        found.append(Figure(f"{many.name} hosts: one more is served after", added, "ms", ratio, ratio_to))
        to_static = statistics.median(many.to_static) if many.to_static else None
        cost = statistics.median(many.cpu_us)
        static = STATIC if many.to_static else ""
        found.append(Figure(f"{many.name} hosts: processor time of a handshake", cost, "µs", to_static, static))
    return found


def plots(every: Sequence[Measured]) -> list[Plot]:
    """One more host by how many there are, where there are several sizes."""
    series = {
        target: [(float(each.hosts), statistics.median(each.add_ms)) for each in _bound(every) if each.target == target]
        for target in WITHOUT_RELOAD
    }
    series = {target: points for target, points in series.items() if len(points) > 1}
    title = "One more host, beside how many others"
    return [Plot("", title, "hosts", "milliseconds", series, "line", log_x=True)] if series else []


_HOW_ADDED = (
    "Served after: from the call of `apply` to the first handshake from outside that shows the new certificate. Agent: "
    "what is bound is asked, `apply`, and its own proof. Fill: all hosts in one batch, a full reconcile."
)
_HOW_SHAKEN = (
    "Of the server and the agent beside it, P-256, TLS 1.3, full handshakes, medians; nginx has one worker. First: a "
    "name's first one. A second: with the client on the same processors. Memory: the server's; of `embedded` what the "
    "agent grew by."
)
_HOW_JUDGED = "Of lower quartiles where hosts are added, which a busy machine disturbs least."


def _bound(every: Sequence[Measured]) -> list[Measured]:
    return [each for each in every if each.target != STATIC]


def _adding(each: Measured) -> tuple[Cell, ...]:
    parts = (_median(values) for values in (each.add_ms, each.apply_ms, each.remove_ms, each.agent_ms))
    return each.name, *parts, each.fill_s, len(each.add_ms)


def _shaking(each: Measured) -> tuple[Cell, ...]:
    measured = (_median(each.cpu_us), each.first_cpu_us, _median(each.to_static), _median(each.per_second))
    return each.name, *measured, each.memory_mb, each.version


def _undisturbed(values: Sequence[float]) -> float:
    """The lower quartile: a cost that grows with the hosts is in every value, one of a busy machine in some only."""
    return statistics.quantiles(values, n=4, method="inclusive")[0] if len(values) > 1 else values[0]


def _median(values: Sequence[float]) -> Cell:
    return statistics.median(values) if values else "-"
