"""Results as text for a terminal, and as Markdown between a benchmark's markers in docs/benchmarks.md."""

from __future__ import annotations

import math
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from _plots import draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _machine import Machine
    from _results import Cell, Figure, Results

ROOT = Path(__file__).resolve().parents[1]
PAGE, README = ROOT / "docs" / "benchmarks.md", ROOT / "README.md"
_DIGITS = 3
_WIDTH = 120


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
        parts.append("\n".join([title, *lines, *textwrap.wrap(note, _WIDTH)]))
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


def write(results: Results, machine: Machine, *, heading: str) -> None:
    """Put results between their markers in the page, or into a new section, with plots beside it; renew the README.

    Args:
        results: What to write.
        machine: Where they are from.
        heading: Of the section, if it is a new one.
    """
    folder = PAGE.with_suffix("")
    folder.mkdir(exist_ok=True)
    for plot in results.plots:
        (folder / _file(results.name, plot.name)).write_text(draw(plot), encoding="utf-8")
    begin, end = (f"<!-- bench {results.name}: {word} -->" for word in ("begin", "end"))
    text = PAGE.read_text(encoding="utf-8")
    if begin not in text:
        text = f"{text}\n## {heading}\n\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text(f"{before}{begin}\n\n{as_markdown(results, machine)}\n{end}{after}", encoding="utf-8")
    README.write_text(_requoted(README.read_text(encoding="utf-8"), results.figures), encoding="utf-8")


def _requoted(text: str, figures: Sequence[Figure]) -> str:
    """The README with these figures in the lines that are about them, such as "- NAME: 5 ms, 2.00 times the floor"."""
    for name, value, ratio in map(_quoted, figures):
        text = re.sub(rf"^- {re.escape(name)}: .*$", f"- {name}: {value}, {ratio}", text, flags=re.MULTILINE)
    return text


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
