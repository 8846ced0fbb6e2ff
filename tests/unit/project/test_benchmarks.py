"""Benchmarks have one form, one command, and a page on which every figure says where it is from."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import _page
import pytest
from _machine import Machine
from _plots import draw
from _results import Figure, Plot, Results, Table, distribution

from devtools import benchmarks, commands
from devtools.cures import SetupError
from tests.rigs.deployment import ROOT
from tests.rigs.pages import README, rows, section, text_of

KNOWN = benchmarks.all_of(ROOT / "bench")
NAMES = [benchmark.name for benchmark in KNOWN]
PAGE = Path("docs/benchmarks.md")
TABLE = Table("Costs", ("what", "ms", "count"), (("a | b", 1234.5, 10_000), ("c", 0.00123, 0)), "A note.")
PLOT = Plot("few", "Costs", "ms", "share", {"a": distribution([3, 1, 2]), "b": distribution([5])}, "cdf")
MACHINE = Machine(date="2026-01-02", system="Linux", processors=2, load_average=0.1, versions={"Python": "3.11"})


def results(value: float = 250.0) -> Results:
    figure = Figure("idle: served", value, "ms", 1.5, "the floor")
    return Results(name="some", command="bench some", tables=[TABLE], figures=[figure], plots=[PLOT])


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_can_be_told_what_to_do_run_and_asked_for_its_exit_code(name: str) -> None:
    tree = ast.parse(text_of(Path("bench", f"{name}.py")))
    assert {"add_arguments", "run", "main"} <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_list_names_every_benchmark_and_what_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["bench", "--list"]) == 0
    listed = capsys.readouterr().out
    for benchmark in KNOWN:
        assert re.search(rf"^{benchmark.name} +{re.escape(benchmark.purpose)}$", listed, re.MULTILINE)
        assert benchmark.needs in listed
    assert set(re.findall(r"^(\w+)", listed, re.MULTILINE)) == set(NAMES)


def test_needs_are_one_sentence_of_the_docstring_however_it_is_broken(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text('"""What it costs.\n\nNeeds nginx 1.22\nand a minute. More.\n"""\n')
    (tmp_path / "_part.py").write_text('"""A part."""\n')
    [only] = benchmarks.all_of(tmp_path)
    assert (only.name, only.purpose, only.needs) == ("one", "What it costs.", "Needs nginx 1.22 and a minute.")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["latency"], [["latency"]]),
        (["latency", "--uploads", "3", "--json", "f"], [["latency", "--uploads", "3", "--json", "f"]]),
        (
            ["iis", "latency", "--quick", "--json", "f"],
            [[name, "--quick", "--json", "f"] for name in ("iis", "latency")],
        ),
        (["--json=f", "--docs"], [[name, "--json=f", "--docs"] for name in NAMES]),
        ([], [[name] for name in NAMES]),
    ],
)
def test_several_benchmarks_take_the_options_that_all_have(arguments: list[str], expected: list[list[str]]) -> None:
    assert benchmarks.chosen(KNOWN, arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "there is no benchmark 'nothing'"),
        (["iis", "latency", "--uploads", "3"], "'--uploads' is no option of all benchmarks"),
        (["--uploads=3"], "'--uploads=3' is no option"),
    ],
)
def test_what_is_no_benchmark_or_no_common_option_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(SetupError, match=re.escape(said)):
        benchmarks.chosen(KNOWN, arguments)


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        ("text", "text"),
        (10_000, "10,000"),
        (0, "0"),
        (0.0, "0"),
        (1234.5, "1,230"),
        (9.996, "10.0"),
        (0.99961, "1.00"),
        (0.00123456, "0.00123"),
        (-12.34, "-12.3"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_are_told_with_three_digits(cell: str | float, read: str) -> None:
    assert _page.shown(cell) == read


def test_a_terminal_is_shown_the_machine_the_tables_and_what_was_not_kept() -> None:
    told = _page.as_text(replace(results(), missed=["too slow"]), MACHINE)
    assert "2026-01-02, Linux, 2 processors, load average before: 0.1; Python 3.11" in told
    assert re.search(r"^a \| b +1,230 +10,000$", told, re.MULTILINE)
    assert "A note." in told
    assert "1.50 times the floor" in told
    assert "NOT KEPT: too slow" in told


def test_results_are_written_between_their_markers_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, readme = tmp_path / "benchmarks.md", tmp_path / "README.md"
    page.write_text("# B\n\n<!-- bench some: begin -->\nold\n<!-- bench some: end -->\n\nafter | it\n")
    readme.write_text("- idle: served: old\n- idle: served, worst: 1 ms, 2 times it\n| idle: served |\n")
    monkeypatch.setattr(_page, "PAGE", page)
    monkeypatch.setattr(_page, "README", readme)
    _page.write(results(), MACHINE, heading="Some")
    written = page.read_text()
    _page.write(results(), MACHINE, heading="Some")
    assert page.read_text() == written
    assert written.startswith("# B\n\n<!-- bench some: begin -->\n")
    assert written.endswith("<!-- bench some: end -->\n\nafter | it\n")
    assert "old" not in written
    assert r"| a \| b | 1,230 | 10,000 |" in written
    assert "| idle: served | 250 ms | 1.50 times the floor |" in written
    quoted = "- idle: served: 250 ms, 1.50 times the floor"
    assert readme.read_text() == f"{quoted}\n- idle: served, worst: 1 ms, 2 times it\n| idle: served |\n"
    assert (tmp_path / "benchmarks" / "some-few.svg").read_text() == draw(PLOT)


def test_results_without_a_place_get_a_section_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, readme = tmp_path / "benchmarks.md", tmp_path / "README.md"
    page.write_text("# B\n")
    readme.write_text("")
    monkeypatch.setattr(_page, "PAGE", page)
    monkeypatch.setattr(_page, "README", readme)
    _page.write(results(), MACHINE, heading="What some costs")
    assert page.read_text().startswith("# B\n\n## What some costs\n\n<!-- bench some: begin -->\n\n`bench some`: 2026")


@pytest.mark.parametrize("kind", ["line", "bar", "cdf"])
def test_the_same_points_are_the_same_picture_and_it_has_no_date(kind: str) -> None:
    plot = replace(PLOT, kind=kind, log_x=kind == "line")  # type: ignore[arg-type]
    drawn = draw(plot)
    assert drawn == draw(plot)
    assert "Costs" in drawn
    assert not re.search(r"\b20\d\d-\d\d|matplotlib v", drawn)


def test_every_table_and_plot_of_the_page_is_between_the_markers_of_a_benchmark() -> None:
    inside = re.compile(r"<!-- bench (\w+): begin -->\n.*?<!-- bench \1: end -->\n", re.DOTALL)
    text = text_of(PAGE)
    assert set(inside.findall(text)) <= set(NAMES)
    outside = inside.sub("", text)
    assert not [line for line in outside.splitlines() if line.startswith(("|", "!["))]
    assert "<!-- bench" not in outside


def test_what_the_readme_quotes_is_on_the_page() -> None:
    quoted = re.findall(r"^- (.+): (.+), (.+)$", section(README, "## How fast"), re.MULTILINE)
    assert len(quoted) >= 3
    assert any("60 s" in name for name, _, _ in quoted)
    told = list(rows(text_of(PAGE)))
    assert not [figure for figure in quoted if list(figure) not in told]
