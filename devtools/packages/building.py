"""How a package is built: by a program of the environment, and with one time in it, whenever that runs."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from devtools.cures import SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devtools.environment import Environment

EPOCH = "SOURCE_DATE_EPOCH"
"""Seconds since 1970 that builds write in place of the time at which they run (reproducible-builds.org)."""


def built_at(here: Environment) -> int:
    """The time that is written into packages, in seconds since 1970: the environment's SOURCE_DATE_EPOCH, else HEAD's.

    Raises:
        SetupError: There is neither, or the variable is no number.
    """
    if (said := os.environ.get(EPOCH)) is not None:
        if not said.isdecimal():
            raise SetupError(f"{EPOCH} must be a number of seconds since 1970, not {said!r}")
        return int(said)
    return int(run(here, ["git", "log", "-1", "--format=%ct"], why="packages carry the time of their commit"))


def run(here: Environment, command: Sequence[str | Path], *, why: str, **variables: str) -> str:
    """Run a program at the repository's root and answer what it printed.

    Args:
        here: The checkout.
        command: The program and its arguments.
        why: What it is for, in words that go into the failure.
        **variables: What its environment has besides.

    Raises:
        SetupError: The program is not there, or it failed; the text has the end of what it said.
    """
    try:
        done = subprocess.run(
            command,
            cwd=here.root,
            env=here.variables() | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise SetupError(f"{command[0]} is not installed ({why}): install it and run the command again") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-2000:]
        raise SetupError(f"{' '.join(map(str, command[:3]))} failed ({why}): {said or f'exit code {done.returncode}'}")
    return done.stdout.decode()
