"""Every benchmark runs, in a form too small to say anything, and tells what it found in the common form."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devtools import benchmarks
from tests.rigs.deployment import ROOT
from tests.rigs.programs import require

# `targets` is tried out with each server that is here, in test_bench_targets.
NAMES = [benchmark.name for benchmark in benchmarks.all_of(ROOT / "bench") if benchmark.name != "targets"]
NEEDED = {"boot": "haproxy", "iis": "mcs"}


def bench(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_tells_what_it_measured(name: str, tmp_path: Path) -> None:
    if name in NEEDED:
        require(NEEDED[name])
    file = tmp_path / "results.json"
    file.write_text('{"other": {"kept": true}}')
    ended = bench(name, "--quick", "--json", str(file))
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(file.read_text())
    assert told["other"] == {"kept": True}
    found = told[name]
    assert found["command"].startswith(f"python3 dev.py bench {name} --quick")
    assert found["machine"]["processors"] > 0
    assert found["tables"]
    assert found["figures"]
    for table in found["tables"]:
        assert table["rows"]
        assert table["title"] in ended.stdout
        for row in table["rows"]:
            assert len(row) == len(table["columns"])
            assert isinstance(row[0], str)
            assert all(math.isfinite(cell) for cell in row if not isinstance(cell, str))
    for figure in found["figures"]:
        assert math.isfinite(figure["value"])
        assert (figure["ratio"] is None) == (not figure["ratio_to"])
    for plot in found["plots"]:
        assert all(plot["series"].values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json", "FOLDER"], "cannot be written (Is a directory); name another file"),
        (["--json", "TEXT"], "is not JSON; name another file, or delete it"),
        (["--json", "LIST"], "holds no results of benchmarks; name another file"),
        (["--quick", "--docs"], "--docs goes without it"),
        (["--iterations", "many"], "invalid int value: 'many'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence_before_anything_is_measured(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "TEXT").write_text("text")
    (tmp_path / "LIST").write_text("[]")
    places = {"FOLDER": tmp_path, "TEXT": tmp_path / "TEXT", "LIST": tmp_path / "LIST"}
    ended = bench("pkcs12_costs", *(str(places.get(argument, argument)) for argument in arguments))
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
