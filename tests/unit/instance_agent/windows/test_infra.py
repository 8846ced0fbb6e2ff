"""The fragments that bring the agent onto Windows role instances name only what there is."""

import re
from xml.etree import ElementTree as ET

from tests.rigs.deployment import ROOT

INFRA = ROOT / "infra"
INSTALLER = (INFRA / "agent" / "install.ps1").read_text("utf-8")
CSDEF = "{http://schemas.microsoft.com/ServiceHosting/2008/10/ServiceDefinition}"


def parameters() -> set[str]:
    block = INSTALLER[INSTALLER.index("\nparam(") : INSTALLER.index("\nSet-StrictMode")]
    return set(re.findall(r"^\s+\[string(?:\[\])?\] \$(\w+)", block, re.MULTILINE))


def test_the_startup_task_is_elevated_runs_in_the_background_and_knows_its_instance() -> None:
    root = ET.parse(INFRA / "cloud-service" / "ServiceDefinition.fragment.csdef").getroot()  # noqa: S314 - our own file
    (task,) = root.iter(f"{CSDEF}Task")
    assert (task.get("executionContext"), task.get("taskType")) == ("elevated", "background")
    assert (INFRA / "cloud-service" / str(task.get("commandLine"))).is_file()
    variables = {it.get("name"): it.find(f"{CSDEF}RoleInstanceValue") for it in task.iter(f"{CSDEF}Variable")}
    instance = variables["RoleInstanceID"]
    assert instance is not None
    assert instance.get("xpath") == "/RoleEnvironment/CurrentInstance/@id"


def test_the_startup_command_uses_variables_and_parameters_that_there_are() -> None:
    command = (INFRA / "cloud-service" / "startup.cmd").read_text("utf-8")
    csdef = (INFRA / "cloud-service" / "ServiceDefinition.fragment.csdef").read_text("utf-8")
    for variable in ("RoleInstanceID", "CERTCAST_EMULATED", "CERTCAST_WHEEL_SHA256"):
        assert f"%{variable}%" in command
        assert f'name="{variable}"' in csdef
    line = next(line for line in command.splitlines() if "install.ps1" in line and not line.startswith("rem"))
    used = set(re.findall(r" -([A-Z]\w+) ", line[line.index("install.ps1") :]))
    assert used == {"PackageHash", "SettingsFile", "Setting"}
    assert used <= parameters()


def test_the_scale_sets_extension_calls_the_installer_with_its_parameters_and_no_secret() -> None:
    bicep = (INFRA / "scale-set" / "agent-extension.bicep").read_text("utf-8")
    command = next(line for line in bicep.splitlines() if "commandToExecute" in line)
    used = set(re.findall(r" -([A-Z]\w+)", command[command.index("install.ps1") :]))
    assert used == {"PackageHash", "RequirementsHash", "Setting"}
    assert used <= parameters()
    assert "CERTCAST_STORAGE=" not in bicep
    assert "AccountKey" not in bicep


def test_the_installer_checks_what_it_downloads_and_hands_over_no_secret_in_arguments() -> None:
    assert "Get-AuthenticodeSignature" in INSTALLER
    assert INSTALLER.index("'install-service'") < INSTALLER.rindex("Write-Settings")
