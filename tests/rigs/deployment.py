"""Which files a deployment uploads, by the two readings of .funcignore: Core Tools' and azd's."""

import os
import re
from pathlib import Path

import pathspec

ROOT = Path(__file__).resolve().parents[2]


def patterns() -> list[str]:
    """The lines of .funcignore that are patterns."""
    lines = (ROOT / ".funcignore").read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def core_tools_ignores(path: Path) -> bool:
    """As `func azure functionapp publish` reads it: each pattern a regular expression anchored at the path's start.

    `*` is anything but a slash and `**` anything at all, and a match of the path's beginning is enough
    (github.com/Azure/azure-functions-core-tools, GitIgnoreParser.cs).
    """
    wildcards = {"**": "(.+)", "*": "([^/]+)"}
    for pattern in patterns():
        parts = re.split(r"(\*\*|\*)", pattern)
        if re.match("".join(wildcards.get(part, re.escape(part)) for part in parts), path.as_posix()):
            return True
    return False


def gitignore_ignores(path: Path) -> bool:
    """As `azd deploy` reads it: the rules of .gitignore."""
    return pathspec.GitIgnoreSpec.from_lines(patterns()).match_file(path.as_posix())


def repository_files() -> list[Path]:
    """Every file of the working copy that belongs to the project, relative to it: all that .gitignore does not name."""
    ignored = pathspec.GitIgnoreSpec.from_lines([".git", *(ROOT / ".gitignore").read_text("utf-8").splitlines()])
    found = []
    for folder, folders, files in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if not ignored.match_file(f"{(here / name).as_posix()}/")]
        found += [here / name for name in files if not ignored.match_file((here / name).as_posix())]
    return sorted(found)


def deployed_files() -> list[Path]:
    """What both tools upload."""
    return [path for path in repository_files() if not core_tools_ignores(path) and not gitignore_ignores(path)]
