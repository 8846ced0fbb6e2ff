"""The commands that README.md and the pages in docs/ show, each of which a test runs, or has a reason why none does.

A module of tests takes its blocks by `run_here`, so that `test_every_command.py` knows of them.
"""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.rigs.pages import PAGES, README, text_of

DOCS = [page for page in PAGES if page == README or page.parts[0] == "docs"]

DATA = frozenset({"apache", "ini", "json", "nginx", "sql", "text", "toml", "yaml"})
"""Languages of blocks that hold no commands; of those that name none, and by indentation, the first word tells."""

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"^ {4}(?:certcast|az|python3?) .*\n(?: {6}.*\n)*", re.MULTILINE)
_SETTINGS = re.compile(r"(?:[A-Z_]+=(?:'[^'\n]*'|[^\s$']*)\n)+")
_COMMAND = re.compile(r"(?:\w+=\S+ )*(?:apt-get|az|certcast|curl|func|openssl|pip|python3?|sudo|systemctl)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A block of commands.

    Attributes:
        page: Where.
        language: As the fence names it; empty for none.
        text: Without the fence and the indentation.
    """

    page: Path
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line, by which tests and people name it."""
        return self.text.partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.page}: {self.first}"


def shown_on(page: Path) -> list[Shown]:
    """The blocks of commands on a page; those that only say what settings are hold none."""
    text = text_of(page)
    blocks = [(language, textwrap.dedent(block)) for _, language, block in _FENCED.findall(text)]
    blocks += [("", textwrap.dedent(block)) for block in _INDENTED.findall(_FENCED.sub("", text))]
    return [
        Shown(page=page, language=language, text=block)
        for language, block in blocks
        if language not in DATA and not _SETTINGS.fullmatch(block) and (language or _COMMAND.match(block))
    ]


RUN: list[Shown] = []
"""What `run_here` was asked for."""


def run_here(page: Path, begins: str, *, alike: bool = False) -> str:
    """The text of the block that begins so, which the caller runs.

    Args:
        page: Where it is.
        begins: The beginning of its first line.
        alike: Whether several blocks are this one, word for word.
    """
    found = [shown for shown in shown_on(page) if shown.text.startswith(begins)]
    assert found, f"{page} has no block that begins with {begins!r}"
    assert len(found) == 1 or (alike and len(set(found)) == 1), f"{page} has several that begin with {begins!r}"
    RUN.extend(found)
    return found[0].text


def lines_of(text: str) -> list[str]:
    """The command lines of a block: continued lines joined, comments cut off."""
    joined = text.replace("\\\n", " ").splitlines()
    return [command for line in joined if (command := re.split(r"(?:^|\s)#\s", line)[0].strip())]
