"""The lock files: what is resolved into which, and whether they are still what the resolvers would write."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devtools.cures import failure
from devtools.environment import npm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devtools.environment import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class _PythonLock:
    output: str
    source: str
    python: str
    options: tuple[str, ...]


# In this order: each later one may only choose what an earlier one pinned.
_PYTHON_LOCKS = (
    _PythonLock(
        output="requirements-dev.lock", source="pyproject.toml", python="3.11", options=("--all-extras", "--universal")
    ),
    _PythonLock(
        output="requirements.txt",
        source="pyproject.toml",
        python="3.11",
        options=("--extra", "function", "--extra", "traces", "--universal", "--constraints", "requirements-dev.lock"),
    ),
    # The same for the cloud's Python alone, without markers: azd's hook has pip fetch it from any other Python.
    _PythonLock(
        output="infra/hooks/function.lock",
        source="pyproject.toml",
        python="3.13",
        options=(
            *("--extra", "function", "--extra", "traces", "--constraints", "requirements-dev.lock"),
            *("--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:", "--no-annotate"),
        ),
    ),
    # What an agent needs: on Linux, and on Windows, where install.ps1 puts it beside the wheel.
    _PythonLock(
        output="infra/agent/requirements.lock",
        source="pyproject.toml",
        python="3.11",
        options=(
            "--extra",
            "agent",
            "--extra",
            "iis",
            "--extra",
            "traces",
            "--universal",
            "--constraints",
            "requirements-dev.lock",
        ),
    ),
    # What the `certcast` command needs where people work, and what installs it from a clone.
    _PythonLock(
        output="requirements-cli.lock",
        source="pyproject.toml",
        python="3.11",
        options=("--extra", "cli", "--extra", "build", "--universal", "--constraints", "requirements-dev.lock"),
    ),
    # Microsoft's runtime, which the cloud puts beside requirements.txt and the acceptance tests must add themselves.
    _PythonLock(
        output="tests/runtime.lock",
        source="tests/runtime.in",
        python="3.13",
        options=("--universal", "--constraints", "requirements.txt"),
    ),
    # What looks over the Bicep files, apart because it pins versions that the project does not want.
    _PythonLock(output="tests/checkov.lock", source="tests/checkov.in", python="3.11", options=("--universal",)),
)
_SOURCES = ("pyproject.toml", "tests/runtime.in", "tests/checkov.in", "package.json")
LOCKS = (*(lock.output for lock in _PYTHON_LOCKS), "package-lock.json")


def resolve(here: Environment, *, upgrade: bool = False) -> dict[str, bytes]:
    """Resolve every lock file in a scratch folder, keeping the versions already locked unless told to upgrade.

    Returns:
        Each lock file's name and what it should contain.

    Raises:
        SetupError: The resolver failed; the text names the cure.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for file in (*_SOURCES, *LOCKS):
            (scratch / file).parent.mkdir(parents=True, exist_ok=True)
            if (here.root / file).exists():
                shutil.copyfile(here.root / file, scratch / file)
        for lock in _PYTHON_LOCKS:
            command: list[str | Path] = [
                here.program("uv"),
                "pip",
                "compile",
                lock.source,
                "--output-file",
                lock.output,
            ]
            command += [*lock.options, "--python", here.python, "--python-version", lock.python, "--generate-hashes"]
            command += ["--no-emit-index-url", "--custom-compile-command", "python dev.py lock", "--quiet"]
            _run(here, scratch, [*command, "--upgrade"] if upgrade else command)
        options = ["--package-lock-only", "--omit-lockfile-registry-resolved", "--ignore-scripts"]
        _run(here, scratch, [*npm(here), "install", *options, "--no-audit", "--no-fund"])
        return {file: (scratch / file).read_bytes() for file in LOCKS}


def outdated(here: Environment, resolved: dict[str, bytes]) -> list[str]:
    """Names of the lock files that differ from what they should contain."""
    return [
        file
        for file, content in resolved.items()
        if not (here.root / file).exists() or (here.root / file).read_bytes() != content
    ]


def _run(here: Environment, folder: Path, command: Sequence[str | Path]) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=here.variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        here.log.write_text(done.stdout, encoding="utf-8")
        raise failure("resolving the dependencies", done.stdout, here.log)
