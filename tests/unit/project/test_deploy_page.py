"""docs/deploy.md against the code: functions and their groups, host.json, messages, identities, the Bicep file."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from azure.identity._constants import EnvironmentVariables

from local_azure.eventgrid.schemas import EventSchema
from shared.azure.account import _CONTAINERS
from shared.azure.blobs import UPLOADS_CONTAINER
from shared.function.deadlines import ANSWER_S, EVENT_S, LOOK_S, MESSAGE_S, SWEEP_ENDS_S
from shared.validation.worker import MEMORY_BYTES
from shared.validation.workers import DEAR_AT_ONCE, TRIED_AT_ONCE
from tests.rigs.deployment import ROOT, repository_files
from tests.rigs.pages import (
    DEPLOY,
    OPERATIONS,
    SOURCES,
    TROUBLESHOOTING,
    rows,
    section,
    shell_lines,
    text_of,
)

A_MINUTE, MINUTES = 200, 10
"""Words that are read in one, and what the page promises."""


def test_the_part_with_azd_is_read_in_ten_minutes() -> None:
    read = section(DEPLOY, "## With azd") + section(DEPLOY, "## 10. See that it works")
    assert "ten minutes of reading" in text_of(DEPLOY)
    assert len(read.split()) <= MINUTES * A_MINUTE


APP = section(DEPLOY, "## 6. The Functions app")
LINES = list(shell_lines(DEPLOY))
HOST = json.loads((ROOT / "host.json").read_text("utf-8"))
QUEUES = HOST["extensions"]["queues"]
BICEP = (ROOT / "infra" / "event-subscription.bicep").read_text("utf-8")


def functions() -> Mapping[str, str]:
    """The trigger of each function, by its name: the decorator after `function_name`."""
    found = {}
    for node in ast.parse(text_of(Path("function_app.py"))).body:
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.decorator_list:
            name, trigger = node.decorator_list
            assert isinstance(name, ast.Call)
            assert isinstance(trigger, ast.Call)
            assert isinstance(trigger.func, ast.Attribute)
            found[ast.literal_eval(name.args[0])] = trigger.func.attr
    return found


TRIGGERS = functions()


def of(*triggers: str) -> set[str]:
    return {name for name, trigger in TRIGGERS.items() if trigger in triggers}


def test_every_function_has_a_trigger_that_this_file_knows() -> None:
    assert set(TRIGGERS.values()) == {"event_grid_trigger", "queue_trigger", "timer_trigger", "route"}


class TestFunctions:
    def test_the_list_to_compare_with_is_that_of_the_app(self) -> None:
        [told] = re.findall(r"- \*\*The list\*\* must name (.*?)and the status API's\s+functions", APP, re.DOTALL)
        assert set(re.findall(r"`(\w+)`", told)) == set(TRIGGERS) - of("route")

    def test_each_is_in_the_group_that_the_host_puts_it_into(self) -> None:
        groups = {cells[0]: set(re.findall(r"`(on_\w+)`", cells[1])) for cells in rows(APP)}
        assert groups["`http`"] == of("event_grid_trigger")
        own = {name for group in groups for name in re.findall(r"`function:(\w+)`", group)}
        assert own == of("queue_trigger", "timer_trigger")

    def test_only_groups_that_there_are_are_kept_ready(self) -> None:
        [line] = [line for line in LINES if "always-ready set" in line]
        ready = {name for name, _ in re.findall(r"([\w:]+)=(\d+)", line)}
        assert ready == {"http"} | {f"function:{name}" for name in of("queue_trigger")}


class TestTheHost:
    def test_takes_as_many_events_as_messages_at_a_time(self) -> None:
        [line] = [line for line in LINES if "perInstanceConcurrency" in line]
        assert line.endswith(f"--trigger-type http --trigger-settings perInstanceConcurrency={QUEUES['batchSize']}")

    def test_takes_so_many_messages_of_a_queue(self) -> None:
        at_once = {cells[2].partition(":")[0] for cells in rows(APP) if "function:recheck_upload" in cells[0]}
        assert at_once == {str(QUEUES["batchSize"] + QUEUES["newBatchThreshold"])}

    def test_ends_a_worker_after_that_time(self) -> None:
        assert HOST["functionTimeout"] == "00:05:00"
        assert max(LOOK_S, MESSAGE_S, ANSWER_S, SWEEP_ENDS_S) < 5 * 60
        assert re.search(rf"longer than {EVENT_S:.0f} s is answered", APP)
        assert re.search(r"before `functionTimeout` in `host\.json`: at\s+those 5 minutes", APP)

    def test_has_memory_for_the_processes_that_judge(self) -> None:
        assert (TRIED_AT_ONCE + DEAR_AT_ONCE, MEMORY_BYTES) == (3, 256 * 2**20)
        assert "up to three processes of 256 MiB" in APP
        [create] = [line for line in LINES if line.startswith("az functionapp create")]
        assert "--instance-memory 2048 " in create

    def test_uses_the_identity_by_the_accounts_name_and_no_key_is_left(self) -> None:
        order = [
            next(at for at, line in enumerate(LINES) if all(word in line for word in words))
            for words in (
                ("az functionapp create",),
                ("appsettings set", "AzureWebJobsStorage__accountName=", "AzureWebJobsStorage__clientId="),
                ("appsettings delete", "--setting-names AzureWebJobsStorage"),
                ('--name "$HOST_STORAGE"', "storage account update", "--allow-shared-key-access false"),
            )
        ]
        assert order == sorted(order)


class TestTheEventSubscription:
    def test_is_given_every_parameter_it_requires_and_no_other(self) -> None:
        parameters = dict(re.findall(r"^param (\w+) string(?: = (.+))?$", BICEP, re.MULTILINE))
        [line] = [line for line in LINES if line.startswith("az deployment group create")]
        given = set(re.findall(r"(\w+)=", line.partition("--parameters")[2]))
        assert "--template-file infra/event-subscription.bicep " in line
        assert {name for name, default in parameters.items() if not default} <= given <= set(parameters)

    def test_is_of_a_function_and_a_container_that_there_are(self) -> None:
        [function] = re.findall(r"\$\{app\.id\}/functions/(\w+)'", BICEP)
        assert TRIGGERS[function] == "event_grid_trigger"
        assert f"'/blobServices/default/containers/{UPLOADS_CONTAINER}/blobs/'" in BICEP

    def test_may_be_in_each_schema_that_the_local_cloud_has(self) -> None:
        [offered] = re.findall(r"@allowed\(\[([^\]]+)\]\)\nparam eventDeliverySchema string", BICEP)
        assert set(re.findall(r"'(\w+)'", offered)) == set(EventSchema)
        assert "\n    eventDeliverySchema: eventDeliverySchema\n" in BICEP
        told = re.findall(r"\b(?:eventgrid|cloudevent)schema(?:v1_0)?\b", (text_of(DEPLOY) + text_of(SOURCES)).lower())
        assert set(told) == {schema.lower() for schema in EventSchema}

    def test_writes_dead_letters_with_the_topics_identity_into_a_container_that_is_made(self) -> None:
        [(_, container)] = re.findall(r"resource (deadLetters) 'containers' existing = \{\s+name: '(\w+)'", BICEP)
        [made] = re.findall(r"for container in ([\w ]+); do", APP)
        assert container in made.split()
        assert container not in _CONTAINERS
        granted, subscribed = BICEP.index("resource mayWriteDeadLetters "), BICEP.index("resource subscription ")
        assert "scope: host::blobs::deadLetters\n" in BICEP[granted:subscribed]
        assert "principalId: topic.identity.principalId\n" in BICEP[granted:subscribed]
        assert re.search(r"deadLetterWithResourceIdentity: \{\s+identity: \{\s+type: 'SystemAssigned'", BICEP)
        assert re.search(r"dependsOn: \[\s+mayWriteDeadLetters\s+\]", BICEP[subscribed:])

    def test_has_no_key_and_no_secret(self) -> None:
        assert "listKeys" not in BICEP
        assert "AccountKey" not in BICEP


def texts(path: Path) -> Iterator[str]:
    """The texts in a module's code; those that stand by themselves are explanations."""
    nodes = list(ast.walk(ast.parse(text_of(path))))
    explaining = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in explaining:
            yield node.value


SAID = "\n".join(
    text
    for path in repository_files()
    if path.suffix == ".py" and path.parts[0] in {"shared", "instance_agent", "operator_cli"}
    for text in texts(path)
)
TROUBLE = section(TROUBLESHOOTING, "## What it says")
WORDS = [words for cells in rows(TROUBLE) for words in re.findall(r"`([^`]+ [^`]+)`", cells[0])]


def test_the_page_helps_with_messages() -> None:
    assert len(WORDS) > 8


@pytest.mark.parametrize("words", WORDS)
def test_what_the_page_quotes_is_said(words: str) -> None:
    refused = re.fullmatch(r"refused \((\w+)\)", words)
    assert (refused[1] if refused else words) in SAID


def test_an_application_is_named_as_azure_identity_reads_it() -> None:
    told = {
        name
        for cells in rows(section(DEPLOY, "### Without a managed identity"))
        for name in re.findall(r"`(AZURE_\w+)`", cells[0])
    }
    assert told == {*EnvironmentVariables.CERT_VARS, EnvironmentVariables.AZURE_CLIENT_CERTIFICATE_PASSWORD}


def test_what_a_start_of_many_instances_costs_at_the_vault_is_reckoned_rightly() -> None:
    table = [cells for cells in rows(section(OPERATIONS, "### Key Vault")) if cells[0].startswith("RSA ")]
    assert len(table) == 3
    for _, price, in_10_s, told in table:
        unwraps, most = 100 * 1_000, int(in_10_s.replace(",", ""))
        usd, minutes = float(price) * unwraps / 10_000, unwraps / most * 10 / 60
        assert told == f"{usd:.2f} dollars, {minutes:.0f} minutes"


def test_the_page_of_commands_asks_for_the_roles_of_section_9() -> None:
    on = re.compile(r"(container|table) `(\w+)`")
    table = [
        (cells[0], on.fullmatch(cells[1])) for cells in rows(section(DEPLOY, "## 9. Uploaders")) if len(cells) == 3
    ]
    given = {(role, where[2]) for role, where in table if where}
    [told] = re.findall(r"\*\*Roles\*\*.*?\n\n", text_of(Path("docs/commands.md")), re.DOTALL)
    told = told.partition(" An\n")[0]
    asked = {
        (role, name)
        for role, places in re.findall(
            r"\*(Storage[\w\s]+?)\* on the (?:container|tables) ((?:`\w+`(?:, | and )?)+)", told
        )
        for name in re.findall(r"`(\w+)`", places)
    }
    assert {(re.sub(r"\s+", " ", role), name) for role, name in asked} == given
    assert "on the account" not in told
