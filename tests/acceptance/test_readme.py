"""The first upload as README.md has it: its blocks run in a shell as they are written, only the addresses are others.

The README's local cloud is on the standard ports, a test's on free ones. az is too large to be installed for a test.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rigs.command_line import clean_environment
from tests.rigs.pages import README, blocks, section
from tests.rigs.programs import needs

FIRST_UPLOAD = section(README, "## Your first upload")
START, UPLOAD, AZ, REMOVE = blocks(FIRST_UPLOAD, "sh")
[PROGRAM] = blocks(FIRST_UPLOAD, "python")
[STATUS] = blocks(FIRST_UPLOAD, "")
STARTED_S = 90

pytestmark = [needs("openssl"), pytest.mark.skipif(os.name == "nt", reason="the blocks are for a POSIX shell")]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder in which `.venv` is this environment."""
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    return tmp_path


def environment(**settings: str) -> dict[str, str]:
    """One in which the programs are not found before the README's `export` says where they are."""
    inherited = clean_environment(**settings)
    own = str(Path(sys.executable).parent)
    inherited["PATH"] = os.pathsep.join(folder for folder in inherited["PATH"].split(os.pathsep) if folder != own)
    return inherited


@contextmanager
def cloud_of_the_readme(clone: Path) -> Iterator[str]:
    """What `certcast up` prints when it is up; Ctrl-C, which a terminal sends to all of its processes, ends it."""
    printed = clone / "up.txt"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-ec", f"{START.rstrip()} --free-ports"],
            cwd=clone,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + STARTED_S
        while "logs are in" not in printed.read_text():
            assert process.poll() is None, printed.read_text()
            assert time.monotonic() < until, printed.read_text()
            time.sleep(0.1)
        yield printed.read_text()
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        assert "Traceback" not in printed.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def as_shape(table: str) -> list[str]:
    """The lines of a table without widths and numbers."""
    words = (re.sub(r"\d+", "N", " ".join(line.split())) for line in table.splitlines())
    return [re.sub("─+", "─", line) for line in words if line]


def test_the_first_upload_works_as_it_is_written(clone: Path) -> None:
    with cloud_of_the_readme(clone) as printed:
        [connection_string] = re.findall(r"^  (DefaultEndpointsProtocol=\S+)$", printed, re.MULTILINE)
        [address] = re.findall(r"^  agent-0 +https://(\S+)$", printed, re.MULTILINE)

        def run(script: str) -> str:
            """Run one block, or several, as one shell does."""
            ran = subprocess.run(
                ["sh", "-ec", script.replace("127.0.0.1:8443", address)],
                cwd=clone,
                env=environment(CERTCAST_STORAGE=connection_string),
                capture_output=True,
                text=True,
                check=False,
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
            return ran.stdout

        said = run(UPLOAD)
        assert said.startswith("accepted: www.example.com:443\n")
        assert re.search(r"^live: shop\.pfx on 3/3 in [\d.]+ s$", said, re.MULTILINE)
        assert re.search(r"^subject=CN ?= ?www\.example\.com$", said, re.MULTILINE)
        shown = as_shape(STATUS)
        assert [line for line in as_shape(said) if line in shown] == shown

        assert PROGRAM.count("UseDevelopmentStorage=true") == 1
        (clone / "upload.py").write_text(PROGRAM.replace("UseDevelopmentStorage=true", connection_string))
        export = UPLOAD.splitlines()[0]
        assert run(f"{export}\npython upload.py\n").strip() == "live 3/3"

        assert "removed, and served nowhere any more: shop.pfx" in run(f"{export}\n{REMOVE}")


def test_only_az_is_shown_and_not_run() -> None:
    assert START.splitlines()[-1] == "certcast up"
    assert AZ.startswith("az storage blob upload ")
    assert "127.0.0.1:8443" in UPLOAD
