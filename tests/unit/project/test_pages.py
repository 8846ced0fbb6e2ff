"""The pages by themselves: links that lead somewhere, one spelling, plain words, and no more of them than promised."""

import re
from pathlib import Path

import pytest

from tests.rigs.deployment import ROOT, repository_files
from tests.rigs.pages import PAGES, README, anchors, prose_of, text_of

MOST_WORDS = 900
DECISIONS = sorted(Path("docs/decisions") / path.name for path in (ROOT / "docs" / "decisions").glob("0*.md"))
HERE = Path(__file__).relative_to(ROOT)
EXPLORERS_NODE = "(Emulator - Default Ports)"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (ROOT / page).parent / file if file else ROOT / page
        linked = there.resolve().relative_to(ROOT)
        if not there.exists() or (anchor and anchor not in anchors(linked)):
            lost.append(target)
    assert not lost


def test_the_readme_is_read_in_a_few_minutes() -> None:
    before, heading, after = text_of(README).partition("\n## Read on\n")
    assert heading
    assert len(before.split()) <= MOST_WORDS
    linked = set(re.findall(r"\]\(([\w./-]+)\)", after))
    assert linked >= {"CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/decisions/README.md"}
    assert linked >= {page.as_posix() for page in PAGES if page.parent == Path("docs")} - {"docs/iis.md"} - {
        "docs/security.md"
    }


def test_storage_explorers_node_is_spelled_in_one_way() -> None:
    for path in repository_files():
        if path.suffix in {".py", ".md"} and path != HERE:
            assert text_of(path).count("Default Ports") == text_of(path).count(EXPLORERS_NODE), path
            assert '"Local Emulator"' not in text_of(path), path


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_uses_plain_words(page: Path) -> None:
    archaic = r"\b(anew|hence|lest|mend(?:s|ed|ing)?|nobody|thereof|whereupon|whilst|whoever)\b|, for (?:it|they|we) "
    assert not re.findall(archaic, prose_of(page), re.IGNORECASE)


def test_the_decisions_are_numbered_and_listed_in_order() -> None:
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((.+)\)$", text_of(Path("docs/decisions/README.md")), re.MULTILINE)
    assert [name for _, _, name in listed] == [path.name for path in DECISIONS]
    for number, (told, title, name) in enumerate(listed, 1):
        assert int(told) == number == int(name[:4])
        assert text_of(Path("docs/decisions", name)).startswith(f"# {number}. {title}\n")


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: str(page.stem))
def test_a_decision_is_one_short_page(page: Path) -> None:
    headings = re.findall(r"^## (.+)$", text_of(page), re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequence"]
    assert 10 <= len(text_of(page).splitlines()) <= 25
