"""The import rules bite: in a copy of the tree, each forbidden import is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.deployment import ROOT


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in ("shared", "instance_agent", "operator_cli", "local_azure"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> tuple[int, str]:
    program = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [program, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_the_tree_as_it_is_keeps_every_rule(copy: Path) -> None:
    code, output = lint(copy)
    assert code == 0, output


@pytest.mark.parametrize(
    ("importer", "line", "rule"),
    [
        ("shared/binding.py", "import azure.core", "only edges import an Azure SDK"),
        ("shared/hostnames.py", "import aiohttp", "only edges import an Azure SDK"),
        ("shared/function/results.py", "import azure.core", "only edges import an Azure SDK"),
        ("shared/binding.py", "import shared.azure.blobs", "the core imports neither"),
        ("shared/binding.py", "import shared.function.results", "the core imports neither"),
        ("shared/azure/blobs.py", "import shared.function.results", "edges may import the core"),
        ("shared/function/results.py", "import shared.azure.blobs", "Use cases reach the cloud through ports"),
        ("shared/azure/blobs.py", "import instance_agent.installing.probe", "shared/ knows none of its users"),
        ("instance_agent/installing/probe.py", "import shared.function.results", "The agent imports no use case"),
        ("instance_agent/installing/probe.py", "import local_azure.azurite", "The agent knows neither the command"),
        ("local_azure/azurite.py", "import operator_cli", "the local cloud does not know the command"),
        ("instance_agent/targets/base.py", "import instance_agent.installing.probe", "Targets know neither Azure"),
        ("instance_agent/targets/base.py", "import azure.core", "Targets know neither Azure"),
        ("shared/newcomer.py", "import json", "the core imports neither"),
    ],
)
def test_a_forbidden_import_breaks_its_rule(copy: Path, importer: str, line: str, rule: str) -> None:
    with (copy / importer).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    code, output = lint(copy)
    assert code == 1, output
    assert any(rule in told for told in output.splitlines() if "BROKEN" in told), output
