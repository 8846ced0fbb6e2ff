"""`--require-all`: on a machine meant to run everything, a test that could not run must not look like a pass."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.deployment import ROOT

SKIPPING = """
import pytest
from tests.rigs.programs import needs

@needs("no-such-program")
def test_marked(): ...

def test_inside():
    pytest.skip("no server here")

@pytest.mark.xfail(reason="known")
def test_expected_failure():
    raise ValueError

def test_passing(): ...
"""


def run_pytest(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-rA"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "-p", "no:schemathesis", "-c", os.devnull, "--rootdir", folder, *arguments, folder],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_skips_are_only_reported_without_the_option(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SKIPPING)
    code, output = run_pytest(tmp_path)
    assert code == 0, output
    assert "1 passed, 2 skipped, 1 xfailed" in output


@pytest.mark.parametrize("processes", ["0", "2"])
def test_every_skip_fails_with_its_reason_under_the_option(tmp_path: Path, processes: str) -> None:
    (tmp_path / "test_it.py").write_text(SKIPPING)
    code, output = run_pytest(tmp_path, "--require-all", "-n", processes)
    assert code == 1, output
    assert "1 failed, 1 passed, 1 xfailed, 1 error" in output
    assert "needs no-such-program: apt-get install no-such-program" in output
    assert "no server here" in output


@pytest.mark.parametrize(("options", "expected"), [((), 0), (("--require-all",), 2), (("--require-all", "-n", "2"), 1)])
def test_a_whole_module_that_skips_itself_fails_too(tmp_path: Path, options: tuple[str, ...], expected: int) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\npytest.importorskip('no_such_module')\ndef test(): ...\n")
    (tmp_path / "test_other.py").write_text("def test(): ...\n")
    code, output = run_pytest(tmp_path, *options)
    assert code == expected, output
    assert "no_such_module" in output
