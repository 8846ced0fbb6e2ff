"""The fuzz targets run, and what they are there to find is found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.deployment import ROOT

PLANTED = """
import sys, time
from tests.fuzz.running import fuzz

def target(data):
    if data[:1] == b"!":
        {fault}

fuzz(target, lambda: [b"?", b"!"])
"""


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command, str(folder), f"-artifact_prefix={folder.parent}/found-"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


@pytest.mark.parametrize("target", ["opening", "decoding"])
def test_a_target_tries_many_inputs_and_finds_nothing(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    ran = run("-m", f"tests.fuzz.{target}", "-max_total_time=6", folder=corpus)
    assert ran.returncode == 0, ran.stderr[-3000:]
    [runs] = re.findall(r"Done (\d+) runs", ran.stderr)
    assert int(runs) > 300
    assert not list(tmp_path.glob("found-*"))


@pytest.mark.parametrize(
    "fault",
    [
        "raise ValueError",
        "time.sleep(20)",
        "x = bytearray(300 * 1024 * 1024)",
        "sys.setrecursionlimit(10**6); target(data)",
    ],
    ids=["raises", "takes long", "takes memory", "does not come back"],
)
def test_a_fault_is_found_and_its_input_written(fault: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    script = tmp_path / "planted.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + PLANTED.format(fault=fault))
    ran = run(str(script), "-max_total_time=60", folder=corpus)
    assert ran.returncode != 0
    [found] = tmp_path.glob("found-*")
    assert found.read_bytes()[:1] == b"!"
