"""The files around the Functions app: what is uploaded when it is deployed, and how the host is set."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.deployment import ROOT, core_tools_ignores, deployed_files, gitignore_ignores, repository_files

WITH_THREADS = {("shared", "azure"), ("shared", "sources"), ("shared", "telemetry")}
IGNORING = {"Core Tools": core_tools_ignores, "azd": gitignore_ignores}


def load(name: str) -> Any:
    return json.loads((ROOT / name).read_text("utf-8"))


@pytest.mark.parametrize("tool", IGNORING)
def test_only_the_app_and_shared_are_deployed(tool: str) -> None:
    deployed = {path.as_posix() for path in repository_files() if not IGNORING[tool](path)}
    assert {path for path in deployed if not path.startswith("shared/")} == {
        "function_app.py",
        "host.json",
        "requirements.txt",
    }


def test_all_of_shared_is_deployed() -> None:
    source = {path for path in repository_files() if path.parts[0] == "shared"}
    assert Path("shared/errors.py") in source
    assert source <= set(deployed_files())


@pytest.mark.parametrize("tool", IGNORING)
@pytest.mark.parametrize(
    "path",
    [
        "local.settings.json",
        ".certcast/key-encryption.key",
        ".venv/lib/python3.11/site-packages/azure/__init__.py",
        ".venv-3.13/pyvenv.cfg",
        "node_modules/azurite/package.json",
        "__pycache__/function_app.cpython-311.pyc",
        "shared/__pycache__/errors.cpython-311.pyc",
        ".git/config",
        ".python_packages/lib/site-packages/idna/core.py",
        "infra/main.bicep",
        "azure.yaml",
    ],
)
def test_what_a_working_copy_gathers_is_not_deployed(tool: str, path: str) -> None:
    assert IGNORING[tool](Path(path))


@pytest.mark.parametrize("path", ["shared/validation/judge.py", "function_app.py", "host.json", "requirements.txt"])
def test_both_tools_deploy_the_app_itself(path: str) -> None:
    assert not core_tools_ignores(Path(path))
    assert not gitignore_ignores(Path(path))


def test_the_queue_settings_lose_no_second_and_no_message() -> None:
    assert load("host.json")["extensions"]["queues"] == {
        "batchSize": 16,
        "newBatchThreshold": 8,
        "maxPollingInterval": "00:00:00.500",
        "visibilityTimeout": "00:00:05",
        "maxDequeueCount": 5,
        "messageEncoding": "base64",
    }


def test_the_host_loads_the_current_extension_bundle() -> None:
    bundle = load("host.json")["extensionBundle"]
    assert bundle["id"] == "Microsoft.Azure.Functions.ExtensionBundle"
    assert re.fullmatch(r"\[4\.\S+, 5\.0\.0\)", bundle["version"])


def test_the_example_settings_name_every_setting_a_first_run_needs() -> None:
    values = load("local.settings.json.example")["Values"]
    assert values["FUNCTIONS_WORKER_RUNTIME"] == "python"
    assert values["AzureWebJobsStorage"] == values["CERTCAST_STORAGE"] == "UseDevelopmentStorage=true"
    assert values["CERTCAST_TRUST"] == "off"
    assert values["CERTCAST_SCRUB_PASSWORD"] == "true"
    assert values["CERTCAST_KEY_VAULTS"] == ""
    assert values["CERTCAST_KEY_ENCRYPTION_KEY"].startswith("file:")


# What threads of other libraries have to say is kept until a task comes by.
NO_THREADS = {Path("shared/telemetry/log_lines.py"), Path("shared/telemetry/now_and_then.py")}
IN_THREADS = [
    path
    for path in repository_files()
    if path.suffix == ".py" and path.parts[:2] in WITH_THREADS and path not in NO_THREADS
]


@pytest.mark.parametrize("path", IN_THREADS, ids=str)
def test_what_may_run_in_a_thread_logs_nothing(path: Path) -> None:
    """A log record of a thread belongs to no invocation, and the host drops it (docs/azure-differences.md)."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    plain = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    calls = [call for node in plain for call in ast.walk(node) if isinstance(call, ast.Call)]
    assert not [ast.unparse(call) for call in calls if ast.unparse(call.func).startswith(("log.", "logging."))]


def test_the_edges_are_where_threads_begin() -> None:
    begin = ("to_thread", "run_in_executor", "threading.Thread")
    modules = [path for path in repository_files() if path.suffix == ".py" and path.parts[0] == "shared"]
    found = {path.parts[:2] for path in modules if any(word in (ROOT / path).read_text("utf-8") for word in begin)}
    assert found == WITH_THREADS


def test_nothing_of_the_app_forks() -> None:
    """The worker has threads of its own, and a fork of it may hang; `subprocess` begins another program."""
    app = [
        path for path in repository_files() if path.suffix == ".py" and path.parts[0] in {"shared", "function_app.py"}
    ]
    forking = re.compile(r"\bos\.fork|\bmultiprocessing\b|ProcessPoolExecutor|preexec_fn")
    assert [path for path in app if forking.search((ROOT / path).read_text("utf-8"))] == []
