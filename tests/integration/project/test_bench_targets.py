"""`dev.py bench targets` works with every server that is here: all it tells is measured, each handshake proved."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local_azure.servers.nginx import find_lua_modules
from tests.rigs.deployment import ROOT

PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
NEEDED = {
    "haproxy": shutil.which("haproxy", path=PLACES) is not None,
    "nginx dynamic": shutil.which("nginx", path=PLACES) is not None and bool(find_lua_modules()),
    "nginx blocks": shutil.which("nginx", path=PLACES) is not None,
    "caddy": shutil.which("caddy") is not None,
    "embedded": True,
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "targets.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)


@pytest.mark.parametrize(
    "target",
    [pytest.param(name, marks=pytest.mark.skipif(not here, reason=f"needs {name}")) for name, here in NEEDED.items()],
)
def test_every_handshake_is_proved_and_every_cost_is_told(target: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    ended = bench("--quick", "--json", str(file), "--sizes", "2,5", "--targets", target)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(file.read_text())["targets"]
    adding, shaking = found["tables"]  # no limits: too little was measured to judge them by
    assert [row[0] for row in adding["rows"]] == [f"{target}, 2", f"{target}, 5"]
    for _, served_ms, apply_ms, removing_ms, agent_ms, fill_s, additions in adding["rows"]:
        assert 0 < apply_ms < served_ms
        assert min(removing_ms, agent_ms, fill_s, additions) > 0
    with_nginx = target.startswith("nginx")
    static = ["nginx static, 1"] if with_nginx else []
    assert [row[0] for row in shaking["rows"]] == [*static, f"{target}, 2", f"{target}, 5"]
    for name, each_us, first_us, to_static, a_second, *_ in shaking["rows"]:
        assert min(each_us, first_us, a_second) > 0
        assert (to_static == "-") == (name in static or not with_nginx)
    assert re.search(r"[1-9]\d* handshakes showed the certificate they should, 0 another", shaking["note"])
    assert {figure["name"] for figure in found["figures"]} == {
        f"{target}, 5 hosts: one more is served after",
        f"{target}, 5 hosts: processor time of a handshake",
    }


def test_the_tables_name_every_target_and_say_that_quick_judges_nothing() -> None:
    ended = bench("--quick", "--sizes", "1,2", "--targets", "embedded")
    assert ended.returncode == 0, ended.stderr
    assert "embedded" in ended.stdout
    assert "Quick: too little was measured" in ended.stdout
    assert "0 another" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_a_target_that_there_is_not_is_a_usage_error() -> None:
    ended = bench("--targets", "gopher")
    assert ended.returncode == 2
    assert "no such target: gopher" in ended.stderr
