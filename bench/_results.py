"""What a benchmark found, and the command line that all share: tables to read, figures to quote, plots.

A benchmark is a module beside this one with `add_arguments(parser)`, `run(chosen) -> Results` and a `main()` that calls
`_results.main`. Nothing here asserts a time: figures are the machine's, and each has a ratio to something that was
measured in the same run wherever there is such a thing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import _page
from _machine import Machine

from shared.errors import CertcastError

Cell = str | float


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; the first column is text, an int is printed whole, a float with 3 significant digits."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that README, docs and JSON quote, with its unit and its ratio to another measured in the same run."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    ratio_to: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture.

    Attributes:
        name: Last part of the file's name; empty where a benchmark has one picture.
        title: What it shows.
        x: The horizontal axis and its unit.
        y: The vertical axis and its unit.
        series: Points by what the legend calls them. For `cdf` they come from `distribution`; for `bar` each x is a
            place of its own, in the order of the first series.
        kind: How points are drawn.
        log_x: Whether the horizontal axis is logarithmic.
    """

    name: str
    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    kind: Literal["line", "bar", "cdf"]
    log_x: bool = False


@dataclass(frozen=True, slots=True)
class Results:
    """All that one run found.

    Attributes:
        name: The benchmark's.
        command: What repeats the run.
        tables: In the order in which they are read.
        figures: What is quoted.
        plots: May be empty.
        missed: A sentence for each promise that was not kept; the exit code is 1 where there is one.
    """

    name: str
    command: str
    tables: Sequence[Table]
    figures: Sequence[Figure] = ()
    plots: Sequence[Plot] = ()
    missed: Sequence[str] = field(default=())


class CannotRunError(Exception):
    """A benchmark lacks something; the text is a sentence that says what to do."""


def distribution(values: Sequence[float]) -> list[tuple[float, float]]:
    """Each value with the share of all that are no larger: the points of a `cdf` plot."""
    return [(value, number / len(values)) for number, value in enumerate(sorted(values), 1)]


def command(name: str, chosen: argparse.Namespace) -> str:
    """The command line that repeats a run: options that were given a value of their own, and no place to write to."""
    words = ["python3", "dev.py", "bench", name]
    for key, value in vars(chosen).items():
        if key in {"json", "docs"} or value is None or value is False:
            continue
        words.append(f"--{key.replace('_', '-')}")
        if value is not True:
            words.append(",".join(map(_plain, value)) if isinstance(value, tuple | list) else _plain(value))
    return shlex.join(words)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def main(
    description: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], Results],
) -> int:
    """Run a benchmark from its command line.

    Args:
        description: The benchmark's docstring.
        add_arguments: Adds its own options to those that all have: `--quick`, `--json` and `--docs`.
        run: Measures.

    Returns:
        0, 1 where a promise was not kept, 2 where it could not run, or 130 where it was interrupted.
    """
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(
        prog=f"dev.py bench {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="very little of it: does it work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put the results into this JSON file, by name")
    parser.add_argument("--docs", action="store_true", help="write tables and plots into docs/benchmarks.md")
    add_arguments(parser)
    chosen = parser.parse_args()
    if chosen.docs and chosen.quick:
        parser.error("what --quick measures is too little to be written down: --docs goes without it")
    try:
        kept = _json_in(chosen.json) if chosen.json else {}
        before = Machine.now()
        results = run(chosen)
    except (CannotRunError, CertcastError) as error:
        print(f"bench {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(_page.as_text(results, before))
    if chosen.json:
        kept[name] = asdict(results) | {"machine": asdict(before)}
        chosen.json.write_text(f"{json.dumps(kept, indent=2)}\n", encoding="utf-8")
    if chosen.docs:
        _page.write(results, before, heading=description.partition("\n")[0].rstrip("."))
    return 1 if results.missed else 0


def _json_in(file: Path) -> dict[str, Any]:
    """The results of other benchmarks in the file, which stay; opened for writing, so that no run is for nothing."""
    try:
        with file.open("a+", encoding="utf-8") as opened:
            opened.seek(0)
            text = opened.read()
        kept = json.loads(text) if text else {}
    except OSError as error:
        raise CannotRunError(f"{file} cannot be written ({error.strerror}); name another file") from error
    except ValueError as error:
        raise CannotRunError(f"{file} is not JSON; name another file, or delete it") from error
    if not isinstance(kept, dict):
        raise CannotRunError(f"{file} holds no results of benchmarks; name another file")
    return kept
