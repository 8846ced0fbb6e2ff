"""`dev.py bench targets` works with every server that is here: all it tells is measured, each handshake proved."""

import json
import shutil
import subprocess
import sys
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
def test_every_handshake_is_proved_and_every_cost_is_told(target: str) -> None:
    ended = bench("--quick", "--json", "--sizes", "2,5", "--targets", target)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    of_it = [each for each in told["targets"] if each["target"] == target]
    assert [each["hosts"] for each in of_it] == [2, 5]
    beside = [each["target"] for each in told["targets"] if each["target"] != target]
    assert beside == (["nginx static"] if target.startswith("nginx") else [])
    for each in told["targets"]:
        assert each["handshakes_proved"] > each["hosts"]
        assert each["handshakes_not_proved"] == 0
        assert each["cpu_us"] > 0
        assert each["first_cpu_us"] > 0
        assert each["per_second"] > 0
    for each in of_it:
        assert each["additions"] > 0
        assert 0 < each["apply_ms"] < each["add_ms"]
        assert each["remove_ms"] > 0
        assert each["agent_ms"] > 0
        assert each["fill_s"] > 0
        assert (each["to_static"] is not None) == target.startswith("nginx")
    assert told["limits"] == []
    assert told["machine"]["processors"] > 0


def test_the_tables_name_every_target_and_say_that_quick_judges_nothing() -> None:
    ended = bench("--quick", "--sizes", "1,2", "--targets", "embedded")
    assert ended.returncode == 0, ended.stderr
    assert "embedded" in ended.stdout
    assert "quick: too little was measured" in ended.stdout
    assert "0 another" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_a_target_that_there_is_not_is_a_usage_error() -> None:
    ended = bench("--targets", "gopher")
    assert ended.returncode == 2
    assert "no such target: gopher" in ended.stderr
