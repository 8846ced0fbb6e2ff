"""The pipelines that the how-tos offer are what GitHub and Azure DevOps take, and what their checkers let pass."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rigs.deployment import ROOT
from tests.rigs.pages import text_of

EXAMPLES = Path("docs/how-to/examples")
WORKFLOW, PIPELINE = EXAMPLES / "github-actions.yml", EXAMPLES / "azure-pipelines.yml"
PROGRAMS = Path(sys.executable).parent
_MACRO = re.compile(r"\$\((?:account|vault|Agent\.TempDirectory)\)")


def run(program: str, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAMS / program, *arguments], cwd=ROOT, input=stdin, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("schema", "file", "broken"),
    [
        ("vendor.github-workflows", WORKFLOW, ("runs-on:", "runs-in:")),
        ("vendor.azure-pipelines", PIPELINE, ("- job: upload", "- jub: upload")),
    ],
)
def test_a_pipeline_fits_its_schema_which_would_see_a_mistake(
    tmp_path: Path, schema: str, file: Path, broken: tuple[str, str]
) -> None:
    wrong = tmp_path / "wrong.yml"
    assert text_of(file).count(broken[0]) == 1
    wrong.write_text(text_of(file).replace(*broken), encoding="utf-8")
    # The schema of Azure's pipelines has expressions of JavaScript's without its flag "u".
    options = ("--builtin-schema", schema, "--regex-variant", "nonunicode")
    fits, fails = (run("check-jsonschema", *options, each) for each in (file, wrong))
    assert fits.returncode == 0, fits.stdout
    assert fails.returncode == 1, fails.stdout + fails.stderr


def test_zizmor_finds_nothing_in_the_workflow_and_would_find_a_tag_in_place_of_a_commit(tmp_path: Path) -> None:
    options = ("--offline", "--no-progress", "--persona=pedantic")
    found = run("zizmor", *options, WORKFLOW)
    assert found.returncode == 0, found.stdout + found.stderr
    loose = tmp_path / "workflow.yml"
    loose.write_text(re.sub(r"@[0-9a-f]{40} # (v\d)\S*", r"@\1", text_of(WORKFLOW)), encoding="utf-8")
    assert "unpinned-uses" in run("zizmor", *options, loose).stdout


def scripts() -> Iterator[tuple[str, str]]:
    """The shell steps, with what GitHub and Azure DevOps put before a step is run put in."""
    steps: list[dict[str, Any]] = yaml.safe_load(text_of(WORKFLOW))["jobs"]["upload"]["steps"]
    yield from ((step["name"], step["run"]) for step in steps if "run" in step)
    [job] = yaml.safe_load(text_of(PIPELINE))["jobs"]
    for step in job["steps"]:
        if "inputs" in step:
            yield (
                step["displayName"],
                re.sub(r"\$\((account|vault|Agent\.TempDirectory)\)", "value", step["inputs"]["inlineScript"]),
            )


@pytest.mark.parametrize(("name", "script"), list(scripts()), ids=lambda it: it if "\n" not in it else "")
def test_shellcheck_finds_nothing_in_a_step(name: str, script: str) -> None:
    found = run("shellcheck", "--shell=bash", "-", stdin=script)
    assert found.returncode == 0, f"{name}: {found.stdout}"
