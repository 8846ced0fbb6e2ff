"""The page of what Azure does differently is whole: each row has a source, and a test that is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.rigs.deployment import ROOT
from tests.rigs.pages import rows, section, text_of

PAGE = Path("docs/azure-differences.md")
COLUMNS = ["what", "the local cloud", "Azure", "source", "test"]
SECTIONS = ("## Storage", "## Functions host and Event Grid", "## Identity and Key Vault")
ROWS = [(heading, cells) for heading in SECTIONS for cells in list(rows(section(PAGE, heading)))[1:]]
SOURCE = re.compile(r"https://\S+|learn\.microsoft\.com, \*[^*]+\*|`[\w./]+\.(?:cs|py)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)((?:::\w+)+)(?:\[[^\]]+\])?`")


@cache
def names_in(path: str) -> set[str]:
    """What pytest calls the tests of a file, and its classes of tests."""
    names = set[str]()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            names.add(f"::{node.name}")
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            methods = [each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            names |= {f"::{node.name}", *(f"::{node.name}::{name}" for name in methods if name.startswith("test_"))}
    return names


def test_each_section_has_one_table_of_these_columns() -> None:
    for heading in SECTIONS:
        found = list(rows(section(PAGE, heading)))
        assert found[0] == COLUMNS
        assert len(found) > 5
        assert found.count(COLUMNS) == 1
    assert len(list(rows(text_of(PAGE)))) == len(ROWS) + len(SECTIONS), "a table stands elsewhere"


@pytest.mark.parametrize(("heading", "cells"), ROWS, ids=[f"{heading[3:]}: {cells[0][:60]}" for heading, cells in ROWS])
def test_a_row_has_five_cells_a_source_and_a_test_that_is_there(heading: str, cells: list[str]) -> None:
    assert len(cells) == len(COLUMNS), f"a row of {heading[3:]} has {len(cells)} cells"
    assert all(cells), "a cell is empty"
    assert SOURCE.search(cells[3]), f"no link and no file: {cells[3]}"
    named = [match.group(1, 2) for match in TEST.finditer(cells[4])]
    assert named, f"no test: {cells[4]}"
    assert not re.sub(r"[,;\s]", "", TEST.sub("", cells[4])), f"more than tests: {cells[4]}"
    for path, test in named:
        assert (ROOT / path).is_file(), path
        assert test in names_in(path), f"{path} has no {test[2:]}"


def test_what_is_not_known_is_said() -> None:
    assert len(re.findall(r"^- ", section(PAGE, "## Not known"), re.MULTILINE)) > 5
