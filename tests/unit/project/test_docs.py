"""The pages and the code say the same: settings, names, columns, limits, commands and modules."""

import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterable
from dataclasses import fields
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from devtools import commands as dev_commands
from instance_agent import selection
from operator_cli.__main__ import certcast
from shared.azure import account
from shared.binding import DesiredBinding
from shared.messages import InstallOutcome
from shared.state.history import HistoryEntry
from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord, UploadStatus
from shared.state.tags import LIVE_TAG, REASON_TAG, STATUS_TAG, VERSION_TAG
from shared.verdict import VerdictCode, WarningCode
from tests.rigs.deployment import ROOT, repository_files
from tests.rigs.pages import (
    ARCHITECTURE,
    CONTRIBUTING,
    DEPLOY,
    GLOSSARY,
    OPERATIONS,
    PAGES,
    README,
    SETTINGS,
    VERDICTS,
    blocks,
    prose_of,
    rows,
    section,
    shell_lines,
    text_of,
)

PACKAGES = {"shared", "instance_agent", "operator_cli", "local_azure"}
CODE = [
    path
    for path in repository_files()
    if path.suffix == ".py" and (path.parts[0] in PACKAGES or path.name == "function_app.py")
]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path))


def settings_read(code: Iterable[Path] = CODE) -> set[str]:
    """Texts in the code that are a setting's name and nothing else, or become one behind a prefix of their file."""
    found: set[str] = set()
    for path in code:
        texts = {
            node.value
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        found |= {text for text in texts if re.fullmatch(r"CERTCAST_[A-Z_]*[A-Z]", text)}
        prefixes = {text for text in texts if re.fullmatch(r"CERTCAST_(?:[A-Z]+_)+", text)}
        found |= {
            prefix + text
            for prefix in prefixes
            for text in texts
            if re.fullmatch(r"(?!CERTCAST_)[A-Z_]+[A-Z]", text) and prefix != f"CERTCAST_{text}_"
        }
        for server in re.findall(r"""Endpoints\.from_env\(env, "([A-Z]+)\"""", text_of(path)):
            found |= {f"CERTCAST_{server}_ADDRESS", f"CERTCAST_{server}_PORT_OFFSET"}
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


def settings_of(process: str) -> set[str]:
    """Names in the first column of a process's table."""
    cells = [cells[0] for cells in rows(section(SETTINGS, f"## {process}"))]
    return {name.partition("__")[0] for cell in cells for name in re.findall(r"`(CERTCAST_\w+)`", cell)}


def below(*folders: str, without: tuple[str, ...] = ()) -> list[Path]:
    return [path for path in CODE if path.as_posix().startswith(folders) and not path.as_posix().startswith(without)]


def test_the_function_s_table_has_what_it_reads() -> None:
    assert settings_of("Function") == settings_read(below("shared/", "function_app.py"))


def test_an_agent_s_table_has_what_it_reads_whatever_its_target_is() -> None:
    own = settings_read(below("instance_agent/", without=("instance_agent/targets/",)))
    common = {"CERTCAST_STORAGE", "CERTCAST_TRACES", "CERTCAST_LOG_FORMAT"}
    assert settings_of("Agent") == {name for name in own | common if not name.startswith("CERTCAST_IIS_")}


def test_the_command_s_table_has_what_it_reads() -> None:
    """By itself, or by what it takes of `shared.config`; a demo sets what it likes, and the doctor looks at all."""
    found: set[str] = set()
    for path in below("operator_cli/", without=("operator_cli/demo/", "operator_cli/doctor/")):
        found |= settings_read([path])
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shared.config"):
                module = importlib.import_module(str(node.module))
                taken = [getattr(module, alias.name) for alias in node.names]
                source = "\n".join(inspect.getsource(each) if callable(each) else repr(each) for each in taken)
                constants = {getattr(module, name) for name in re.findall(r"\b[A-Z_]+_SETTING\b", source)}
                found |= constants | set(re.findall(r"CERTCAST_[A-Z_]*[A-Z]", source))
    assert settings_of("Command") == found


def constant(name: str) -> Any:
    """The value of a constant of the Function or the agent, in whichever module it is."""
    [path] = [
        path
        for path in CODE
        if path.parts[0] in {"shared", "instance_agent"}
        for node in tree_of(path).body
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets)
    ]
    return getattr(importlib.import_module(".".join(path.with_suffix("").parts)), name)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("CERTCAST_POLL_MAX_MS", "DEFAULT_POLL_MAX_MS"),
        ("CERTCAST_HEALTH_PORT", "DEFAULT_HEALTH_PORT"),
        ("CERTCAST_PROOF_CYCLE", "DEFAULT_PROOF_CYCLE_S"),
        ("CERTCAST_EMBEDDED_CONNECTIONS", "MAX_CONNECTIONS"),
    ],
)
def test_a_documented_default_is_the_real_one(name: str, default: str) -> None:
    tables = text_of(SETTINGS) + text_of(Path("docs/targets/embedded.md"))
    [row] = [cells for cells in rows(tables) if f"`{name}`" in cells[0]]
    assert str(constant(default)) in {cell.strip("`") for cell in row}


def test_what_polling_costs_is_reckoned_rightly() -> None:
    table = re.sub(r"(?m)^ +", "", section(OPERATIONS, "## Costs to expect"))
    looks = {int(row[0]): int(row[1].replace(",", "")) for row in rows(table) if row[0].strip().isdigit()}
    assert looks == {wait_ms: 30 * 86_400_000 // wait_ms for wait_ms in looks}
    assert constant("DEFAULT_POLL_MAX_MS") in looks


def test_what_a_month_costs_is_reckoned_from_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    table = importlib.import_module("_months").table()
    [shown] = re.findall(r"<!-- months: begin -->\n(.*?)\n<!-- months: end -->", text_of(OPERATIONS), re.DOTALL)
    assert shown == table, "put the output of `python3 bench/_months.py` there"


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
        ("history", HistoryEntry),
    ],
)
def test_every_column_is_explained(table: str, record: Any) -> None:
    parts = re.split(r"^\*\*`(\w+)`\*\*", section(ARCHITECTURE, "### Tables"), flags=re.MULTILINE)
    told = dict(zip(parts[1::2], parts[2::2], strict=True))[table]
    assert not {field.name for field in fields(record)} - set(re.findall(r"`(\w+)`", told))


@pytest.mark.parametrize("word", [*UploadStatus, *InstallOutcome])
def test_every_status_and_outcome_is_listed(word: str) -> None:
    assert f"`{word}`" in section(ARCHITECTURE, "### Tables")


@pytest.mark.parametrize("code", WarningCode)
def test_every_warning_is_explained(code: WarningCode) -> None:
    told = section(VERDICTS, f"### `{code.value}`")
    assert "**Means**" in told
    assert "**Do**" in told


def test_the_page_of_verdicts_helps_with_statuses_that_exist() -> None:
    helped = section(VERDICTS, "## When it is not served")
    words = {word for cells in rows(helped) for word in re.findall(r"`(\w+)`", cells[0])}
    assert words >= {"rejected", "waiting_for_metadata", "probe_mismatch"}
    assert not words - {*VerdictCode, *UploadStatus, *InstallOutcome}


def in_words(value: int | timedelta) -> set[str]:
    """The ways in which a limit may be written."""
    if isinstance(value, int):
        return {f"{value:,}", f"{value} s"} | ({f"{value // 2**20} MiB"} if value % 2**20 == 0 else set())
    seconds = int(value.total_seconds())
    units = (("s", 1), ("min", 60), ("day", 86_400), ("days", 86_400))
    return {f"{seconds // size} {unit}" for unit, size in units if seconds % size == 0}


LIMITS = [
    (name, cells[1]) for cells in rows(section(ARCHITECTURE, "## Limits")) for name in re.findall(r"`(\w+)`", cells[-1])
]


@pytest.mark.parametrize(("name", "told"), LIMITS)
def test_a_limit_is_the_one_in_the_code(name: str, told: str) -> None:
    value = constant(name)
    assert any(re.search(rf"(?<![\d,]){re.escape(words)}(?![\d,])", told) for words in in_words(value)), (value, told)


def test_the_limits_name_their_constants() -> None:
    assert len(LIMITS) > 10


def test_the_readme_names_every_target_that_can_be_chosen() -> None:
    named = {word for cells in rows(section(README, "## Web servers")) for word in re.findall(r"`([\w-]+)`", cells[0])}
    assert named == set(selection._TARGETS)


def functions() -> set[str]:
    return set(re.findall(r'@app\.function_name\("(\w+)"\)', text_of(Path("function_app.py"))))


def test_the_deployment_names_functions_that_exist() -> None:
    named = set(re.findall(r"function:(\w+)=|/functions/(\w+)\"", text_of(DEPLOY)))
    assert {name for pair in named for name in pair if name} >= {"on_blob_event", "install_result"}
    assert not {name for pair in named for name in pair if name} - functions()


# Modules and what is in them


@cache
def names_in_the_code() -> dict[str, set[str]]:
    """By the last part of a module's name, what is defined anywhere in it."""
    found: dict[str, set[str]] = {}
    for path in CODE:
        definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        defined = {node.name for node in ast.walk(tree_of(path)) if isinstance(node, definitions)}
        found.setdefault(path.stem, set()).update(defined)
        # `Rows.update` names a class and what is in it.
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                within = {each.name for each in node.body if isinstance(each, definitions)}
                found.setdefault(node.name, set()).update(within)
    return found


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_file_and_folder_of_the_code_that_a_page_names_is_there(page: Path) -> None:
    # A worked example puts new files there.
    examples = set(re.findall(r"^`([\w/]+\.py)`:$", text_of(page), re.MULTILINE))
    top = "|".join([*sorted(PACKAGES), "tests", "devtools", "bench", "infra", r"docs/\w+"])
    named = set(re.findall(rf"`((?:{top})/[\w./-]*)(?:::[\w:]+)?`", prose_of(page)))
    assert not [name for name in named - examples if not (ROOT / name).exists()]


@pytest.mark.parametrize(
    "page", [ARCHITECTURE, GLOSSARY, *(p for p in PAGES if p.parts[:2] == ("docs", "decisions"))], ids=str
)
def test_every_function_and_class_that_a_page_names_is_there(page: Path) -> None:
    for where, what in re.findall(r"`(\w+)\.(\w+)(?:\.\w+)?`", prose_of(page)):
        if where not in {"Certcast", "Microsoft"} and what not in {"json", "pfx", "py", "toml"}:
            assert what in names_in_the_code().get(where, set()), f"{where}.{what}"


TERMS = list(rows(text_of(GLOSSARY)))[1:]


def test_the_glossary_has_at_most_thirty_words_each_once() -> None:
    words = [cells[0] for cells in TERMS]
    assert 10 <= len(words) <= 30
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(("word", "module"), [(cells[0], cells[2].strip("`")) for cells in TERMS])
def test_a_word_of_the_glossary_is_used_in_its_module(word: str, module: str) -> None:
    stem = {"election": "elect", "fan-out": "fanout", "settle": "settl"}.get(word, word)
    assert stem in module or stem in text_of(Path(module)).lower()


# Commands


def command_lines(program: str) -> list[tuple[Path, list[str]]]:
    """Every line of the pages that runs a program of ours, split into words."""
    found = []
    for page in PAGES:
        for line in shell_lines(page):
            for part in re.split(r"\|", line.partition("<")[0]):
                words = shlex.split(part)
                if program in words[:2]:
                    found.append((page, words[words.index(program) + 1 :]))
    return found


def test_the_readme_shows_both_programs() -> None:
    assert {words[0] for page, words in command_lines("dev.py") if page == README} >= {"demo", "test"}
    assert {words[0] for page, words in command_lines("certcast") if page == README} >= {
        "up",
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


def test_certcast_help_lists_every_command_that_the_page_of_commands_has() -> None:
    help_text = certcast.get_help(click.Context(certcast, info_name="certcast"))
    headings = re.findall(r"^## ([a-z]+)$", prose_of(Path("docs/commands.md")), re.MULTILINE)
    reading = ["logs", "history", "events"]
    commands = [
        "check",
        "upload",
        "status",
        "remove",
        *reading,
        "redeploy",
        "completion",
        "doctor",
        "notify",
        "up",
        "demo",
    ]
    assert headings == commands
    assert not [name for name in headings if not re.search(rf"^  {name}\b", help_text, re.MULTILINE)]


def test_the_tests_that_contributing_runs_are_there() -> None:
    examples = set(re.findall(r"^`([\w/]+\.py)`:$", text_of(CONTRIBUTING), re.MULTILINE))
    words = {word for line in shell_lines(CONTRIBUTING) for word in line.split() if word.startswith("tests/")}
    assert len(words) > 3
    assert not [word for word in words - examples if not (ROOT / word).exists()]


def test_the_demo_that_the_readme_shows_says_these_things() -> None:
    [shown] = [block for block in blocks(text_of(README), "") if "All of it was seen" in block]
    said = "\n".join(text_of(path) for path in CODE if path.parts[:2] == ("operator_cli", "demo"))
    phrases = re.findall(r"^ +seen +([^:\n]+): ", shown, re.MULTILINE)
    assert len(phrases) > 1
    for phrase in [shown.splitlines()[0], *phrases]:
        # The code puts a status into the sentence.
        assert all(part in said for part in phrase.split(UploadStatus.REMOVED.value)), phrase


def test_pre_commit_runs_what_ci_runs_before_the_tests() -> None:
    hooks = text_of(Path(".pre-commit-config.yaml"))
    assert re.findall(r"^ +entry: (.+)$", hooks, re.MULTILINE) == ["python3 dev.py lint"]
    assert re.findall(r"^ +pass_filenames: (.+)$", hooks, re.MULTILINE) == ["false"]
    assert "dev.py test" in text_of(Path(".ci/run"))
    # `test` has the same checks as `lint`.
    linting = {*dev_commands._failed_checks.__code__.co_names}
    assert "_failed_checks" in dev_commands._lint.__code__.co_names
    testing = {*dev_commands._test.__code__.co_names, *dev_commands._failed_meanwhile.__code__.co_names}
    assert {"_quick_checks", "_types"} <= linting & testing
