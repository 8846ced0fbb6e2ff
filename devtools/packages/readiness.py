"""Whether a commit can be released: what keeps it from that, and what a maintainer does before the tag."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devtools import locks
from devtools.cures import SetupError
from devtools.packages import changelog
from devtools.packages.building import VERSION_FILE, run

if TYPE_CHECKING:
    from datetime import date

    from devtools.environment import Environment

_NAMED = 5
"""Changed files that are named; more are counted."""
_NUMBERS = re.compile(r"(\d+\.\d+\.\d+)(?:\.dev0)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at.

    Attributes:
        about: What it is.
        faults: What keeps this commit from becoming a release.
        steps: What is to be done before the tag, and is not wrong as long as there is none.
    """

    about: str
    faults: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


def release_of(version: str) -> str:
    """The release that a version is, or is on the way to.

    Raises:
        SetupError: It is neither.
    """
    found = _NUMBERS.fullmatch(version)
    if found is None:
        raise SetupError(f"{VERSION_FILE}: VERSION must be three numbers, or these and .dev0, not {version!r}")
    return found[1]


def working_copy(here: Environment) -> Check:
    """What is built must be what was committed.

    Raises:
        SetupError: git cannot be asked.
    """
    lines = run(here, ["git", "status", "--porcelain"], why="a release is a commit").splitlines()
    named = ", ".join([*(line[3:] for line in lines[:_NAMED]), *(["…"] if len(lines) > _NAMED else [])])
    fault = f"the working copy is not the commit ({named}): commit, stash or remove what differs"
    return Check(about="working copy", faults=(fault,) if lines else ())


def numbered(version: str, *, tag: str, tags: frozenset[str]) -> Check:
    """The version is the tag's, or one that no release has yet.

    Args:
        version: The project's.
        tag: The tag that is being released; empty before there is one.
        tags: All tags that there are.
    """
    release = release_of(version)
    about, wanted = "version", f"v{release}"
    if tag and tag != f"v{version}":
        return Check(about=about, faults=(f"the tag is {tag}, and {VERSION_FILE} says {version}",))
    if not tag and wanted in tags:
        return Check(about=about, faults=(f"{wanted} is released: write the next version into {VERSION_FILE}",))
    step = f'in {VERSION_FILE}, write VERSION = "{release}"'
    return Check(about=about, steps=(step,) if release != version else ())


def changes(text: str, *, release: str, today: date) -> Check:
    """The changelog tells of the release, under its version and day, and of nothing that is above it.

    Args:
        text: The changelog.
        release: The version that is to be released.
        today: The day that it would get.
    """
    about, file = "changes", changelog.FILE
    found = {section.version: section for section in changelog.sections(text)}
    waiting, told = found.get(changelog.UNRELEASED), found.get(release)
    if told is None and waiting and waiting.text:
        return Check(about=about, steps=(f"in {file}, put `## {release} - {today}` below `## {changelog.UNRELEASED}`",))
    if told is None or not told.text:
        return Check(about=about, faults=(f"{file} does not say what is new in {release}",))
    faults = []
    if not told.date:
        faults.append(f"in {file}, {release} has no date: write `## {release} - {today}`")
    if waiting and waiting.text:
        faults.append(f"in {file}, what stands under {changelog.UNRELEASED} is in {release} too: move it there")
    return Check(about=about, faults=tuple(faults))


def current_locks(here: Environment) -> Check:
    """The lock files are what the resolvers would write; asks the package indexes."""
    try:
        outdated = locks.outdated(here, locks.resolve(here))
    except SetupError as error:
        return Check(about="locks", faults=(str(error),))
    fault = f"{', '.join(outdated)} not current: run `python3 dev.py lock`"
    return Check(about="locks", faults=(fault,) if outdated else ())
