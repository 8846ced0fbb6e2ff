"""`dev.py build`: what is installed on instances, into dist/, with its checksums."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from devtools.packages import agent_requirements, checksums, deb, wheel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devtools.environment import Environment


def main(here: Environment, arguments: Sequence[str]) -> int:
    """Build all of it and say what there is.

    Raises:
        SetupError: Some of it cannot be built.
    """
    parser = argparse.ArgumentParser(prog="dev.py build", description="build what is installed on instances into dist/")
    parser.add_argument(
        "--python", default=deb.DEBIAN_12.python, help="the package's Python, 3.11 (Debian 12) by default"
    )
    parser.add_argument("--architecture", default=deb.DEBIAN_12.architecture, help="amd64 (the default) or arm64")
    chosen = parser.parse_args(arguments)
    files = build(here, here.root / "dist", deb.Edition(python=chosen.python, architecture=chosen.architecture))
    print(*files, sep="\n")
    return 0


def build(here: Environment, into: Path, edition: deb.Edition = deb.DEBIAN_12) -> list[Path]:
    """Build the files into a folder, and write their SHA-256 beside them.

    Returns:
        The files, the one with the checksums last.

    Raises:
        SetupError: Some of it cannot be built.
    """
    files = build_files(here, into, edition)
    return [*files, checksums.write(into, files)]


def build_files(here: Environment, into: Path, edition: deb.Edition = deb.DEBIAN_12) -> list[Path]:
    """Build wheel, requirements file and package, and put install.sh beside them; the wheel comes first.

    Raises:
        SetupError: Some of it cannot be built.
    """
    built = wheel.build(here, into)
    requirements = agent_requirements.write(here, into)
    package = deb.build(here, into, built, requirements, edition=edition)
    script = into / "install.sh"
    shutil.copyfile(here.root / "infra" / "agent" / script.name, script)
    return [built, requirements, package, script]
