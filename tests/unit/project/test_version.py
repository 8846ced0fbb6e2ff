"""One place has the version, and Function, agent and command say it."""

import json
import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.version import Version

from instance_agent.command import main as agent
from operator_cli.__main__ import main as command
from shared import VERSION
from tests.rigs.deployment import ROOT, deployed_files, repository_files

RELEASE = ".".join(map(str, Version(VERSION).release))
HISTORY = ("CHANGELOG.md", "docs/", "tests/")
"""What tells of releases, or makes up rows of them."""


def test_it_is_that_of_a_release_or_of_what_leads_to_one() -> None:
    assert re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(\.dev0)?", VERSION)
    assert str(Version(VERSION)) == VERSION


def test_no_other_file_says_it() -> None:
    said = re.compile(rf"(?<![\w.]){re.escape(RELEASE)}(?![\w.]*\d)")
    here = Path("shared/__init__.py")
    others = [
        path
        for path in repository_files()
        if path != here and path.suffix != ".lock" and not path.as_posix().startswith(HISTORY)
    ]
    texts = {path: (ROOT / path).read_text("utf-8", errors="ignore") for path in others}
    for locked in (Path("package-lock.json"), Path("requirements.txt")):  # other packages' versions
        del texts[locked]
    assert not [path for path, text in texts.items() if said.search(text)]


def test_packages_take_it_from_there() -> None:
    assert metadata.version("certcast") == VERSION
    assert "version" not in json.loads((ROOT / "package.json").read_text("utf-8"))


def test_the_function_is_deployed_with_it() -> None:
    assert Path("shared/__init__.py") in deployed_files()


@pytest.mark.parametrize("program", [agent, command])
def test_a_program_says_it(
    program: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(program)
    monkeypatch.setattr("logging.root.handlers", [])
    try:
        code = program(["--version"])
    except SystemExit as done:  # argparse's way
        code = done.code
    assert (code, capsys.readouterr().out) == (0, f"certcast {VERSION}\n")
