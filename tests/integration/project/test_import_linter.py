"""The import rules bite: in a copy of the tree, each forbidden import is found."""

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
        ("shared/binding.py", "import azure.core", "words that all share"),
        ("shared/hostnames.py", "import aiohttp", "words that all share"),
        ("shared/binding.py", "import shared.azure.blobs", "words that all share"),
        ("shared/newcomer.py", "import shared.state.rows", "words that all share"),
        ("shared/function/results.py", "import azure.core", "reach the cloud through ports"),
        ("shared/function/newcomer.py", "import shared.azure.blobs", "reach the cloud through ports"),
        ("shared/validation/leaf.py", "import requests", "reach the cloud through ports"),
        ("shared/azure/blobs.py", "import shared.function.results", "stand on floors"),
        ("shared/pkcs12/file.py", "import shared.validation.pfx", "stand on floors"),
        ("shared/sources/folder.py", "import shared.validation.pfx", "Edges judge nothing"),
        ("shared/state/rows.py", "import shared.pkcs12.asn1", "Edges judge nothing"),
        ("shared/azure/blobs.py", "import instance_agent.installing.probe", "none the other way"),
        ("instance_agent/installing/probe.py", "import local_azure.azurite", "none the other way"),
        ("local_azure/azurite.py", "import operator_cli", "none the other way"),
        ("instance_agent/installing/probe.py", "import shared.function.results", "The agent runs elevated"),
        ("instance_agent/targets/base.py", "import shared.validation.pfx", "The agent runs elevated"),
        ("operator_cli/upload.py", "import shared.function.results", "The command line imports no use case"),
        ("instance_agent/targets/base.py", "import instance_agent.installing.probe", "Targets know neither Azure"),
        ("instance_agent/targets/nginx/target.py", "import shared.azure.blobs", "Targets know neither Azure"),
        (
            "instance_agent/targets/nginx/target.py",
            "import instance_agent.targets.caddy.target",
            "No target knows another",
        ),
        ("shared/codec.py", "import shared.messages", "no import circle"),
        ("shared/state/rows.py", "import shared.state.records", "no import circle"),
    ],
)
def test_a_forbidden_import_breaks_its_rule(copy: Path, importer: str, line: str, rule: str) -> None:
    with (copy / importer).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    code, output = lint(copy)
    assert code == 1, output
    assert any(rule in told for told in output.splitlines() if "BROKEN" in told), output
