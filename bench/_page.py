"""Results as text for a terminal, and as Markdown between a benchmark's markers in docs/benchmarks.md."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from _plots import draw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _machine import Machine
    from _results import Cell, Figure, Results

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
_DIGITS = 3


class PageError(Exception):
    """docs/benchmarks.md has no place for these results; the text says what to do."""


def shown(cell: Cell) -> str:
    """A cell as people read it: 3 significant digits for a float, and thousands apart."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    if cell == 0 or not math.isfinite(cell):
        return "0" if cell == 0 else str(cell)
    digits = _DIGITS - 1 - math.floor(math.log10(abs(cell)))
    rounded = round(cell, digits)
    # Rounding 9.996 makes a digit more: 10.0.
    digits = _DIGITS - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(0, digits)}f}"


def as_text(results: Results, machine: Machine) -> str:
    """All of it for a terminal."""
    parts = [f"\n{results.command}\n{machine}"]
    for title, columns, rows, note in _tables(results):
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        lines = ["  ".join(_aligned(row, widths)).rstrip() for row in (columns, *rows)]
        parts.append("\n".join([title, *lines, *([note] if note else [])]))
    parts += [f"NOT KEPT: {sentence}" for sentence in results.missed]
    return "\n\n".join(parts)


def as_markdown(results: Results, machine: Machine) -> str:
    """All of it for the page; the plots are beside it."""
    parts = [f"`{results.command}`: {machine}."]
    for title, columns, rows, note in _tables(results):
        head = [_row(columns), _row(["---", *["--:"] * (len(columns) - 1)])]
        parts += [f"**{title}**", "\n".join([*head, *map(_row, rows)]), *([note] if note else [])]
    parts += [f"Not kept: {sentence}" for sentence in results.missed]
    parts += [f"![{plot.title}](benchmarks/{_file(results.name, plot.name)})" for plot in results.plots]
    return "\n\n".join(parts)


def check(name: str) -> None:
    """Raise PageError unless the page has a benchmark's markers."""
    _place(PAGE.read_text(encoding="utf-8"), name)


def write(results: Results, machine: Machine) -> None:
    """Put results between their markers, and their plots beside the page; raises PageError."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = _place(text, results.name)
    folder = DOCS / PAGE.stem
    folder.mkdir(exist_ok=True)
    for plot in results.plots:
        (folder / _file(results.name, plot.name)).write_text(draw(plot), encoding="utf-8")
    PAGE.write_text(f"{text[:before]}\n{as_markdown(results, machine)}\n{text[after:]}", encoding="utf-8")


def _place(text: str, name: str) -> tuple[int, int]:
    begin, end = (f"<!-- bench {name}: {word} -->" for word in ("begin", "end"))
    found = re.search(f"{re.escape(begin)}\n(.*?){re.escape(end)}", text, re.DOTALL)
    if not found:
        raise PageError(f"docs/benchmarks.md has no lines {begin!r} and {end!r}; put them where the tables belong")
    return found.span(1)


def _tables(results: Results) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]], str]]:
    """Every table with its cells as text; the figures are the last one."""
    for table in results.tables:
        yield table.title, table.columns, [tuple(map(shown, row)) for row in table.rows], table.note
    if results.figures:
        columns = ("", "value", "ratio")
        yield "What is quoted", columns, [_quoted(figure) for figure in results.figures], ""


def _quoted(figure: Figure) -> tuple[str, ...]:
    ratio = "" if figure.ratio is None else f"{shown(figure.ratio)} times {figure.ratio_to}"
    return figure.name, f"{shown(figure.value)} {figure.unit}", ratio


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _file(name: str, plot: str) -> str:
    return f"{name}-{plot}.svg" if plot else f"{name}.svg"
