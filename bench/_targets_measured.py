"""What bench/targets.py measured: values, the limits that the product promises, and how both are told."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ADDING_LIMIT = 1.2
STATIC_LIMIT = 1.15
STATIC = "nginx static"
DYNAMIC = "nginx dynamic"
WITHOUT_RELOAD = ("haproxy", DYNAMIC, "caddy", "embedded")

_WIDTH = 15


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

    def to_json(self) -> dict[str, Any]:
        """Medians, where there are several values."""
        told: dict[str, Any] = {"target": self.target, "hosts": self.hosts, "version": self.version}
        told["fill_s"] = round(self.fill_s, 4)
        for name in ("add_ms", "apply_ms", "remove_ms", "agent_ms", "cpu_us", "per_second", "to_static"):
            told[name] = _median(getattr(self, name))
        told["add_ms_lower_quartile"] = round(_undisturbed(self.add_ms), 2) if self.add_ms else None
        told["additions"] = len(self.add_ms)
        told["first_cpu_us"] = round(self.first_cpu_us)
        told["memory_mb"] = round(self.memory_mb)
        return told | {"handshakes_proved": self.proved, "handshakes_not_proved": self.others}


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


def machine() -> dict[str, Any]:
    """Where it was measured; no name and no date."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "load_average_before": round(os.getloadavg()[0], 1),
    }


def as_text(every: Sequence[Measured], judged: Sequence[Limit], here: dict[str, Any], notes: Sequence[str]) -> str:
    """The tables and the limits."""
    load = here["load_average_before"]
    versions = {each.version for each in every if each.version}
    lines = [
        "",
        f"{here['system']}, {here['processors']} processors, Python {here['python']}",
        f"load average before: {load} (an idle machine is near 0)",
        "; ".join(sorted(versions)),
        "P-256, TLS 1.3, full handshakes, each proved by its certificate; nginx has one worker",
        "",
        "adding one host: from `apply` to the first handshake that shows its certificate; medians, milliseconds",
        f"{'':<{_WIDTH}}{'hosts':>8}{'proved':>9}{'(apply)':>9}{'removing':>10}{'agent':>9}{'fill, s':>10}{'count':>7}",
    ]
    lines += [_adding(each) for each in every if each.target != STATIC]
    lines += [
        "agent: what is bound is asked, apply, and its own proof; fill: all hosts in one batch, a full reconcile",
        "the limits below compare lower quartiles, which a busy machine disturbs least",
        "",
        "handshakes: processor time of the server and the agent beside it, medians, microseconds",
        f"{'':<{_WIDTH}}{'hosts':>8}{'each':>9}{'(first)':>9}{'to static':>10}{'per s':>9}{'MB':>10}",
    ]
    lines += [_shaking(each) for each in every]
    lines += [
        "first: a name's first handshake; per s: with the client on the same processors",
        "MB: the server's processes; of embedded what the agent grew by",
        "",
    ]
    for limit in judged:
        verdict = "" if limit.met else "  NOT MET"
        lines.append(f"{limit.what}: {limit.ratio:.2f} (no more than {limit.limit}){verdict}")
    return "\n".join([*lines, *notes])


def _adding(each: Measured) -> str:
    parts = [_median(values) for values in (each.add_ms, each.apply_ms, each.remove_ms, each.agent_ms)]
    cells = "".join(_cell(value, width) for value, width in zip(parts, (9, 9, 10, 9), strict=True))
    return f"{each.target:<{_WIDTH}}{each.hosts:>8,}{cells}{each.fill_s:>10.1f}{len(each.add_ms):>7}"


def _shaking(each: Measured) -> str:
    ratio = _median(each.to_static)
    return (
        f"{each.target:<{_WIDTH}}{each.hosts:>8,}{_cell(_median(each.cpu_us), 9, 0)}{each.first_cpu_us:>9.0f}"
        f"{_cell(ratio, 10, 2)}{_cell(_median(each.per_second), 9, 0)}{each.memory_mb:>10.0f}"
    )


def _cell(value: float | None, width: int, digits: int = 1) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def _undisturbed(values: Sequence[float]) -> float:
    """The lower quartile: a cost that grows with the hosts is in every value, one of a busy machine in some only."""
    return statistics.quantiles(values, n=4, method="inclusive")[0] if len(values) > 1 else values[0]


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None
