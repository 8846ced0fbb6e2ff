"""The project's pages as the tests read them: their prose, sections, tables and code blocks."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.rigs.deployment import ROOT, repository_files

PAGES = [path for path in repository_files() if path.suffix == ".md"]
AGENTS = Path("docs/agents.md")
OPERATIONS = Path("docs/operations.md")
README = Path("README.md")
SETTINGS = Path("docs/settings.md")
ARCHITECTURE = Path("docs/architecture.md")
CONTRIBUTING = Path("CONTRIBUTING.md")
DEPLOY = Path("docs/deploy.md")
EVENTS = Path("docs/events/README.md")
GLOSSARY = Path("docs/glossary.md")
SECURITY = Path("docs/security.md")
SOURCES = Path("docs/sources.md")
TROUBLESHOOTING = Path("docs/troubleshooting.md")
VERDICTS = Path("docs/verdicts.md")


@cache
def text_of(page: Path) -> str:
    """The whole of a file of the repository."""
    return (ROOT / page).read_text("utf-8")


@cache
def prose_of(page: Path) -> str:
    """Without fenced code and HTML comments, in which nothing is a link or a heading."""
    without_code = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", without_code, flags=re.DOTALL)


def section(page: Path, heading: str) -> str:
    """From a heading to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", text_of(page), re.DOTALL | re.MULTILINE)
    assert found is not None, f"{page} has no heading '{heading}'"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks of one language; "" is for those that name none."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for named, block in fenced if named == language]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row, headers included."""
    for line in text.splitlines():
        if line.startswith("|") and not re.match(r"\|\s*-", line):
            yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def shell_lines(page: Path) -> Iterator[str]:
    """Every command line in its `sh` blocks, continued lines joined, comments cut off."""
    for block in blocks(text_of(page), "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.split(r"(?:^|\s)#\s", line)[0].strip():
                yield command


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
