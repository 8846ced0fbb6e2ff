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


@pytest.fixture
def skipping(tmp_path: Path) -> Path:
    """A folder with tests that skip themselves and others, and with a module that skips all that is in it."""
    (tmp_path / "test_it.py").write_text(SKIPPING)
    (tmp_path / "test_other.py").write_text("import pytest\npytest.importorskip('no_such_module')\ndef test(): ...\n")
    return tmp_path


def test_skips_are_only_reported_without_the_option(skipping: Path) -> None:
    code, output = run_pytest(skipping)
    assert code == 0, output
    assert "1 passed, 3 skipped, 1 xfailed" in output
    assert "no_such_module" in output


@pytest.mark.parametrize("processes", ["0", "2"])
def test_every_skip_fails_with_its_reason_under_the_option(skipping: Path, processes: str) -> None:
    code, output = run_pytest(skipping, "--require-all", "--continue-on-collection-errors", "-n", processes)
    assert code == 1, output
    assert "1 failed, 1 passed, 1 xfailed, 2 errors" in output
    assert "needs no-such-program: apt-get install no-such-program" in output
    assert "no server here" in output
    assert "no_such_module" in output


def test_a_whole_module_that_skips_itself_is_an_error_of_its_own(skipping: Path) -> None:
    code, output = run_pytest(skipping, "--require-all")
    assert code == 2, output
    assert "no_such_module" in output
