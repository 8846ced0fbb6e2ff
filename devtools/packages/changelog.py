"""CHANGELOG.md as its readers know it: a section for what is not released yet, then one for each release."""

from __future__ import annotations

import re
from dataclasses import dataclass

FILE = "CHANGELOG.md"
UNRELEASED = "Unreleased"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One release's changes.

    Attributes:
        version: Its version, or `Unreleased`.
        date: The day of the release, as it is written; empty where there is none.
        text: What stands below the heading.
    """

    version: str
    date: str
    text: str


def sections(text: str) -> list[Section]:
    """The sections of a changelog, in its order (keepachangelog.com)."""
    parts = re.split(r"^## +(.+?)(?: - (.+?))? *$", text, flags=re.MULTILINE)[1:]
    triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return [Section(version=version, date=date or "", text=body.strip()) for version, date, body in triples]


def notes(section: Section, address: str) -> str:
    """A section for GitHub's page of a release, where relative links lead nowhere and each line end is shown as one.

    Args:
        section: The section.
        address: Of the root of the files, such as `https://github.com/OWNER/NAME/blob/v1.0.0`.
    """
    joined = re.sub(r"(?<=\S)\n *(?![-#\s])", " ", section.text)
    return re.sub(r"\]\((?![a-z]+:|#)", f"]({address}/", joined) + "\n"
