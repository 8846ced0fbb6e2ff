"""The wheel: the agent, the command and the local cloud, for pip."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devtools.packages.building import EPOCH, built_at, run

if TYPE_CHECKING:
    from devtools.environment import Environment


def build(here: Environment, into: Path) -> Path:
    """Build the wheel into a folder, which is made where there is none, and answer its path.

    Built again from the same commit it has the same bytes: hatchling sorts what is in it and takes its time from
    SOURCE_DATE_EPOCH (hatch.pypa.io, "Build configuration", reproducible builds).

    Raises:
        SetupError: It cannot be built.
    """
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into) as name:
        hatchling = [str(here.python), "-m", "hatchling", "build", "--target", "wheel", "--directory", name]
        run(here, hatchling, why="it builds the wheel", **{EPOCH: str(built_at(here))})
        (built,) = Path(name).glob("*.whl")
        return built.replace(into / built.name)
