"""The bills of materials: what pip installs with the Functions app and with the agent (CycloneDX 1.6, JSON)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devtools.packages.building import built_at, run, version

if TYPE_CHECKING:
    from pathlib import Path

    from devtools.environment import Environment


def write(here: Environment, into: Path) -> list[Path]:
    """Write a document for each of what is shipped, from its lock file, and answer their paths.

    Raises:
        SetupError: One cannot be made, or breaks the schema.
    """
    program = [str(here.python), "-m", "devtools.packages.cyclonedx_documents"]
    command = [*program, str(into), version(here), str(built_at(here))]
    return [into / name for name in run(here, command, why="it writes the bills of materials").splitlines()]
