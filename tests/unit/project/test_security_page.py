"""The threat model in docs/security.md: every party has its part, every "cannot" a test, and every test exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.deployment import ROOT
from tests.rigs.pages import SECURITY, prose_of, rows, section, text_of

PARTIES = re.findall(r"^### (.+)$", section(SECURITY, "## The parties"), re.MULTILINE)
CLAIMS = [
    (party, *cells)
    for party in PARTIES
    for cells in rows(section(SECURITY, f"### {party}"))
    if cells != ["cannot", "shown by"]
]
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)((?:::\w+)*)`")


def names_in(tree: ast.AST, before: str = "") -> Iterator[str]:
    """What a file defines, as pytest names it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield f"{before}::{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from names_in(node, f"{before}::{node.name}")


def test_there_are_parties() -> None:
    assert len(PARTIES) > 5
    assert {party for party, *_ in CLAIMS} == set(PARTIES), "each has something that it cannot do"


@pytest.mark.parametrize("party", PARTIES)
def test_a_party_holds_something_and_can_do_something(party: str) -> None:
    text = section(SECURITY, f"### {party}")
    assert "**Holds** " in text
    assert "**Can** " in text


@pytest.mark.parametrize(("party", "claim", "shown_by"), CLAIMS, ids=lambda value: value[:40])
def test_what_a_party_cannot_do_is_shown_by_tests(party: str, claim: str, shown_by: str) -> None:
    named = REFERENCE.findall(shown_by)
    assert named, f"{party} cannot {claim}: no test is named"
    assert REFERENCE.sub("", shown_by).strip(", ") == "", "only tests are named, between commas"
    for file, name in named:
        assert name.rpartition("::")[2].startswith("test_"), f"{file}{name} names no test"
        assert (ROOT / file).is_file(), f"{file} is not there"
        assert name in set(names_in(ast.parse(text_of(Path(file))))), f"{file} has no {name}"


def test_nothing_is_said_to_be_impossible_without_a_test() -> None:
    lines = [line for line in prose_of(SECURITY).splitlines() if not line.startswith("|")]
    said = [line for line in lines if re.search(r"\bcannot\b|\bnever\b|\bimpossible\b", line)]
    introduction = prose_of(SECURITY).partition("\n## ")[0]
    assert [line for line in said if line not in introduction] == []
