"""Judges whether a machine can run the IIS targets: facts in, one line for each with its cure out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from instance_agent.targets.iis.gateway import FIRST_IIS_WITH_SNI, FIRST_IIS_WITH_WILDCARDS
from instance_agent.targets.iis.hresult import described

_BITS = 64
_FIRST_DOTNET_RELEASE = 394802  # .NET Framework 4.6.2, the oldest that pythonnet 3 supports
_INSTALL_IIS = "install it with: Install-WindowsFeature Web-Server, Web-Scripting-Tools"


class ServiceState(StrEnum):
    """A Windows service as far as it matters here."""

    RUNNING = "running"
    STOPPED = "stopped"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was found out about the machine.

    Attributes:
        windows: Whether it runs Windows at all.
        python_bits: 32 or 64.
        elevated: Whether this process has an administrator's rights.
        w3svc: State of the World Wide Web Publishing Service.
        iis_version: From the registry; None where IIS is not installed.
        dotnet_release: `Release` of .NET Framework 4 from the registry; None where it is not installed.
        pythonnet: Whether pythonnet can be imported.
        administration: Why Microsoft.Web.Administration could not be used; None where it could or was not tried.
        administration_code: The HRESULT with it.
        settings_exposed: Accounts other than SYSTEM and Administrators that may read the settings file.
    """

    windows: bool
    python_bits: int
    elevated: bool = False
    w3svc: ServiceState = ServiceState.MISSING
    iis_version: tuple[int, int] | None = None
    dotnet_release: int | None = None
    pythonnet: bool = False
    administration: str | None = None
    administration_code: int | None = None
    settings_exposed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the preflight.

    Attributes:
        sound: Whether all is well with it.
        line: What was found and, where it is not sound, the cure.
    """

    sound: bool
    line: str


def judge(machine: Machine) -> tuple[Finding, ...]:
    """One finding for each thing the IIS targets need, in the order in which to put them right."""
    if not machine.windows:
        return (Finding(False, "this is not Windows; only the files of the target iis-ccs can be written here"),)
    judges = (_python, _elevation, _service, _iis, _dotnet, _pythonnet, _administration, _settings)
    return tuple(judge_one(machine) for judge_one in judges)


def _python(machine: Machine) -> Finding:
    if machine.python_bits == _BITS:
        return Finding(True, "Python is 64-bit")
    bits = machine.python_bits
    return Finding(False, f"Python is {bits}-bit and would see another IIS configuration; install a 64-bit Python")


def _elevation(machine: Machine) -> Finding:
    if machine.elevated:
        return Finding(True, "the process is elevated")
    cure = "start it as administrator, or install the service with install-service"
    return Finding(False, f"the process is not elevated; {cure}")


def _service(machine: Machine) -> Finding:
    match machine.w3svc:
        case ServiceState.RUNNING:
            return Finding(True, "W3SVC is running")
        case ServiceState.STOPPED:
            return Finding(False, "W3SVC is not running; start it with: Start-Service W3SVC")
        case ServiceState.MISSING:
            return Finding(False, f"W3SVC is not there; {_INSTALL_IIS}")


def _iis(machine: Machine) -> Finding:
    if machine.iis_version is None:
        return Finding(False, f"IIS is not in the registry; {_INSTALL_IIS}")
    name = "IIS {}.{}".format(*machine.iis_version)
    if machine.iis_version[0] < FIRST_IIS_WITH_SNI:
        return Finding(False, f"{name} has no SNI (0x80070585); Windows Server 2012 or later is needed")
    if machine.iis_version[0] < FIRST_IIS_WITH_WILDCARDS:
        return Finding(True, f"{name}: hosts with a wildcard will be refused, they need IIS 10")
    return Finding(True, name)


def _dotnet(machine: Machine) -> Finding:
    if machine.dotnet_release is None or machine.dotnet_release < _FIRST_DOTNET_RELEASE:
        return Finding(False, ".NET Framework 4.6.2 or later is missing; install .NET Framework 4.8")
    return Finding(True, f".NET Framework 4, release {machine.dotnet_release}")


def _pythonnet(machine: Machine) -> Finding:
    if machine.pythonnet:
        return Finding(True, "pythonnet is installed")
    return Finding(False, "pythonnet is missing: install what requirements.lock beside install.ps1 lists")


def _administration(machine: Machine) -> Finding:
    if machine.administration is None:
        return Finding(True, "Microsoft.Web.Administration reads the configuration")
    text = described(machine.administration, machine.administration_code)
    return Finding(False, f"Microsoft.Web.Administration cannot be used: {text}")


def _settings(machine: Machine) -> Finding:
    if not machine.settings_exposed:
        return Finding(True, "the settings file is for SYSTEM and Administrators only, or there is none")
    accounts = ", ".join(machine.settings_exposed)
    cure = "run install-service again, which leaves it to SYSTEM and Administrators"
    return Finding(False, f"the settings file can be read by {accounts}; {cure}")
