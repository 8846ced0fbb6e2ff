"""The benchmarks in bench/: what there is, what each needs, and the commands that run those that were named."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devtools.cures import SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COMMON = ("--quick", "--docs", "--json")
"""Options that every benchmark has; the last one takes a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One program of bench/.

    Attributes:
        name: Its file's, without the ending.
        purpose: First line of its docstring.
        needs: The sentence of its docstring that begins a line with "Needs"; empty where there is none.
    """

    name: str
    purpose: str
    needs: str

    def __str__(self) -> str:
        return "\n".join(filter(None, [f"{self.name:<14}{self.purpose}", self.needs and f"{'':<14}{self.needs}"]))


def all_of(folder: Path) -> list[Benchmark]:
    """Every benchmark in a folder, by name; a file whose name begins with `_` is a part of others."""
    return [_benchmark(file) for file in sorted(folder.glob("*.py")) if not file.stem.startswith("_")]


def chosen(known: Sequence[Benchmark], arguments: Sequence[str]) -> list[list[str]]:
    """A command line for each benchmark that was named, or for all: its name and its options.

    Raises:
        SetupError: A name that there is not, or options of one benchmark where several were named.
    """
    first = next((at for at, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    names, options = arguments[:first], list(arguments[first:])
    there = [benchmark.name for benchmark in known]
    if unknown := [name for name in names if name not in there]:
        raise SetupError(f"there is no benchmark {unknown[0]!r}; there are {', '.join(there)}")
    if len(names) != 1 and (own := _others(options)):
        raise SetupError(f"{own[0]!r} is no option of all benchmarks; name the one that has it")
    return [[name, *options] for name in names or there]


def _others(options: Sequence[str]) -> list[str]:
    """Options that not every benchmark has."""
    return [
        option
        for before, option in zip(["", *options], options, strict=False)
        if option.partition("=")[0] not in COMMON and before != COMMON[-1]
    ]


def _benchmark(file: Path) -> Benchmark:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    needs = re.search(r"^Needs .+?\.(?=\s|\Z)", text, re.DOTALL | re.MULTILINE)
    return Benchmark(name=file.stem, purpose=text.partition("\n")[0], needs=" ".join(needs[0].split()) if needs else "")
