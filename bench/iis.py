"""What a binding costs in IIS: the planner and the .NET gateway on Mono, in one commit, beside few and many others.

Needs Debian's mono-runtime, mono-mcs, mono-devel and libmono-cil-dev. The C# assembly of tests/fakes/iis stands in for
Microsoft.Web.Administration, so the figures say how planner and gateway grow, not how fast a Windows Server is.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import _results
from _results import Figure, Results, Table

from instance_agent.targets.iis.catch_all import CatchAllPolicy
from instance_agent.targets.iis.commit import carry_out
from instance_agent.targets.iis.plan import Bind, Circumstances
from instance_agent.targets.iis.planner import plan, scope_of
from tests.fakes.iis.mono import MonoProcess, MonoWorld, build, gateway

if TYPE_CHECKING:
    import argparse

ADDED = 1000
FEW, MANY = 50, 5000
ROUNDS = 9
LIMIT = 1.5
POLICIES = ("keep", "remove", "replace:new0.example.com")
_NOTE = "The planner and the .NET gateway on Mono; the best of some rounds, since other work can only add to it."
OLD, NEW = "01" * 20, "AB" * 20


def add_bindings(existing: int, policy: str, added: int) -> float:
    """Processor seconds to plan and commit so many new bindings on a site that has others."""
    world = MonoWorld()
    world.add_site("Web")
    world.add_binding("Web", "*:80:", protocol="http", flags=0)
    for number in range(existing):
        world.add_binding("Web", f"*:443:existing{number}.example.com", thumbprint=OLD)
    wanted = [Bind(host=f"new{number}.example.com", port=443, thumbprint=NEW) for number in range(added)]
    catch_all = CatchAllPolicy.parse(policy)
    circumstances = Circumstances(store="My", catch_all=catch_all)
    iis = gateway()
    started = time.process_time()
    carry_out(
        iis,
        scope_of(wanted, catch_all),
        lambda sites: plan(sites, wanted, circumstances),
        before_writing=lambda _: None,
        pause=time.sleep,
    )
    seconds = time.process_time() - started
    assert world.commits == 1
    assert len(world.rows("Web")) == existing + added + 1
    return seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, help=f"of each (default {ROUNDS})")


def run(chosen: argparse.Namespace) -> Results:
    """Measure; a promise is missed when a binding among many costs too much."""
    rounds = chosen.rounds or (1 if chosen.quick else ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = MonoProcess(build(folder), folder)
        try:
            process.run(add_bindings, FEW, "keep", ADDED)  # the first one compiles
            costs = {policy: measure(process, policy, rounds) for policy in POLICIES}
        finally:
            process.end()
    each_us = {policy: [cost[existing] * 1e6 / ADDED for existing in (FEW, MANY)] for policy, cost in costs.items()}
    ratios = {policy: many / few for policy, (few, many) in each_us.items()}
    columns = ("catch-all", f"beside {FEW:,}, µs", f"beside {MANY:,}, µs", "ratio", "may be")
    rows = tuple((policy, few, many, ratios[policy], LIMIT) for policy, (few, many) in each_us.items())
    missed = {policy: ratio for policy, ratio in ratios.items() if ratio > LIMIT and not chosen.quick}
    return Results(
        name="iis",
        command=_results.command("iis", chosen),
        tables=[Table(f"Processor time of a binding, {ADDED:,} added in one commit", columns, rows, _NOTE)],
        figures=[
            Figure(f"catch-all {policy}: a binding", many, "µs", ratios[policy], f"that beside {FEW}")
            for policy, (_, many) in each_us.items()
        ],
        missed=[f"catch-all {policy}: {ratio:.2f}, no more than {LIMIT}" for policy, ratio in missed.items()],
    )


def measure(process: MonoProcess, policy: str, rounds: int) -> dict[int, float]:
    """The best of some rounds by number of other bindings, in seconds for all that were added; taken in turns.

    Processor time and the best, because what else runs on the machine can only add to it.
    """
    taken = [
        {existing: process.run(add_bindings, existing, policy, ADDED) for existing in (FEW, MANY)}
        for _ in range(rounds)
    ]
    return {existing: min(each[existing] for each in taken) for existing in (FEW, MANY)}


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
