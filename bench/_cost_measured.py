"""What bench/cost.py counted, scaled to hours and months, and the tables that tell it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from _prices import HOURS_A_MONTH, told, usd
from _results import Figure, Plot, Table

from local_azure.proxy.counting import FUNCTION, Counted, Counts, useful

_HOUR_S = 3600
_QUOTED_MS = 500
_SHOWN_INSTANCES = (3, 10, 30, 100)
_UPLOADS_A_MONTH = 1_000
_NOTHING = 12  # digits, beyond which a difference is only of how numbers are kept
_JOB = Counts(
    {Counted(service="blob", operation="List Blobs", resource="certificates", caller="job", outcome="ok"): 60}
)
"""What a job that looks into the container each minute asks in an hour, as long as nothing is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """What was asked while nothing was uploaded.

    Attributes:
        window_s: For how long it was counted.
        agents: One agent's requests, by its longest wait in milliseconds.
        function: The Function's.
    """

    window_s: float
    agents: Mapping[int, Counts]
    function: Counts

    def hourly(self, number: float) -> float:
        """A number of requests, or their price, in an hour."""
        return number * _HOUR_S / self.window_s

    def monthly_usd(self, counts: Counts) -> float:
        """What requests cost that go on like this for a month."""
        return self.hourly(usd(counts)) * HOURS_A_MONTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """What was asked for uploads one after the other.

    Attributes:
        instances: How many there were.
        number: How many uploads.
        counts: All requests from the first upload on.
        took_s: How long that was.
        calm: Requests of a while before, in which nothing was uploaded.
        calm_s: How long that was.
    """

    instances: int
    number: int
    counts: Counts
    took_s: float
    calm: Counts
    calm_s: float

    def asked(self, value: Callable[[Counts], float], wanted: Callable[[Counted], bool]) -> float:
        """The number, or the price, of one upload's requests of a kind beyond those of the calm."""
        chosen, calm = (
            Counts({kind: count for kind, count in counts.items() if wanted(kind)})
            for counts in (self.counts, self.calm)
        )
        return max(0.0, value(chosen) - value(calm) * self.took_s / self.calm_s) / self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What an upload costs: so much once, and so much more for each instance."""

    once: float
    each: float

    def at(self, instances: int) -> float:
        """With so many instances."""
        return self.once + self.each * instances


def idle_table(idle: Idle) -> Table:
    """By the longest wait, against a job that looks once a minute."""
    job_usd = usd(_JOB) * HOURS_A_MONTH
    rows = [
        (f"an agent that waits {wait:,} ms at most", *_told(idle, counts), idle.monthly_usd(counts) / job_usd)
        for wait, counts in idle.agents.items()
    ]
    rows.append(("the Function, once", *_told(idle, idle.function), idle.monthly_usd(idle.function) / job_usd))
    job = _JOB.total()
    rows.append(("a job that lists the container each minute", float(job), 0.0, float(job), job_usd, 1.0))
    columns = ("an hour of", "requests", "looks at a queue", "others", "USD a month", "times the job")
    return Table(
        "Idle: requests in an hour, price in a month",
        columns,
        tuple(rows),
        f"Counted over {idle.window_s:.0f} s; the job's by definition. {told()}",
    )


def _told(idle: Idle, counts: Counts) -> tuple[float, float, float, float]:
    polls = sum(count for kind, count in counts.items() if kind.is_poll)
    total = counts.total()
    return idle.hourly(total), idle.hourly(polls), idle.hourly(total - polls), idle.monthly_usd(counts)


def _line(few: Uploads, more: Uploads, value: Callable[[Counts], float], wanted: Callable[[Counted], bool]) -> Line:
    first, second = few.asked(value, wanted), more.asked(value, wanted)
    each = (second - first) / (more.instances - few.instances)
    return Line(once=round(first - each * few.instances, _NOTHING), each=round(each, _NOTHING))


def _is_useful(kind: Counted) -> bool:
    return kind.is_useful


def _is_certcasts(kind: Counted) -> bool:
    return kind.is_useful or kind.is_poll


_KINDS: Mapping[str, Callable[[Counted], bool]] = {
    "asked by the Function": lambda kind: kind.is_useful and kind.caller == FUNCTION,
    "asked by agents": lambda kind: kind.is_useful and kind.caller != FUNCTION,
    "the Function's looks at its queues, beyond the idle ones": lambda kind: kind.is_poll and kind.caller == FUNCTION,
    "agents' looks at theirs, beyond the idle ones": lambda kind: kind.is_poll and kind.caller != FUNCTION,
    "all of it": _is_certcasts,
}


def per_upload(few: Uploads, more: Uploads) -> Table:
    """Once and for each instance."""
    rows = []
    for what, wanted in _KINDS.items():
        requests, price = (_line(few, more, value, wanted) for value in (Counts.total, usd))
        rows.append((what, requests.once, requests.each, 1000 * price.once, 1000 * price.each))
    columns = ("one upload", "requests once", "each instance", "USD, 1,000 uploads, once", "each instance")
    note = (
        f"From {few.number} uploads each to {few.instances} and {more.instances} instances; what clients and the event "
        "relay ask is not in it."
    )
    return Table("One upload: requests and price", columns, tuple(rows), note)


def months(idle: Idle, few: Uploads, more: Uploads) -> Table:
    """A month of whole platforms, by the agents' longest wait."""
    price = _line(few, more, usd, _is_certcasts)
    rows: list[tuple[str | float, ...]] = []
    for instances in _SHOWN_INSTANCES:
        waits = (idle.monthly_usd(idle.function) + instances * idle.monthly_usd(each) for each in idle.agents.values())
        rows.append((f"{instances} instances", *waits, _UPLOADS_A_MONTH * price.at(instances)))
    columns = ("", *(f"{wait:,} ms" for wait in idle.agents), f"and for {_UPLOADS_A_MONTH:,} uploads")
    return Table("USD a month, by the longest wait", columns, tuple(rows))


def figures(idle: Idle, few: Uploads, more: Uploads) -> list[Figure]:
    """What is quoted: at the default wait."""
    wait = _QUOTED_MS if _QUOTED_MS in idle.agents else next(iter(idle.agents))
    agent, job_usd = idle.agents[wait], usd(_JOB)
    hour_usd = idle.hourly(usd(agent))
    requests, price = (_line(few, more, value, _is_useful) for value in (Counts.total, usd))
    shown = more.instances
    return [
        Figure(
            f"idle agent, {wait} ms: requests in an hour",
            idle.hourly(agent.total()),
            "requests",
            idle.hourly(agent.total()) / _JOB.total(),
            "those of a job that lists each minute",
        ),
        Figure(
            f"idle agent, {wait} ms: a month",
            hour_usd * HOURS_A_MONTH,
            "USD",
            hour_usd / job_usd,
            "that job's price",
        ),
        Figure(
            f"one upload, {shown} instances, without looks at queues",
            useful(more.counts).total() / more.number,
            "requests",
            price.at(shown) / hour_usd,
            "the price of an idle instance-hour",
        ),
        Figure("one upload: once", requests.once, "requests"),
        Figure("one upload: for each instance", requests.each, "requests"),
    ]


def plot(idle: Idle) -> Plot:
    """Price by the longest wait."""
    job_usd = usd(_JOB) * HOURS_A_MONTH
    series = {
        "an agent": [(float(wait), idle.monthly_usd(counts)) for wait, counts in idle.agents.items()],
        "a job that lists each minute": [(float(wait), job_usd) for wait in idle.agents],
    }
    title = "Idle instance: price of its requests, by the longest wait"
    return Plot("", title, "longest wait, ms", "US dollars a month", series, "line", log_x=True)
