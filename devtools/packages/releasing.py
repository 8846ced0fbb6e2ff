"""`dev.py release`: whether a commit can be released, the files of the release, and what is left to do for it."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from devtools.packages import bill_of_materials, changelog, checksums, command, functions_zip, readiness
from devtools.packages.building import built_at, run, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from devtools.environment import Environment
    from devtools.packages.readiness import Check

WHAT_IT_IS = (
    "a release is a signed tag, which the workflow .github/workflows/release.yml builds and publishes; nothing is"
    " published from here. `release --dry-run` looks whether this commit can be one, builds its files into dist/ and"
    " says what to do next"
)
NOTES = "build/release-notes.md"
"""What the workflow says of a release."""


def build(here: Environment, into: Path) -> list[Path]:
    """Build every file of a release into a folder, which is emptied first; from one commit, the same bytes.

    Returns:
        The files, the last of them with the hashes of the others.

    Raises:
        SetupError: One cannot be built.
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    made = [
        *command.build_files(here, into),
        functions_zip.build(here, into),
        *bill_of_materials.write(here, into),
    ]
    return [*made, checksums.write(into, made)]


def release(here: Environment, *, tag: str, lint: Callable[[], Sequence[str]]) -> int:
    """Check, build, and say what came of it.

    Args:
        here: The checkout.
        tag: The tag that is being released; empty for a dry run, before there is one.
        lint: Runs the checks of the code and answers the names of those that failed.

    Returns:
        1 if something keeps this commit from becoming that release, else 0.

    Raises:
        SetupError: The files cannot be built.
    """
    now, of_project = datetime.now(UTC), version(here)
    text = (here.root / changelog.FILE).read_text(encoding="utf-8")
    tags = frozenset(run(here, ["git", "tag"], why="a release has one").split())
    checks = [
        readiness.Check(about="code", faults=tuple(f"{name} failed" for name in lint())),
        readiness.working_copy(here),
        readiness.numbered(of_project, tag=tag, tags=tags),
        readiness.changes(text, release=readiness.release_of(of_project), today=now.date()),
        readiness.current_locks(here),
    ]
    made = build(here, here.root / "dist")
    print(_report(here, checks, made))
    faults = [fault for check in checks for fault in (*check.faults, *(check.steps if tag else ()))]
    if faults:
        print("\nThis commit cannot be released:", *faults, sep="\n- ")
        return 1
    if tag:
        write_notes(here, text, tag)
    else:
        print(_next(readiness.release_of(of_project), [step for check in checks for step in check.steps]))
    return 0


def write_notes(here: Environment, text: str, tag: str) -> None:
    """Write what the changelog says of a release to where the workflow reads it."""
    (told,) = (section for section in changelog.sections(text) if f"v{section.version}" == tag)
    server, repository = os.environ.get("GITHUB_SERVER_URL", ""), os.environ.get("GITHUB_REPOSITORY", "")
    (here.root / NOTES).parent.mkdir(exist_ok=True)
    (here.root / NOTES).write_text(changelog.notes(told, f"{server}/{repository}/blob/{tag}"), encoding="utf-8")


def _report(here: Environment, checks: Iterable[Check], made: Iterable[Path]) -> str:
    commit = run(here, ["git", "log", "-1", "--format=%h"], why="packages are built from a commit").strip()
    moment = datetime.fromtimestamp(built_at(here), UTC)
    return "\n".join(
        [
            f"\ncertcast {version(here)} of commit {commit}, {moment:%Y-%m-%d %H:%M:%S} UTC",
            *(f"  {check.about:14}{'not yet' if check.faults else 'ok'}" for check in checks),
            "\nIn dist/ (bytes, SHA-256):",
            *(f"  {file.name:44}{file.stat().st_size:>10,}  {checksums.sha256_of(file)}" for file in made),
        ]
    )


def _next(release: str, steps: Sequence[str]) -> str:
    tag = f"v{release}"
    commit = [*steps, f'git commit -am "Release {release}", by a pull request whose checks pass'] if steps else []
    todo = [
        *commit,
        f'git tag --sign {tag} -m "certcast {release}"',
        f"git push origin {tag}: the workflow `release` tests, builds, attests and publishes",
    ]
    return "\n".join(["\nTo release it (docs/releasing.md):", *(f"  {n}. {step}" for n, step in enumerate(todo, 1))])
