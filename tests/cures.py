"""What `docs/verdicts.md` says to do, as the data that the dashboard shows: `python -m tests.cures` writes it."""

import json
import re
from collections.abc import Iterator
from typing import Any

from shared.function.dashboard.cures import PATH
from tests.rigs.deployment import ROOT
from tests.rigs.pages import VERDICTS, rows, section, text_of

_CODED = re.compile(r"^###? `([a-z0-9_]+)`$", re.MULTILINE)
_MEANS = re.compile(r"^\*\*Means\*\* (.*?)(?=^\*\*(?:Happens|Do)\*\* )", re.DOTALL | re.MULTILINE)
_DO = re.compile(r"^\*\*Do\*\* (.*)", re.DOTALL | re.MULTILINE)
_FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def cures() -> dict[str, Any]:
    """By code, and by status: blocks of text, in which code stands between backticks, and of commands."""
    page = text_of(VERDICTS)
    codes = [(found[0].removesuffix("\n"), found[1]) for found in _CODED.finditer(page)]
    return {
        "codes": {code: _cure(section(VERDICTS, heading)) for heading, code in codes},
        "statuses": dict(_statuses(section(VERDICTS, "## When it is not served"))),
    }


def _cure(text: str) -> dict[str, Any]:
    means, do = _MEANS.search(text), _DO.search(text)
    assert means is not None
    assert do is not None
    return {"means": list(_blocks(means[1])), "do": list(_blocks(do[1]))}


def _blocks(text: str) -> Iterator[dict[str, str]]:
    for number, part in enumerate(_FENCED.split(text)):
        if number % 2:
            yield {"code": part.rstrip("\n")}
        else:
            yield from ({"text": _plain(paragraph)} for paragraph in part.split("\n\n") if paragraph.strip())


def _statuses(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for seen, means, do in rows(text):
        for word in re.findall(r"`([a-z_]+)`", seen):
            yield word, {"means": _plain(means), "do": _plain(do)}


def _plain(markdown: str) -> str:
    """A paragraph on one line, its links as words: of another page its file is named."""
    text = " ".join(markdown.split())
    text = re.sub(r"\[([^]]+)\]\(([\w/-]+\.md)[^)]*\)", r"\1 (docs/\2)", text)
    text = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", text)
    return text[:1].upper() + text[1:]


def written() -> str:
    """The file."""
    return json.dumps(cures(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (ROOT / PATH).write_text(written(), "utf-8")
