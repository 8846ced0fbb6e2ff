"""What runs on GitHub, as far as that can be known here: valid files, few rights, fixed actions, paths that exist."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from devtools.packages.releasing import NOTES
from tests.rigs.deployment import ROOT, repository_files

FOLDER = ROOT / ".github"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (FOLDER / "workflows").glob("*.yml")}
SCRIPTS = Path(sys.executable).parent


def jobs(workflow: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = WORKFLOWS[workflow]["jobs"]
    return found


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step["run"] for step in job.get("steps", ()) if "run" in step)


def test_zizmor_finds_nothing() -> None:
    command = [str(SCRIPTS / "zizmor"), "--offline", "--pedantic", "--no-progress", "."]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "file"),
    [("dependabot", "dependabot.yml"), *(("github-workflows", f"workflows/{name}.yml") for name in WORKFLOWS)],
)
def test_a_file_keeps_its_schema(schema: str, file: str) -> None:
    # Read from its folder: the command of check-jsonschema takes two seconds to import.
    spec = find_spec("check_jsonschema")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "builtin_schemas" / "vendor" / f"{schema}.json").read_text("utf-8")
    document = yaml.safe_load((FOLDER / file).read_text("utf-8"))
    if True in document:  # YAML 1.1 reads `on` so
        document["on"] = document.pop(True)
    jsonschema.validate(document, json.loads(text))


def test_an_action_is_one_commit_everywhere_with_its_version_beside_it() -> None:
    commits: dict[str, set[str]] = {}
    for path in (FOLDER / "workflows").glob("*.yml"):
        for used in re.findall(r"uses: (.+)$", path.read_text("utf-8"), re.MULTILINE):
            if used.startswith("$/"):
                assert (ROOT / used.removeprefix("$/")).is_file()
                continue
            found = re.fullmatch(r"(actions/[\w-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", used)
            assert found, used
            commits.setdefault(found[1], set()).add(found[2])
    assert {action for action, which in commits.items() if len(which) > 1} == set()
    assert "actions/checkout" in commits


def test_only_what_publishes_may_write_and_it_runs_nothing_of_the_repository() -> None:
    assert all(workflow["permissions"] == {} for workflow in WORKFLOWS.values())
    rights = {(name, job): jobs(name)[job]["permissions"] for name in WORKFLOWS for job in jobs(name)}
    assert {where for where, of_job in rights.items() if "write" in of_job.values()} == {("release", "publish")}
    publish = jobs("release")["publish"]
    assert rights["release", "publish"] == dict.fromkeys(("contents", "id-token", "attestations"), "write")
    assert set(publish["needs"]) == {"test", "build"}
    assert not [step for step in publish["steps"] if "actions/checkout@" in step.get("uses", "")]
    assert not re.search(r"dev\.py|\.ci/|python", commands(publish))


def test_a_release_is_built_from_its_tag_after_all_tests() -> None:
    assert WORKFLOWS["release"][True] == {"push": {"tags": ["v*"]}}
    assert jobs("release")["test"]["uses"] == "$/.github/workflows/ci.yml"
    build = jobs("release")["build"]
    assert 'dev.py release --tag "$GITHUB_REF_NAME"' in commands(build)
    (kept,) = (step["with"]["path"].split() for step in build["steps"] if "upload-artifact" in step.get("uses", ""))
    assert kept == ["dist/", NOTES]
    assert f"--notes-file {NOTES} dist/*" in commands(jobs("release")["publish"])


def test_linux_runs_everything() -> None:
    assert commands(jobs("ci")["linux"]) == ".ci/run"


def test_windows_runs_every_quick_test_of_what_certcast_does_there() -> None:
    windows = r"instance_agent\.windows|instance_agent\.targets\.iis|tests\.fakes\.(?:win32|iis)"
    about = re.compile(rf"^(?:from|import) (?:{windows})\b", re.MULTILINE)
    listed = re.findall(r"\btests/[\w/.]+", commands(jobs("ci")["windows"]))
    assert listed == sorted(listed)
    assert all((ROOT / path).exists() for path in listed)
    modules = [
        path
        for path in repository_files()
        if path.name.startswith("test_")
        and path.parts[1:2] in {("unit",), ("security",)}
        and about.search((ROOT / path).read_text("utf-8"))
    ]
    assert Path("tests/security/test_windows.py") in modules
    assert [path for path in modules if not any(path.is_relative_to(of) for of in listed)] == []
