"""The words and the code say the same: links, settings, names, columns, limits and commands."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from devtools import commands as dev_commands
from instance_agent import selection
from instance_agent.config import DEFAULT_HEALTH_PORT, DEFAULT_POLL_MAX_MS
from instance_agent.targets.embedded.connections import MAX_CONNECTIONS
from operator_cli.__main__ import certcast
from shared.azure import account
from shared.binding import DesiredBinding
from shared.messages import InstallOutcome
from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord, UploadStatus
from shared.state.tags import LIVE_TAG, REASON_TAG, STATUS_TAG, VERSION_TAG
from shared.verdict import VerdictCode
from tests.rigs.deployment import ROOT, repository_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

PAGES = [path for path in repository_files() if path.suffix == ".md"]
README = Path("README.md")
ARCHITECTURE = Path("docs/architecture.md")
DEPLOY = Path("docs/deploy.md")


@cache
def text_of(page: Path) -> str:
    return (ROOT / page).read_text("utf-8")


@cache
def prose_of(page: Path) -> str:
    """Without fenced code and HTML comments, in which nothing is a link or a heading."""
    return re.sub(
        r"<!--.*?-->", "", re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE), flags=re.DOTALL
    )


def section(page: Path, heading: str) -> str:
    """From a heading to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", text_of(page), re.DOTALL | re.MULTILINE)
    assert found is not None, f"{page} has no heading '{heading}'"
    return found[1]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row that is no header."""
    for line in text.splitlines():
        if line.startswith("|") and not re.match(r"\|\s*-", line):
            yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def shell_lines(page: Path) -> Iterator[str]:
    """Every command line in its `sh` blocks, continued lines joined, comments cut off."""
    for block in re.findall(r"^```sh\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.split(r"(?:^|\s)#\s", line)[0].strip():
                yield command


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (ROOT / page).parent / file if file else ROOT / page
        linked = there.resolve().relative_to(ROOT)
        if not there.exists() or (anchor and anchor not in anchors(linked)):
            lost.append(target)
    assert not lost


def code_files() -> list[Path]:
    packages = {"shared", "instance_agent", "operator_cli", "local_azure"}
    return [
        path
        for path in repository_files()
        if path.suffix == ".py" and (path.parts[0] in packages or path.name == "function_app.py")
    ]


def settings_read() -> set[str]:
    """Texts in the code that are a setting's name and nothing else, or become one behind a prefix of their file."""
    found: set[str] = set()
    for path in code_files():
        texts = {
            node.value
            for node in ast.walk(ast.parse(text_of(path)))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        found |= {text for text in texts if re.fullmatch(r"CERTCAST_[A-Z_]*[A-Z]", text)}
        prefixes = {text for text in texts if re.fullmatch(r"CERTCAST_(?:[A-Z]+_)+", text)}
        found |= {
            prefix + text for prefix in prefixes for text in texts if re.fullmatch(r"(?!CERTCAST_)[A-Z_]+[A-Z]", text)
        }
    return found


def settings_documented() -> set[str]:
    """Names in the first column of any table."""
    return {
        name.partition("__")[0]
        for page in PAGES
        for cells in rows(prose_of(page))
        for name in re.findall(r"`(CERTCAST_\w+)`", cells[0])
    }


def test_every_setting_that_the_code_reads_is_documented() -> None:
    assert not settings_read() - settings_documented()


def test_every_documented_setting_is_read() -> None:
    assert not settings_documented() - settings_read()


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("CERTCAST_POLL_MAX_MS", DEFAULT_POLL_MAX_MS),
        ("CERTCAST_HEALTH_PORT", DEFAULT_HEALTH_PORT),
        ("CERTCAST_EMBEDDED_CONNECTIONS", MAX_CONNECTIONS),
    ],
)
def test_a_documented_default_is_the_real_one(name: str, default: int) -> None:
    tables = section(DEPLOY, "## 11. Settings") + text_of(Path("docs/targets/embedded.md"))
    [row] = [cells for cells in rows(tables) if f"`{name}`" in cells[0]]
    assert str(default) in {cell.strip("`") for cell in row}


@pytest.mark.parametrize(
    ("thing", "names"),
    [("container", account._CONTAINERS), ("queue", account._QUEUES), ("table", account._TABLES)],
)
def test_the_deployment_makes_every_container_queue_and_table(thing: str, names: tuple[str, ...]) -> None:
    [made] = re.findall(rf"for {thing} in ([\w -]+); do", section(DEPLOY, "## 4. The storage account"))
    assert made.split() == list(names)


@pytest.mark.parametrize("name", [*account._CONTAINERS, *account._QUEUES, *account._TABLES])
def test_every_container_queue_and_table_is_explained(name: str) -> None:
    assert f"`{name}`" in section(ARCHITECTURE, "## State")


@pytest.mark.parametrize("name", [STATUS_TAG, LIVE_TAG, REASON_TAG, VERSION_TAG])
def test_every_tag_is_explained(name: str) -> None:
    assert f"`{name}`" in section(ARCHITECTURE, "### Containers")


@pytest.mark.parametrize(
    ("table", "record"),
    [
        ("uploads", UploadRecord),
        ("bindings", DesiredBinding),
        ("instances", InstanceRecord),
        ("installations", InstallationRecord),
    ],
)
def test_every_column_is_explained(table: str, record: Any) -> None:
    parts = re.split(r"^\*\*`(\w+)`\*\*", section(ARCHITECTURE, "### Tables"), flags=re.MULTILINE)
    told = dict(zip(parts[1::2], parts[2::2], strict=True))[table]
    assert not {field.name for field in fields(record)} - set(re.findall(r"`(\w+)`", told))


@pytest.mark.parametrize("word", [*UploadStatus, *InstallOutcome])
def test_every_status_and_outcome_is_listed(word: str) -> None:
    assert f"`{word}`" in section(ARCHITECTURE, "### Tables")


def test_the_readme_helps_with_statuses_and_verdicts_that_exist() -> None:
    words = {
        word for cells in rows(section(README, "## When it is not served")) for word in re.findall(r"`(\w+)`", cells[0])
    }
    assert words >= {"unreadable_bundle", "waiting_for_metadata", "probe_mismatch"}
    assert not words - {*VerdictCode, *UploadStatus, *InstallOutcome}


def in_words(value: int | timedelta) -> set[str]:
    """The ways in which a limit may be written."""
    if isinstance(value, int):
        return {f"{value:,}", f"{value} s"} | ({f"{value // 2**20} MiB"} if value % 2**20 == 0 else set())
    seconds = int(value.total_seconds())
    units = (("s", 1), ("min", 60), ("day", 86_400), ("days", 86_400))
    return {f"{seconds // size} {unit}" for unit, size in units if seconds % size == 0}


def limits() -> list[tuple[str, str, str]]:
    """Module, constant and value as written, of every limit that names its constant."""
    found = []
    for cells in rows(section(ARCHITECTURE, "## Limits")):
        module = ""
        for words in re.findall(r"`([\w.]+)`", cells[-1]):
            named, _, constant = words.rpartition(".")
            module = named or module
            if constant.isupper():
                found.append((module, constant, cells[1]))
    return found


@pytest.mark.parametrize(("module", "constant", "told"), limits())
def test_a_limit_is_the_one_in_the_code(module: str, constant: str, told: str) -> None:
    [path] = [path for path in code_files() if path.stem == module and path.parts[0] in {"shared", "instance_agent"}]
    value = getattr(importlib.import_module(".".join(path.with_suffix("").parts)), constant)
    assert any(re.search(rf"(?<![\d,]){re.escape(words)}(?![\d,])", told) for words in in_words(value)), (value, told)


def test_the_limits_name_their_constants() -> None:
    assert len(limits()) > 15


def test_the_rings_are_those_that_the_import_rules_enforce() -> None:
    contracts = tomllib.loads(text_of(Path("pyproject.toml")))["tool"]["importlinter"]["contracts"]
    [enforced] = [contract["layers"] for contract in contracts if contract["id"] == "rings"]
    rings = {
        cells[0].partition(":")[0]: set(re.findall(r"`(\w+)`", cells[1]))
        for cells in rows(section(ARCHITECTURE, "## Who may import whom"))
    }
    for ring, layer in zip(("use cases", "edges", "core"), enforced, strict=True):
        existing = {name for name in re.findall(r"\((\w+)\)", layer) if (ROOT / "shared" / f"{name}.py").exists()}
        assert rings[ring] == existing, ring


def test_the_readme_names_every_target_that_can_be_chosen() -> None:
    named = {word for cells in rows(section(README, "## Web servers")) for word in re.findall(r"`([\w-]+)`", cells[0])}
    assert not set(selection._TARGETS) - named


def functions() -> set[str]:
    return set(re.findall(r'@app\.function_name\("(\w+)"\)', text_of(Path("function_app.py"))))


def test_the_deployment_names_functions_that_exist() -> None:
    named = set(re.findall(r"function:(\w+)=|/functions/(\w+)\"", text_of(DEPLOY)))
    assert {name for pair in named for name in pair if name} >= {"on_blob_event", "install_result"}
    assert not {name for pair in named for name in pair if name} - functions()


def command_lines(program: str) -> list[tuple[Path, list[str]]]:
    """Every line of the pages that runs a program of ours, split into words."""
    found = []
    for page in PAGES:
        for line in shell_lines(page):
            words = shlex.split(line.partition("<")[0].partition("|")[0])
            if program in words[:2]:
                found.append((page, words[words.index(program) + 1 :]))
    return found


def test_the_readme_shows_both_programs() -> None:
    assert {words[0] for page, words in command_lines("dev.py") if page == README} >= {"demo", "test"}
    assert {words[0] for page, words in command_lines("certcast") if page == README} >= {
        "check",
        "upload",
        "status",
        "remove",
    }


@pytest.mark.parametrize(("page", "words"), command_lines("dev.py"))
def test_dev_py_has_the_commands_that_are_shown(page: Path, words: list[str]) -> None:
    assert words[0] in dev_commands._COMMANDS, page


@pytest.mark.parametrize(("page", "words"), command_lines("certcast"))
def test_certcast_has_the_commands_and_options_that_are_shown(page: Path, words: list[str]) -> None:
    context = click.Context(certcast, info_name="certcast")
    command = certcast.get_command(context, words[0])
    assert command is not None, page
    options = {option for parameter in command.get_params(context) for option in parameter.opts}
    assert not {word for word in words if word.startswith("--")} - options, page


def test_certcast_help_lists_every_command_that_the_readme_names() -> None:
    help_text = certcast.get_help(click.Context(certcast, info_name="certcast"))
    named = set(re.findall(r"\bcertcast (check|demo|remove|status|up|upload)\b", text_of(README)))
    assert named >= {"up", "upload", "check", "status", "remove"}
    assert not [name for name in named if not re.search(rf"^  {name}\b", help_text, re.MULTILINE)]
