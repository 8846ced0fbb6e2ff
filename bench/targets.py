"""What a host and a handshake cost with each web server, at few and at many hosts.

Needs Linux, haproxy, nginx with libnginx-mod-http-lua, lua-resty-core and lua-resty-lrucache, and caddy; 5 minutes.

Real servers, the agent's real targets over them through their public interface, one process for each number of hosts.
Adding: from `apply` of one more host to the first handshake, from outside, whose certificate is that host's.
Handshakes: processor time of all processes of the server and of the agent beside it, over names spread over all hosts,
without resumption. Everything is measured in turns, in a new random order each time, so that what else runs on the
machine meets all alike, and every handshake counts only if it showed the certificate it should. Ends with exit code 1
if a limit is not kept. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import _results
from _children import Child, ChildTroubleError
from _results import Results
from _targets_measured import DYNAMIC, STATIC, Measured, figures, limits, plots, tables

from instance_agent.installing.probe import ProbeError, served_fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKS = "nginx blocks"
TARGETS = ("haproxy", DYNAMIC, BLOCKS, "caddy", "embedded")
SIZES = (10, 1000, 10_000)
QUICK_SIZES = (10, 50)
ROUNDS, QUICK_ROUNDS = 6, 1

MANY_BLOCKS = 1000
_HANDSHAKES, _QUICK_HANDSHAKES = 600, 50  # in one round, for one target at one size
_ADDITIONS, _QUICK_ADDITIONS = 12, 2
_AGENTS_EVERY = 4  # of the additions is measured as the agent makes it
_LEAST_FIRST = 200
_PATIENCE_S = 60.0


class Place:
    """One target at one size: its process, its names, and what was measured there."""

    def __init__(self, target: str, hosts: int, child: Child) -> None:
        self.child = child
        self.measured = Measured(target=target, hosts=hosts)
        self._names = [f"host-{number}.certcast.example" for number in range(hosts)]
        self._looks: list[tuple[str, str]] = []
        self._address = ("", 0)
        self._added = 0

    async def fill(self, load: Child) -> None:
        """Start the server, bind all hosts in one batch, and see each of them served."""
        measured, child = self.measured, self.child
        started = await child.ask("start")
        self._address = (started["address"][0], started["address"][1])
        measured.version = started["version"]
        is_agent = measured.target == "embedded"
        empty_mb = child.memory_mb(whole=True) if is_agent else 0.0
        filled = await child.ask("fill", self._names)
        measured.fill_s = filled["seconds"]
        self._looks = list(zip(self._names, filled["fingerprints"], strict=True))
        looks = random.sample(self._looks, len(self._looks))
        measured.first_cpu_us, _ = await self._shake(load, looks)
        if len(looks) < _LEAST_FIRST:
            await self._shake(load, _spread(self._looks, _LEAST_FIRST))
        measured.memory_mb = child.memory_mb(whole=is_agent) - empty_mb

    async def shake_hands(self, load: Child, count: int) -> float:
        """One round of handshakes; processor microseconds of one."""
        cpu_us, seconds = await self._shake(load, _spread(self._looks, count))
        self.measured.cpu_us.append(cpu_us)
        self.measured.per_second.append(count / seconds)
        return cpu_us

    async def add(self) -> None:
        """Add one host, prove it from outside, take it away again; now and then the same as the agent does it."""
        self._added += 1
        host, measured = f"added-{self._added}.certcast.example", self.measured
        fingerprint = (await self.child.ask("prepare", host))["fingerprint"]
        applied = await self.child.ask("add")
        measured.add_ms.append((await self._served(host, fingerprint) - applied["began"]) * 1000)
        measured.apply_ms.append(_ms(applied))
        measured.remove_ms.append(_ms(await self.child.ask("remove")))
        if self._added % _AGENTS_EVERY == 1:
            await self._add_as_the_agent(host)

    async def _add_as_the_agent(self, host: str) -> None:
        measured = self.measured
        installed = await self.child.ask("install")
        if installed["outcome"] != "live":
            raise ChildTroubleError(f"{measured.target}: the agent's report on {host} is {installed['outcome']}")
        measured.proved += 1
        measured.agent_ms.append(_ms(installed))
        await self.child.ask("remove")

    async def _shake(self, load: Child, looks: Sequence[tuple[str, str]]) -> tuple[float, float]:
        before = self.child.cpu_ns()
        done = await load.ask("shake", self._address, looks)
        cpu_us = (self.child.cpu_ns() - before) / 1000 / len(looks)
        self.measured.proved += done["proved"]
        self.measured.others += len(looks) - done["proved"]
        if done["other"]:
            print(f"{self.measured.target}: {done['other']} was served another certificate", file=sys.stderr)
        return cpu_us, done["seconds"]

    async def _served(self, host: str, fingerprint: str) -> float:
        """The time at which the host's certificate was first seen."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                seen = await served_fingerprint(self._address, host, timeout_s=_PATIENCE_S)
            except ProbeError:
                seen = ""
            if seen == fingerprint:
                self.measured.proved += 1
                return time.monotonic()
            self.measured.others += 1
        raise ChildTroubleError(f"{self.measured.target}: {host} was not served within {_PATIENCE_S:.0f} s")


async def measure(chosen: argparse.Namespace) -> list[Measured]:
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(Child("_targets_load.py"))
        places = []
        for target, hosts in _wanted(chosen):
            _tell(f"{target}, {hosts:,} hosts: start, fill, a handshake with each")
            child = await stack.enter_async_context(Child("_targets_station.py", target))
            place = Place(target, hosts, child)
            await place.fill(load)
            places.append(place)
        for number in range(chosen.rounds):
            _tell(f"handshakes, round {number + 1} of {chosen.rounds}")
            await _shake_round(places, load, _QUICK_HANDSHAKES if chosen.quick else _HANDSHAKES)
        for number in range(chosen.rounds):
            _tell(f"adding, round {number + 1} of {chosen.rounds}")
            for addition in range(_QUICK_ADDITIONS if chosen.quick else _ADDITIONS):
                due = [place for place in places if _adds(place.measured, number, addition)]
                for place in random.sample(due, len(due)):
                    await place.add()
        return [place.measured for place in places]


async def _shake_round(places: Sequence[Place], load: Child, count: int) -> None:
    took = {place: await place.shake_hands(load, count) for place in random.sample(places, len(places))}
    static = next((cost for place, cost in took.items() if place.measured.target == STATIC), None)
    for place, cost in took.items():
        if static is not None and place.measured.target != STATIC:
            place.measured.to_static.append(cost / static)


def _wanted(chosen: argparse.Namespace) -> list[tuple[str, int]]:
    """Which targets at which sizes."""
    static = [(STATIC, 1)] if any(target.startswith("nginx") for target in chosen.targets) else []
    return static + [
        (target, hosts)
        for target in chosen.targets
        for hosts in chosen.sizes
        if target != BLOCKS or hosts <= MANY_BLOCKS or chosen.many_blocks
    ]


def _adds(measured: Measured, number: int, addition: int) -> bool:
    """Whether to add a host in this turn; what reloads takes seconds, so that a few times must do."""
    if measured.target == STATIC:
        return False
    if measured.target == BLOCKS:
        return addition == 0 and (measured.hosts < MANY_BLOCKS or number < 3)
    return True


def _spread(looks: Sequence[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """So many names out of all of them, some twice."""
    return random.choices(looks, k=count)  # noqa: S311 - nothing secret


def _ms(times: dict[str, float]) -> float:
    return (times["ended"] - times["began"]) * 1000


def _tell(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=_sizes, help="numbers of hosts (default 10,1000,10000)")
    parser.add_argument("--targets", type=_targets, help=f"of {', '.join(TARGETS)} (default all)")
    parser.add_argument("--rounds", type=int, help=f"rounds of handshakes, and of additions (default {ROUNDS})")
    parser.add_argument(
        "--many-blocks", action="store_true", help=f"{BLOCKS} at more than {MANY_BLOCKS:,} hosts too: minutes, 2 GB"
    )


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(sorted({int(part) for part in text.split(",")}))
    if sizes[0] < 1:
        raise ValueError
    return sizes


def _targets(text: str) -> tuple[str, ...]:
    named = tuple(part.strip() for part in text.split(","))
    if unknown := set(named) - set(TARGETS):
        raise argparse.ArgumentTypeError(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    return named


def run(chosen: argparse.Namespace) -> Results:
    """Measure; raises CannotRunError where a server is not there or does not serve."""
    if sys.platform != "linux":
        raise _results.CannotRunError("it needs Linux: it reads the processes' costs from /proc")
    command = _results.command("targets", chosen)
    chosen.sizes = chosen.sizes or (QUICK_SIZES if chosen.quick else SIZES)
    chosen.targets = chosen.targets or TARGETS
    chosen.rounds = max(1, chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS))
    every = asyncio.run(measure(chosen))
    judged = [] if chosen.quick else limits(every)
    proved, others = sum(each.proved for each in every), sum(each.others for each in every)
    notes = [f"{proved:,} handshakes showed the certificate they should, {others:,} another."]
    if BLOCKS in chosen.targets and max(chosen.sizes) > MANY_BLOCKS and not chosen.many_blocks:
        notes.append(
            f"{BLOCKS} was left out above {MANY_BLOCKS:,} hosts: each reload takes 15 to 24 s and 1.9 GB at 10,000 "
            "(--many-blocks measures it)."
        )
    if chosen.quick:
        notes.append("Quick: too little was measured to judge the limits by.")
    missed = [f"{limit.what}: {limit.ratio:.2f}, no more than {limit.limit}" for limit in judged if not limit.met]
    if others:
        missed.append(f"{others:,} handshakes showed another certificate than they should")
    return Results(
        name="targets",
        command=command,
        tables=tables(every, judged, notes),
        figures=figures(every),
        plots=plots(every),
        missed=missed,
    )


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
