"""Every command that README.md and docs/ show is run by a test here, or is in the table of those that are not."""

import importlib
import re
from pathlib import Path

import click
import pytest

from operator_cli.__main__ import certcast
from tests.docs.shown import DOCS, RUN, Shown, run_here, shown_on
from tests.integration.project.test_azure_cli import SCRIPTS
from tests.rigs.deployment import ROOT
from tests.rigs.pages import DEPLOY, EVENTS, OPERATIONS, README, SOURCES, VERDICTS, prose_of

COMMANDS, IIS, RELIABILITY = Path("docs/commands.md"), Path("docs/iis.md"), Path("docs/reliability.md")
DASHBOARD = Path("docs/dashboard.md")
TARGETS = Path("docs/targets")
UPLOADING = Path("docs/uploading.md")
HISTORY = Path("docs/history.md")
OBSERVABILITY = Path("docs/observability/README.md")
HOW_TO = Path("docs/how-to")
RELEASING = Path("docs/releasing.md")

QUICKSTART = Path("docs/quickstart.md")

MODULES = (
    "tests.acceptance.test_installed_agent",
    "tests.docs.test_events",
    "tests.docs.test_how_tos",
    "tests.docs.test_local_cloud",
    "tests.docs.test_openssl",
    "tests.docs.test_quickstart",
)

SYNOPSES = {
    name: run_here(COMMANDS, f"certcast {name} {first}")
    for name, first in {
        "check": "FILE",
        "upload": "FILE",
        "status": "[",
        "remove": "NAME",
        "logs": "NAME",
        "history": "[",
        "events": "[",
        "redeploy": "NAME",
        "completion": "bash|zsh|fish",
        "doctor": "[",
        "notify": "--test",
        "up": "[",
        "demo": "[",
    }.items()
}

AZURE = "needs an Azure subscription; its commands are parsed as Azure CLI does, in the order of the page"
MACHINE = "changes the machine, as root; what it sets up is what the tests of that target use"

NOT_RUN: dict[tuple[Path, str], str] = {
    (README, "python3 dev.py demo"): "it is tests/acceptance/test_demo.py, and this run of the tests",
    (QUICKSTART, "python3 dev.py setup"): "it made the environment that this test runs in",
    (RELIABILITY, "python3 dev.py soak"): "it takes half an hour; tests/integration/project/test_soak.py takes seconds",
    (OBSERVABILITY, "from aiohttp import web"): "it is run by tests/integration/telemetry/test_tracing.py",
    (OBSERVABILITY, "promtool check rules"): "it is tests/unit/project/test_observability.py",
    (HISTORY, "StorageBlobLogs"): "needs a Log Analytics workspace",
    (COMMANDS, "certcast up --target nginx"): "it is tests/acceptance/test_three_servers.py",
    **{
        (DEPLOY, begins): AZURE
        for begins in (
            "for namespace in Microsoft.Storage",
            "SUBSCRIPTION=$(az account show",
            "az group create",
            'az storage account create --resource-group "$GROUP" --name "$STORAGE"',
            "BLOBS=$STORAGE_ID",
            "az keyvault create",
            'az storage account create --resource-group "$GROUP" --name "$HOST_STORAGE"',
            "INSIGHTS_ID=$(az resource show",
            "az functionapp config appsettings set",
            "func azure functionapp publish",
            "az functionapp scale config set",
            "az functionapp scale config always-ready set",
            "az deployment group create",
            "az functionapp config access-restriction add",
            "az role definition create",
            "az ad sp create-for-rbac",
            "az role assignment create --assignee uploader@example.com",
        )
    },
    (EVENTS, "az eventgrid topic create"): AZURE,
    (UPLOADING, "GROUP=certcast STORAGE=certcaststate"): AZURE,
    (SOURCES, "SOURCE_ID=$(az keyvault show"): AZURE,
    (SOURCES, "az eventgrid system-topic create"): AZURE,
    (EVENTS, "az eventgrid event-subscription create"): AZURE,
    (DASHBOARD, "GROUP=certcast APP=certcast-app\naz functionapp function keys set"): AZURE,
    (DASHBOARD, "GROUP=certcast APP=certcast-app\nTENANT=$(az account show"): AZURE,
    (DEPLOY, "sudo systemctl disable"): "changes the machine, and needs an Azure subscription",
    (OPERATIONS, "for table in uploads bindings instances"): AZURE,
    (OPERATIONS, 'api="https://$APP.azurewebsites.net/'): "it is run by tests/acceptance/test_key_rotation.py",
    (IIS, "python -m instance_agent selftest"): "needs IIS; tests/unit/instance_agent/windows tries its parts",
    (IIS, "pip install --require-hashes"): "needs Windows; infra/agent/install.ps1 does the same",
    (TARGETS / "haproxy.md", "install -d -m 700 /etc/haproxy/certcast"): MACHINE,
    (TARGETS / "nginx.md", "apt-get install nginx"): MACHINE,
    (RELEASING, "sha256sum --check"): "it is run by tests/integration/project/test_release.py",
    (RELEASING, "gh attestation verify"): "needs a release on GitHub",
    (RELEASING, "python3 dev.py release"): "its parts are tests/integration/project/test_release.py; it also runs lint",
    (RELEASING, "git tag --sign"): "publishes a release",
    (VERDICTS, "Get-PfxData"): "needs Windows",
    (VERDICTS, "certutil -setreg"): "needs Windows Server with an authority",
    (VERDICTS, "az keyvault secret show"): AZURE,
    (HOW_TO / "github-actions.md", "GROUP=certcast STORAGE=ACCOUNT"): AZURE,
    (HOW_TO / "github-actions.md", "ACCOUNT_ID=$(az storage account show"): AZURE,
    (HOW_TO / "github-actions.md", "az keyvault secret download"): AZURE,
    (HOW_TO / "github-actions.md", "uv build --wheel"): "asks a package index; the workflow's own steps are run",
    (HOW_TO / "azure-devops.md", "GROUP=certcast STORAGE=ACCOUNT"): AZURE,
    (HOW_TO / "key-vault-acme.md", "VAULT=CERTIFICATES NAME="): AZURE,
}
"""What no test of this folder runs, and why; each is named by its page and its beginning."""

ALL = [shown for page in DOCS for shown in shown_on(page)]


def run() -> set[Shown]:
    for module in MODULES:
        importlib.import_module(module)
    return set(RUN)


@pytest.mark.parametrize("shown", ALL, ids=str)
def test_a_block_of_commands_is_run_or_has_a_reason_why_it_is_not(shown: Shown) -> None:
    reasons = [why for (page, begins), why in NOT_RUN.items() if page == shown.page and shown.text.startswith(begins)]
    assert len(reasons) == (0 if shown in run() else 1), "run it in a test of tests/docs, or put it into NOT_RUN"


@pytest.mark.parametrize(("page", "begins"), NOT_RUN, ids=lambda part: str(part).partition("\n")[0][:60])
def test_the_table_names_blocks_that_there_are(page: Path, begins: str) -> None:
    assert [shown for shown in shown_on(page) if shown.text.startswith(begins)]


def test_there_is_no_other_module_that_runs_commands() -> None:
    modules = (ROOT / "tests" / "docs").glob("test_*.py")
    asking = {path.stem for path in modules if "run_here(" in path.read_text("utf-8")}
    known = {name.removeprefix("tests.docs.") for name in MODULES if name.startswith("tests.docs.")}
    assert asking == known | {Path(__file__).stem}


@pytest.mark.parametrize("why", sorted({*NOT_RUN.values()}))
def test_a_test_that_a_reason_names_is_there(why: str) -> None:
    assert all((ROOT / named).exists() for named in re.findall(r"\b(?:tests|infra)/[\w/.]+\w", why))


def test_what_needs_azure_is_parsed_as_azure_cli_does() -> None:
    assert {page for (page, _), why in NOT_RUN.items() if why == AZURE} <= set(SCRIPTS)


CMDLETS = {
    "Export-PfxCertificate": {"-ChainOption", "-FilePath", "-Password"},
    "Get-Item": set(),
    "Get-PfxData": {"-FilePath", "-Password"},
    "Read-Host": {"-AsSecureString"},
    "Restart-Service": set(),
    "certutil": {"-setreg"},
}
"""What blocks for PowerShell use, with the parameters (learn.microsoft.com/powershell/module, and "certutil")."""


@pytest.mark.parametrize("shown", [shown for shown in ALL if shown.language == "powershell"], ids=str)
def test_powershell_has_these_commands_with_these_parameters(shown: Shown) -> None:
    calls = re.split(r"[|;()\n]+", shown.text)
    for words in filter(None, (call.split() for call in calls)):
        assert {word for word in words[1:] if word.startswith("-")} <= CMDLETS[words[0]], words


def options_of(name: str) -> set[str]:
    context = click.Context(certcast, info_name="certcast")
    command = certcast.get_command(context, name)
    assert command is not None
    return {option for parameter in command.get_params(context) for option in parameter.opts if option.startswith("--")}


def common() -> set[str]:
    """What the page says once, for all commands that have it."""
    return set(re.findall(r"--[\w-]+", prose_of(COMMANDS).partition("\n## check\n")[0])) | {"--help"}


@pytest.mark.parametrize("name", [*SYNOPSES])
def test_a_synopsis_has_the_options_that_its_command_has(name: str) -> None:
    shown = set(re.findall(r"--[\w-]+", SYNOPSES[name]))
    assert shown <= options_of(name)
    assert options_of(name) - common() <= shown


INLINE = [
    (page, re.sub(r"\s+", " ", span))
    for page in DOCS
    for span in re.findall(r"`certcast ([a-z][^`…]*)`", prose_of(page))
]


def test_sentences_name_commands() -> None:
    assert len(INLINE) > 20


@pytest.mark.parametrize(("page", "words"), sorted(set(INLINE)), ids=str)
def test_a_command_of_ours_within_a_sentence_is_one(page: Path, words: str) -> None:
    name = words.partition(" ")[0]
    assert set(re.findall(r"--[\w-]+", words)) <= options_of(name), page
