"""The command line of the soak: what is to be done, the table of what came of it, and what is wrong."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from operator_cli.foreground import run_until_stopped
from shared.errors import CertcastError
from tests.rigs.programs import path_of
from tests.soak.plan import Plan
from tests.soak.running import Soak
from tests.soak.stage import TARGETS, Options

_PROGRAMS = (*TARGETS, "wrk")


def main(arguments: Sequence[str]) -> int:
    """Run a soak.

    Returns:
        0 where all was well, 1 where something is wrong, 2 where it could not run.
    """
    parser = argparse.ArgumentParser(
        prog="dev.py soak", description="Have everything happen at random to three instances on real web servers."
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="how long something is done (default: 30)")
    parser.add_argument("--seed", type=int, help="does the same things in the same order; it is printed")
    parser.add_argument("--nginx", choices=["dynamic", "blocks"], default="dynamic", help="how nginx is used")
    parser.add_argument("--state", type=Path, metavar="DIR", help="keep storage and logs in this folder")
    parser.add_argument("--json", action="store_true", help="print a document in place of the table")
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.minutes <= 24 * 60:
        return _refuse("--minutes is more than 0 and at most a day's")
    if missing := [program for program in _PROGRAMS if path_of(program) is None]:
        return _refuse(f"soak needs {', '.join(missing)}, which is not installed here")
    seed = secrets.randbelow(1_000_000) if chosen.seed is None else chosen.seed
    print(f"soak of {chosen.minutes:g} min with --seed {seed}", file=sys.stderr, flush=True)
    options = Options(seconds=60 * chosen.minutes, seed=seed, blocks=chosen.nginx == "blocks", state=chosen.state)
    try:
        plan = Plan(seed, instances=len(TARGETS), defaults=True)
        report = run_until_stopped(Soak(options, plan).run())
    except CertcastError as error:
        return _refuse(str(error))
    print(json.dumps(report.to_json(), indent=2) if chosen.json else report.markdown())
    for sentence in report.wrong:
        print(f"wrong: {sentence}", file=sys.stderr)
    for line in report.lines if report.wrong else ():
        print(f"  {line}", file=sys.stderr)
    return 1 if report.wrong else 0


def _refuse(sentence: str) -> int:
    print(f"dev.py: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
