"""What docs/events/README.md shows is run; the files beside it are what the code makes, or what documentation asks."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_azure.processes.listening import LOOPBACK
from shared.messages import EventType
from tests.docs.shown import run_here
from tests.rigs.command_line import clean_environment
from tests.rigs.deployment import ROOT
from tests.rigs.event_examples import EXAMPLES, examples, written
from tests.rigs.event_schemas import FOLDER, check_event, schemas
from tests.rigs.pages import rows, text_of

PAGE = Path("docs/events/README.md")
RECEIVER = run_here(PAGE, "import base64, hmac, json, time")
TRY_IT = run_here(PAGE, "echo")
WORKFLOWS = sorted(EXAMPLES.glob("logic-app-*.json"))
PATIENCE_S = 20


class TestExamples:
    def test_there_is_one_for_each_type(self) -> None:
        assert set(examples()) == {kind.value for kind in EventType}
        files = {path.name.removesuffix(".json") for path in EXAMPLES.glob("Certcast.*.json")}
        assert files == set(examples())

    @pytest.mark.parametrize("name", [kind.value for kind in EventType])
    def test_each_is_what_the_code_makes_and_its_schema_describes(self, name: str) -> None:
        """Where the code changed: `python -m tests.rigs.event_examples`."""
        assert (EXAMPLES / f"{name}.json").read_text("utf-8") == written(examples()[name])
        check_event(examples()[name])

    def test_the_page_links_the_schema_and_the_example_of_each(self) -> None:
        linked = {cells[0].strip("`"): cells[2] for cells in rows(text_of(PAGE)) if "[schema]" in cells[-1]}
        assert set(linked) == {kind.value for kind in EventType}
        for name, cell in linked.items():
            assert cell == f"[schema]({name}.schema.json), [example](examples/{name}.json)"


@pytest.fixture
def port() -> int:
    with socket.create_server((LOOPBACK, 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def receiver(tmp_path: Path, port: int) -> Iterator[Path]:
    """The page's receiver, running; what it prints."""
    program, printed = tmp_path / "receiver.py", tmp_path / "printed.txt"
    assert "8080" in RECEIVER
    program.write_text(RECEIVER.replace("8080", str(port)), encoding="utf-8")
    with printed.open("wb") as output:
        process = subprocess.Popen([sys.executable, program], cwd=tmp_path, stdout=output, stderr=output)
        try:
            yield printed
        finally:
            process.kill()
            process.wait()


def tried(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A block of the page, as a shell runs it in a folder."""
    environment = clean_environment()
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    command = ["bash", "-euc", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_receiver_takes_what_is_signed_with_its_secret_and_refuses_what_is_not(
    receiver: Path, port: int, tmp_path: Path
) -> None:
    script = TRY_IT.replace("8080", str(port))
    until = time.monotonic() + PATIENCE_S
    while (ran := tried(script, tmp_path)).returncode and time.monotonic() < until:
        time.sleep(0.2)  # until it listens
    assert ran.returncode == 0, ran.stderr
    assert f"webhook {LOOPBACK}" in ran.stdout
    assert "204" in ran.stdout
    assert receiver.read_text("utf-8").splitlines()[-1] == "Certcast.Test certcast notify --test test"
    told = receiver.read_text("utf-8")
    for secret in ("", "whsec_" + "A" * 40):
        ran = tried(re.sub(r"whsec_\w+", secret, script), tmp_path)
        assert ran.returncode == 1
        assert f"webhook {LOOPBACK} answered 401" in ran.stdout
    assert [line for line in receiver.read_text("utf-8").removeprefix(told).splitlines() if "Certcast" in line] == []


class TestWorkflows:
    """The Workflow Definition Language as learn.microsoft.com documents it ("Schema reference guide for the Workflow
    Definition Language", "Schema reference guide for trigger and action types").
    """

    def test_there_is_one_for_teams_slack_and_mail(self) -> None:
        assert [path.stem.removeprefix("logic-app-") for path in WORKFLOWS] == ["mail", "slack", "teams"]

    @pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
    def test_each_is_a_definition(self, path: Path) -> None:
        definition = json.loads(path.read_text("utf-8"))
        assert set(definition) == {"$schema", "contentVersion", "parameters", "triggers", "actions", "outputs"}
        assert definition["$schema"] == (
            "https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#"
        )
        for parameter in definition["parameters"].values():
            assert set(parameter) <= {"type", "defaultValue", "allowedValues", "metadata"}
            assert parameter["type"].lower() in {"string", "array", "object", "securestring"}
        [trigger] = definition["triggers"].values()
        assert (trigger["type"], trigger["kind"], trigger["inputs"]["method"]) == ("Request", "Http", "POST")
        check_actions(definition["actions"])

    @pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
    def test_every_expression_names_what_there_is(self, path: Path) -> None:
        definition = json.loads(path.read_text("utf-8"))
        actions = dict(all_actions(definition["actions"]))
        found = list(expressions(definition["actions"]))
        assert [text for text in found if "outputs('Event')" in text]
        for text in found:
            assert set(re.findall(r"(\w+)\(", text)) <= FUNCTIONS, text
            assert set(re.findall(r"outputs\('([^']+)'\)", text)) <= set(actions)
            assert set(re.findall(r"parameters\('([^']+)'\)", text)) <= set(definition["parameters"])
            for fields in re.findall(r"outputs\('Event'\)((?:\?\['\w+'\])*)", text):
                assert is_field(re.findall(r"'(\w+)'", fields)), text

    @pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
    def test_each_asks_for_types_that_there_are(self, path: Path) -> None:
        asked = json.loads(path.read_text("utf-8"))["parameters"]["types"]["defaultValue"]
        assert {"Certcast.CertificateRejected", "Certcast.Test"} <= set(asked) <= {kind.value for kind in EventType}

    def test_what_html_and_slack_would_act_on_is_escaped(self) -> None:
        for name in ("mail", "slack"):
            text = (EXAMPLES / f"logic-app-{name}.json").read_text("utf-8")
            definition = json.loads(text)
            action = dict(all_actions(definition["actions"]))["Text"]
            assert action["inputs"] == (
                "@replace(replace(replace(outputs('Line'), '&', '&amp;'), '<', '&lt;'), '>', '&gt;')"
            )
            [body] = re.findall(r'"(?:Body|text)": "([^"]+)"', text)
            assert re.sub(r"</?p>", "", body) == "@{outputs('Text')}"

    def test_the_card_takes_text_in_which_markdown_means_nothing(self) -> None:
        """learn.microsoft.com/adaptive-cards/schema-explorer/text-run: of `text`, "Markdown is not supported"."""
        definition = json.loads((EXAMPLES / "logic-app-teams.json").read_text("utf-8"))
        [attachment] = dict(all_actions(definition["actions"]))["Post_to_Teams"]["inputs"]["body"]["attachments"]
        assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        for block in attachment["content"]["body"]:
            assert block["type"] == "RichTextBlock"
            assert {run["type"] for run in block["inlines"]} == {"TextRun"}


FUNCTIONS = {"contains", "join", "json", "outputs", "parameters", "replace", "string", "triggerBody"}
"""Of learn.microsoft.com, "Reference guide to workflow expression functions"."""
REQUIRED = {
    "Compose": set[str](),
    "If": {"expression", "actions"},
    "Http": {"method", "uri"},
    "ApiConnection": {"host", "method", "path"},
}
"""What an action of a type has, itself or in its `inputs`."""


def check_actions(actions: dict[str, Any]) -> None:
    """See that actions have what their types ask for, and run after ones that there are."""
    assert actions
    for name, action in actions.items():
        assert re.fullmatch(r"[\w()-]+", name)
        has = set(action) | (set(action["inputs"]) if isinstance(action.get("inputs"), dict) else set())
        assert REQUIRED[action["type"]] <= has
        assert "inputs" in action or action["type"] == "If"
        for before, states in action["runAfter"].items():
            assert before in actions
            assert set(states) <= {"Succeeded", "Failed", "Skipped", "TimedOut"}
        if action["type"] == "If":
            check_actions(action["actions"])


def all_actions(actions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, action in actions.items():
        yield name, action
        yield from all_actions(action.get("actions", {}))


def expressions(value: object) -> Iterator[str]:
    """The expressions anywhere in a definition: text that begins with @, and what stands in @{...}."""
    if isinstance(value, dict):
        for each in value.values():
            yield from expressions(each)
    elif isinstance(value, list):
        for each in value:
            yield from expressions(each)
    elif isinstance(value, str) and value.startswith("@") and not value.startswith("@{"):
        yield value
    elif isinstance(value, str):
        yield from re.findall(r"@\{([^}]*)\}", value)


def is_field(names: list[str]) -> bool:
    """Whether events have this field: of themselves, or of `data`."""
    if not names:
        return True
    if names[0] == "data" and len(names) == 2:
        return names[1] in schemas()["upload"]["properties"]
    return len(names) == 1 and names[0] in schemas()["cloudevent"]["properties"]


def test_a_field_that_there_is_not_is_found() -> None:
    assert is_field(["data", "reason"])
    assert not is_field(["data", "reasons"])
    assert not is_field(["payload"])
    assert FOLDER == ROOT / "docs" / "events"
