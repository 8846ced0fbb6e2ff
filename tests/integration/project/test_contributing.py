"""The worked example of CONTRIBUTING.md, put in its place in a copy of the repository: it works and keeps the rules."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.deployment import ROOT
from tests.rigs.pages import CONTRIBUTING, blocks, section

EXAMPLE = section(CONTRIBUTING, "## A worked example: a new source")
PLACES = "shared/sources tests/unit/sources"
PACKAGES = ("shared", "instance_agent", "operator_cli", "local_azure", "tests")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the example's files in it."""
    copied = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copied / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copied)
    for path, content in re.findall(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```$", EXAMPLE, re.DOTALL | re.MULTILINE):
        assert not (copied / path).exists()
        (copied / path).write_text(content, "utf-8")
    return copied


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line as it is written, with this environment's `python`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_its_command_passes_its_test(copy: Path) -> None:
    [command] = blocks(EXAMPLE, "sh")
    ran = run(command, copy)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^1 passed", ran.stdout, re.MULTILINE), ran.stdout


@pytest.mark.parametrize(
    "check",
    [f"ruff check {PLACES}", f"ruff format --check {PLACES}", "lint-imports"],
    ids=["style", "format", "imports"],
)
def test_it_keeps_the_rules_of_the_house(copy: Path, check: str) -> None:
    ran = run(check, copy)
    assert ran.returncode == 0, ran.stdout + ran.stderr
