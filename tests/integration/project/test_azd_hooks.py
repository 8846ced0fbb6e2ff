"""The hooks of azure.yaml, run as azd runs them, with pip in earnest and a program in the Azure CLI's place."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.rigs.azure_cli import parse
from tests.rigs.bicep import INFRA, read
from tests.rigs.deployment import ROOT
from tests.unit.project.test_bicep_names import PACKAGE, SUBSCRIBE

AZURE_YAML = yaml.safe_load((ROOT / "azure.yaml").read_text("utf-8"))
OUTPUTS = {name: f"the {name}" for name in read(INFRA / "main.bicep").outputs} | {"CERTCAST_ALERTS": "True"}
STAND_IN = """#!/bin/sh
# Says what is in the first file of a folder, and takes it away; a name that ends in .no is a refusal.
cd "$(dirname "$0")"
for word in "$@"; do printf '%s\\0' "$word"; done >> calls
printf '\\n' >> calls
for answer in answers/*; do
    [ -e "$answer" ] || exit 0
    cat "$answer"; rm "$answer"
    case $answer in *.no) exit 1 ;; esac
    exit 0
done
"""
NOT_THERE_YET = "(Endpoint validation) Destination endpoint not found. Resource details: resourceId: …/on_blob_event"
NO_SUCH_GROUP = "(ResourceGroupNotFound) Resource group 'shop' could not be found."


class AzureCli:
    """A program `az` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "answers").mkdir()
        (folder / "az").write_text(STAND_IN)
        (folder / "az").chmod(0o700)

    def answers(self, *refusals: str) -> None:
        """What the next calls are refused with; the one after them succeeds."""
        for at, text in enumerate(refusals):
            (self.folder / "answers" / f"{at}.no").write_text(text)

    @property
    def calls(self) -> list[list[str]]:
        record = self.folder / "calls"
        lines = record.read_text("utf-8").splitlines() if record.exists() else []
        return [line.removesuffix("\0").split("\0") for line in lines]

    def environment(self, **others: str) -> dict[str, str]:
        """As azd has it for a hook: that of its caller, and what it knows of the deployment."""
        return {"PATH": f"{self.folder}:{os.environ['PATH']}", "AZURE_ENV_NAME": "shop", **OUTPUTS, **others}


@pytest.fixture
def az(tmp_path: Path) -> AzureCli:
    return AzureCli(tmp_path)


def postdeploy(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    run = AZURE_YAML["hooks"]["postdeploy"]["posix"]["run"]
    return subprocess.run(
        ["sh", "-c", run], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


class TestSubscribing:
    def test_asks_for_the_template_with_what_the_deployment_answered(self, az: AzureCli) -> None:
        ran = postdeploy(az.environment(AZURE_SUBSCRIPTION_ID="0-1"))
        assert ran.returncode == 0, ran.stderr
        [words] = az.calls
        at = words.index("--subscription")  # every command has it
        assert words[at + 1] == "0-1"
        given = parse(words[:at] + words[at + 2 :])
        assert given["--resource-group"] == OUTPUTS["AZURE_RESOURCE_GROUP"]
        assert Path(given["--template-file"]) == INFRA / "event-subscription.bicep"
        parameters = dict(pair.split("=", 1) for pair in given["--parameters"])
        assert parameters["functionAppName"] == OUTPUTS["CERTCAST_FUNCTION_APP"]
        assert parameters["alerts"] == "true"

    def test_asks_again_while_a_new_deployment_is_not_there_for_everybody(
        self, az: AzureCli, capsys: pytest.CaptureFixture[str]
    ) -> None:
        az.answers(NOT_THERE_YET, "(AuthorizationFailed) The client does not have authorization")
        SUBSCRIBE.subscribe(SUBSCRIBE.command(az.environment()), (0, 0, 0))
        assert len(az.calls) == 3
        assert "refused for now, again in 0 s: (Endpoint validation)" in capsys.readouterr().out

    def test_gives_up_with_the_last_word_and_what_holds_meanwhile(self, az: AzureCli) -> None:
        az.answers(*[NOT_THERE_YET] * 3)
        with pytest.raises(SUBSCRIBE.SubscribingError, match=r"after half an hour: \(Endpoint validation\)"):
            SUBSCRIBE.subscribe(SUBSCRIBE.command(az.environment()), (0, 0))
        assert sum(SUBSCRIBE.WAITS_S) == pytest.approx(30 * 60, rel=0.05)

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            (NO_SUCH_GROUP, "Azure refused: (ResourceGroupNotFound)"),
            ("ERROR: Please run 'az login' to setup account.", "the Azure CLI is not signed in, which azd does not do"),
        ],
    )
    def test_does_not_ask_again_where_time_changes_nothing(self, az: AzureCli, said: str, told: str) -> None:
        az.answers(said)
        ran = postdeploy(az.environment())
        assert ran.returncode == 1
        assert told in ran.stderr
        assert "azd hooks run postdeploy" in ran.stderr
        assert "Traceback" not in ran.stderr
        assert len(az.calls) == 1

    def test_names_what_azd_did_not_say(self, az: AzureCli) -> None:
        environment = az.environment()
        del environment["CERTCAST_FUNCTION_APP"]
        ran = postdeploy(environment)
        assert ran.returncode == 1
        assert "CERTCAST_FUNCTION_APP is not set: run `azd provision` first" in ran.stderr
        assert az.calls == []

    def test_says_that_there_is_no_azure_cli(self, tmp_path: Path) -> None:
        with pytest.raises(SUBSCRIBE.SubscribingError, match="the Azure CLI is not installed"):
            SUBSCRIBE.command({**OUTPUTS, "PATH": str(tmp_path)})


def excerpt(lock: Path, *names: str) -> str:
    """Some packages of a lock file."""
    found = [re.search(rf"^{name}==.*?(?=^\w|\Z)", lock.read_text("utf-8"), re.DOTALL | re.MULTILINE) for name in names]
    return "".join(match[0] for match in found if match)


class TestPacking:
    """With two of the packages: one for the cloud's Python alone, one that is compiled."""

    @pytest.fixture
    def lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        small = tmp_path / "function.lock"
        small.write_text(excerpt(PACKAGE.LOCK, "azure-functions", "markupsafe"), encoding="utf-8")
        monkeypatch.setattr(PACKAGE, "LOCK", small)
        return small

    @pytest.mark.usefixtures("lock")
    def test_puts_the_app_beside_its_packages_for_the_clouds_python_whatever_runs_it(self, tmp_path: Path) -> None:
        folder = tmp_path / "build" / "function"
        (folder / "shared").mkdir(parents=True)
        (folder / "shared" / "left_behind.py").touch()
        PACKAGE.pack(folder)
        assert {path.name for path in folder.iterdir()} == {*PACKAGE.APP, ".python_packages"}
        assert (folder / "function_app.py").read_bytes() == (ROOT / "function_app.py").read_bytes()
        assert not (folder / "shared" / "left_behind.py").exists()
        assert not [*folder.rglob("__pycache__")]
        packages = folder / ".python_packages" / "lib" / "site-packages"
        assert (packages / "azure" / "functions" / "__init__.py").exists()
        [compiled] = packages.rglob("*.so")
        version = PACKAGE.PYTHON.replace(".", "")
        assert compiled.name.endswith(f".cpython-{version}-x86_64-linux-gnu.so")
        assert {path.name for path in folder.parent.iterdir()} == {"function"}

    def test_leaves_what_was_there_where_a_package_is_not_the_locked_one(self, tmp_path: Path, lock: Path) -> None:
        lock.write_text(re.sub(r"sha256:[0-9a-f]{60}", f"sha256:{'0' * 60}", lock.read_text("utf-8")))
        folder = tmp_path / "function"
        folder.mkdir()
        (folder / "host.json").write_text(json.dumps({"version": "2.0"}))
        with pytest.raises(PACKAGE.PackagingError):
            PACKAGE.pack(folder)
        assert [path.name for path in folder.iterdir()] == ["host.json"]

    def test_fails_as_azd_runs_it_where_there_is_no_index(self) -> None:
        [service] = AZURE_YAML["services"].values()
        there = sorted(path.name for path in PACKAGE.FOLDER.parent.glob("*"))
        environment = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
        ran = subprocess.run(
            ["sh", "-c", service["hooks"]["prepackage"]["posix"]["run"]],
            cwd=ROOT / service["project"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 1
        assert "package: pip could not fetch the locked packages; its own words are above" in ran.stderr
        assert "No matching distribution" in ran.stderr
        assert "Traceback" not in ran.stderr
        assert sorted(path.name for path in PACKAGE.FOLDER.parent.glob("*")) == there

    def test_says_what_to_install_where_there_is_no_pip(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        python = tmp_path / "python3"
        python.write_text("#!/bin/sh\nexit 1\n")
        python.chmod(0o700)
        monkeypatch.setattr(PACKAGE.sys, "executable", str(python))
        with pytest.raises(PACKAGE.PackagingError, match="has no pip: on Debian and Ubuntu `sudo apt-get install"):
            PACKAGE.pack(tmp_path / "function")
