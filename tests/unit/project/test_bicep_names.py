"""infra/ against the code: each container, queue, table, setting and function that it names, and the other way."""

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from shared.azure.account import _CONTAINERS, _QUEUES, _TABLES
from shared.config import Settings
from shared.function.expiry import WARN_DAYS, _phrased
from shared.state.records import UploadStatus
from shared.telemetry import names
from shared.telemetry.names import Stage
from tests.rigs.bicep import INFRA, Value, read
from tests.rigs.deployment import ROOT, deployed_files
from tests.rigs.pages import DEPLOY, SETTINGS, rows, section, shell_lines, text_of
from tests.unit.project.test_deploy_page import TRIGGERS

MAIN = read(INFRA / "main.bicep")
PAGE = Path("infra/README.md")
EVENTS = read(INFRA / "event-subscription.bicep")
HOST = json.loads((ROOT / "host.json").read_text("utf-8"))
AZURE_YAML = yaml.safe_load((ROOT / "azure.yaml").read_text("utf-8"))


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, INFRA / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PACKAGE, SUBSCRIBE = hook("package"), hook("subscribe")


def given(module: str, name: str) -> Value:
    return MAIN.modules[module].params[name]


class TestTheState:
    def test_has_the_containers_queues_and_tables_that_the_code_uses_and_no_others(self) -> None:
        assert given("state", "containers") == [*_CONTAINERS]
        assert given("state", "queues") == [*_QUEUES]
        assert given("state", "tables") == [*_TABLES]

    def test_is_what_the_commands_make(self) -> None:
        made = section(DEPLOY, "## 4. The storage account")
        for kind in ("container", "queue", "table"):
            [told] = re.findall(rf"^for {kind} in ([\w -]+); do", made, re.MULTILINE)
            assert given("state", f"{kind}s") == told.split()

    def test_of_the_host_is_what_the_commands_make_and_what_app_and_event_grid_write_to(self) -> None:
        [told] = re.findall(r"^for container in ([\w ]+); do", section(DEPLOY, "## 6. The Functions app"), re.MULTILINE)
        packages, dead_letters = told.split()
        assert given("host", "containers") == [packages, dead_letters]
        assert str(given("app", "packages")).endswith("}" + packages + "'")
        assert f"resource deadLetters 'containers' existing = {{\n      name: '{dead_letters}'" in EVENTS.text

    def test_keeps_what_uploads_are_written_without(self) -> None:
        properties = read(INFRA / "modules" / "storage.bicep").resources["blobs"].body["properties"]
        assert isinstance(properties, dict)
        assert properties["isVersioningEnabled"] == "false"
        assert MAIN.optional["softDeleteDays"] == "0"

    def test_takes_no_keys(self) -> None:
        properties = read(INFRA / "modules" / "storage.bicep").resources["account"].body["properties"]
        assert isinstance(properties, dict)
        assert (properties["allowSharedKeyAccess"], properties["allowBlobPublicAccess"]) == ("false", "false")
        component = read(INFRA / "modules" / "monitoring.bicep").resources["component"].body["properties"]
        topic = read(INFRA / "modules" / "topic.bicep").resources["topic"].body["properties"]
        assert isinstance(component, dict)
        assert isinstance(topic, dict)
        assert (component["DisableLocalAuth"], topic["disableLocalAuth"]) == ("true", "true")


def settings() -> dict[str, str]:
    """The application settings, as they come out for one installation."""
    variables = [MAIN.variables[name] for name in ("hosts", "ours")]
    told = re.search(r"\? \{ (\w+): (.+) \} :", str(MAIN.variables["told"]))
    assert told is not None
    found = {name: str(value) for part in variables if isinstance(part, dict) for name, value in part.items()}
    found[told[1]] = told[2]
    sample = {
        "state.outputs.name": "acme",
        "host.outputs.name": "acmehost",
        "storage": "core.windows.net",
        "identities.outputs.functionClientId": "11111111-2222-3333-4444-555555555555",
        "vault.outputs.keyUrl": "https://acme.vault.azure.net/keys/certcast",
        "monitoring.outputs.connectionString": "InstrumentationKey=0",
        "topic!.outputs.endpoint": "https://acme.westeurope-1.eventgrid.azure.net/api/events",
        **{name: str(MAIN.optional[name]) for name in ("functionTrust", "functionTraces")},
    }
    for name, value in found.items():
        text = sample.get(value) or re.sub(r"\$\{([^}]+)\}", lambda part: sample[part[1]], value)
        found[name] = text.strip("'")
        assert "outputs" not in found[name], name
    return found


class TestTheSettings:
    def test_are_those_of_the_pages_and_what_their_commands_bring(self) -> None:
        lines = [
            line
            for page in (DEPLOY, Path("docs/events/README.md"))
            for line in shell_lines(page)
            if "appsettings set" in line
        ]
        told = {name for line in lines for name in re.findall(r"\b((?:AzureWebJobs|APPLICATION|CERTCAST)\w+)=", line)}
        assert settings().keys() - {"APPLICATIONINSIGHTS_CONNECTION_STRING"} == told

    def test_are_ones_that_the_settings_page_knows(self) -> None:
        known = {name for cells in rows(text_of(SETTINGS)) for name in re.findall(r"`(CERTCAST_\w+)`", cells[0])}
        assert {name for name in settings() if name.startswith("CERTCAST_")} <= known

    def test_are_not_taken_from_what_somebody_set_for_a_command_or_an_agent(self) -> None:
        """What azd's environment lacks, it takes from that of its caller."""
        entries = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))["parameters"].values()
        known = set(re.findall(r"`(CERTCAST_\w+)`", text_of(SETTINGS)))
        assert known.isdisjoint({entry["value"][2:-1] for entry in entries})

    def test_are_ones_that_the_function_starts_with(self) -> None:
        opened = Settings.from_env(settings())
        assert opened.storage.blob_url == "https://acme.blob.core.windows.net"
        assert opened.storage.client_id == settings()["CERTCAST_STORAGE__clientId"]

    def test_of_the_host_name_the_account_and_no_plain_connection(self) -> None:
        assert settings()["AzureWebJobsStorage__accountName"] == "acmehost"
        assert "AzureWebJobsStorage" not in settings()
        assert settings()["AzureWebJobsStorage__clientId"] == settings()["CERTCAST_STORAGE__clientId"]

    def test_that_people_made_are_kept_and_the_deployments_own_win(self) -> None:
        assert given("appSettings", "ours") == "union(hosts, ours, told, settings)"
        merged = read(INFRA / "modules" / "settings.bicep").modules["merged"]
        assert str(merged.params["current"]).startswith("list('${app.id}/config/appsettings'")
        assert read(merged.path).resources["settings"].body["properties"] == "union(current, ours)"
        app = read(INFRA / "modules" / "app.bicep").resources["app"].body["properties"]
        assert isinstance(app, dict)
        assert isinstance(app["siteConfig"], dict)
        assert "appSettings" not in app["siteConfig"], "it would wipe those that are not in it"


class TestTheApp:
    def test_takes_as_many_events_at_a_time_as_messages(self) -> None:
        assert MAIN.optional["httpConcurrency"] == str(HOST["extensions"]["queues"]["batchSize"])
        assert given("app", "concurrency") == "httpConcurrency"

    def test_keeps_the_group_ready_that_event_grids_triggers_are_in(self) -> None:
        assert MAIN.optional["alwaysReady"] == [{"name": "http", "instanceCount": "1"}]

    def test_has_the_memory_and_the_python_of_the_page_and_of_its_package(self) -> None:
        [create] = [line for line in shell_lines(DEPLOY) if line.startswith("az functionapp create")]
        assert f"--instance-memory {MAIN.optional['memoryMB']} " in create
        assert f"--runtime-version {MAIN.optional['pythonVersion']} " in create
        assert MAIN.optional["pythonVersion"] == PACKAGE.PYTHON

    def test_is_found_by_azd(self) -> None:
        [(name, service)] = AZURE_YAML["services"].items()
        assert given("app", "serviceName") == name
        assert MAIN.outputs[service["resourceName"].strip("${}")] == "app.outputs.name"
        app = read(INFRA / "modules" / "app.bicep").resources["app"].body
        assert app["tags"] == "union(tags, { 'azd-service-name': serviceName })"
        assert MAIN.variables["tags"] == {"azd-env-name": "environmentName"}


class TestTheKey:
    def test_wraps_and_unwraps_and_has_no_version_in_its_address(self) -> None:
        vault = read(INFRA / "modules" / "vault.bicep")
        key = vault.resources["key"].body
        assert key["name"] == "certcast"
        assert key["properties"] == {"kty": "RSA", "keySize": "keySize", "keyOps": ["wrapKey", "unwrapKey"]}
        assert MAIN.optional["keySize"] == "3072"
        assert vault.outputs["keyUrl"] == "key.properties.keyUri"

    def test_cannot_be_purged(self) -> None:
        properties = read(INFRA / "modules" / "vault.bicep").resources["vault"].body["properties"]
        assert isinstance(properties, dict)
        assert (properties["enablePurgeProtection"], properties["enableRbacAuthorization"]) == ("true", "true")


class TestAzd:
    def test_packs_what_both_tools_upload(self) -> None:
        uploaded = {path.parts[0] for path in deployed_files()}
        assert set(PACKAGE.APP) == uploaded

    def test_deploys_the_folder_that_the_hook_packs_as_it_is(self) -> None:
        [service] = AZURE_YAML["services"].values()
        assert (service["language"], service["host"], service["remoteBuild"]) == ("python", "function", False)
        assert (ROOT / service["project"] / service["dist"]).resolve() == PACKAGE.FOLDER
        assert service["hooks"].keys() == {"prepackage"}

    @pytest.mark.parametrize("system", ["posix", "windows"])
    def test_has_a_hook_for_each_system(self, system: str) -> None:
        [service] = AZURE_YAML["services"].values()
        shell, python = {"posix": ("sh", "python3"), "windows": ("pwsh", "python")}[system]
        for told, name in (
            (service["hooks"]["prepackage"], "package"),
            (AZURE_YAML["hooks"]["postdeploy"], "subscribe"),
        ):
            assert told.keys() == {"posix", "windows"}
            assert told[system]["shell"] == shell
            assert told[system]["run"].startswith(f"{python} infra/hooks/{name}.py")
            # PowerShell's own exit code is 0 whatever a program's was.
            assert told[system]["run"].endswith("; exit $LASTEXITCODE") == (system == "windows")

    def test_gives_the_subscription_every_parameter_it_asks_for_from_an_output(self) -> None:
        asked = EVENTS.required | EVENTS.optional.keys()
        assert EVENTS.required <= SUBSCRIBE.PARAMETERS.keys() <= asked
        assert asked - SUBSCRIBE.PARAMETERS.keys() == {"eventDeliverySchema"}
        assert {*SUBSCRIBE.PARAMETERS.values()} <= MAIN.outputs.keys()

    def test_subscribes_a_function_that_there_is(self) -> None:
        [function] = re.findall(r"\$\{app\.id\}/functions/(\w+)'", EVENTS.text)
        assert TRIGGERS[function] == "event_grid_trigger"


ALERTS = ROOT / "docs" / "observability" / "alerts"
QUERIES = {path.stem: path.read_text("utf-8") for path in sorted(ALERTS.glob("*.kql"))}
# learn.microsoft.com, "Application Insights telemetry data model" and "StorageQueueLogs".
TABLES = {"dependencies": "componentId", "traces": "componentId", "StorageQueueLogs": "workspaceId"}


def said(module: str) -> list[str]:
    """The texts in a module's code."""
    tree = ast.parse(text_of(Path("shared", "function", module)))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


class TestTheAlerts:
    def test_have_the_queries_of_the_page_each_over_where_its_table_is(self) -> None:
        rules = read(INFRA / "modules" / "alerts.bicep").variables["rules"]
        assert isinstance(rules, list)
        found = {}
        for rule in rules:
            assert isinstance(rule, dict)
            loaded = re.fullmatch(r"loadTextContent\('(.+)'\)", str(rule["query"]))
            assert loaded is not None
            path = (INFRA / "modules" / loaded[1]).resolve()
            found[path.stem] = rule
            [table] = [line for line in QUERIES[path.stem].splitlines() if re.fullmatch(r"\w+", line)]
            assert rule["scope"] == TABLES[table]
            assert rule["name"] == path.stem.replace("_", "-")
        assert found.keys() == QUERIES.keys()

    def test_about_installs_know_the_spans_and_the_statuses(self) -> None:
        text = QUERIES["failed_installs"]
        assert f'name == "{Stage.SETTLE.value}"' in text
        assert set(re.findall(r'customDimensions\["([^"]+)"\]', text)) == {names.UPLOAD, names.STATUS}
        [statuses] = re.findall(r"status in \(([^)]+)\)", text)
        told = {UploadStatus(word) for word in re.findall(r'"(\w+)"', statuses)}
        assert told == {UploadStatus.FAILED, UploadStatus.PARTIALLY_LIVE}

    @pytest.mark.parametrize(
        ("query", "module"), [("ending_certificates", "expiry.py"), ("silent_instances", "forgetting.py")]
    )
    def test_about_log_lines_find_what_the_function_says(self, query: str, module: str) -> None:
        [begins] = re.findall(r'told startswith "([^"]+)"', QUERIES[query])
        [ends] = re.findall(r'told endswith "([^"]+)"', QUERIES[query])
        assert [text for text in said(module) if text.startswith(begins) and text.endswith(ends)]

    def test_about_certificates_leave_out_the_first_warning_alone(self) -> None:
        [word] = re.findall(r'told !has "([^"]+)"', QUERIES["ending_certificates"])
        assert {days for days in WARN_DAYS if word not in _phrased(days)} == {days for days in WARN_DAYS if days <= 14}

    def test_look_at_what_is_logged(self) -> None:
        storage = read(INFRA / "modules" / "storage.bicep")
        logged = str(storage.resources["queueLogs"].body)
        assert "StorageWrite" in logged  # PutMessage: learn.microsoft.com, "Azure Storage monitoring data reference"
        assert '"PutMessage"' in QUERIES["poison_queues"]
        assert (
            '"-poison/messages"' in QUERIES["poison_queues"]
        )  # .../QUEUE-poison/messages, as Put Message is asked for

    def test_are_explained_on_the_page(self) -> None:
        page = text_of(Path("docs/observability/README.md"))
        assert all(f"{name}.kql" in page for name in QUERIES)


class TestThePage:
    def test_has_every_parameter_with_its_variable_and_default(self) -> None:
        values = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))["parameters"]
        table = {cells[0]: cells[1:] for cells in [*rows(section(PAGE, "## Parameters"))][1:]}
        assert [*table] == [f"`{name}`" for name in values]
        for name, entry in values.items():
            variable, _, default = table[f"`{name}`"]
            assert variable == f"`{entry['value'][2:-1]}`"
            told = json.dumps(MAIN.optional.get(name, "")).replace('"', "")
            words = {"required": "", "the group's": "resourceGroup().location", "\N{EN DASH}": ""}
            shown = words.get(default, default.strip("`").replace('"', ""))
            assert shown == told, name

    def test_has_every_output(self) -> None:
        told = [cells[1] for cells in rows(section(PAGE, "## Outputs"))]
        assert told[1:] == [f"`{name}`" for name in MAIN.outputs]

    def test_names_every_module(self) -> None:
        told = set(re.findall(r"`([a-z-]+)`", next(line for line in text_of(PAGE).splitlines() if "(modules)" in line)))
        modules = {path.stem for path in (INFRA / "modules").glob("*.bicep")} - {"event-alerts", "settings-merged"}
        assert modules <= told
