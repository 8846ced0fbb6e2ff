"""Facts about this Windows machine: registry, services, rights, addresses."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from instance_agent.targets.iis.bindings import EVERYTHING
from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.preflight import Machine, ServiceState
from instance_agent.windows.access import exposed_to, read_sddl
from instance_agent.windows.dotnet import load_assembly, load_framework
from instance_agent.windows.sites import DotNetGateway
from shared.errors import ConfigurationError

_IIS_KEY = r"SOFTWARE\Microsoft\InetStp"
_DOTNET_KEY = r"SOFTWARE\Microsoft\NET Framework Setup\NDP\v4\Full"
_DOCUMENTATION_ADDRESS = ("192.0.2.1", 9)  # RFC 5737: for documentation


def windows_folder() -> Path:
    r"""`C:\Windows` on most machines."""
    return Path(os.environ.get("SystemRoot", r"C:\Windows"))  # noqa: SIM112 - so spelled on Windows


def program_data() -> Path:
    """Where the agent's settings are."""
    return Path(os.environ.get("ProgramData", r"C:\ProgramData"), "certcast")  # noqa: SIM112 - so spelled on Windows


def administration_assembly() -> Path:
    """IIS's own Microsoft.Web.Administration 7.0.0.0."""
    return windows_folder() / "System32" / "inetsrv" / "Microsoft.Web.Administration.dll"


def iis_version() -> tuple[int, int]:
    """From the registry.

    Raises:
        GatewayError: IIS is not installed.
    """
    version = _iis_version()
    if version is None:
        raise GatewayError("IIS is not installed: Install-WindowsFeature Web-Server, Web-Scripting-Tools")
    return version


def windows_build() -> int:
    """Build number of this Windows, which tells its version where IIS says 10.0 of several."""
    version: Any = getattr(sys, "getwindowsversion", None)
    return 0 if version is None else int(version().build)


def own_address() -> str:
    """The IPv4 address this machine is reached at from outside; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_DOCUMENTATION_ADDRESS)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def look_around() -> Machine:
    """Everything the preflight judges; each thing found out whatever became of the others."""
    if sys.platform != "win32":
        return Machine(windows=False, python_bits=struct.calcsize("P") * 8)
    administration, code = _administration()
    release = _registry_number(_DOTNET_KEY, "Release")
    settings = program_data() / "agent.toml"
    return Machine(
        windows=True,
        python_bits=struct.calcsize("P") * 8,
        elevated=bool(ctypes.windll.shell32.IsUserAnAdmin()),
        w3svc=_service_state("W3SVC"),
        iis_version=_iis_version(),
        dotnet_release=release,
        pythonnet=importlib.util.find_spec("pythonnet") is not None,
        administration=administration,
        administration_code=code,
        settings_exposed=exposed_to(read_sddl(settings)) if settings.exists() else (),
    )


def _administration() -> tuple[str | None, int | None]:
    """Try what the gateway does first: load the assembly and read the sites."""
    try:
        load_framework()
        load_assembly(administration_assembly())
        with DotNetGateway(iis_version).session() as session:
            session.sites(EVERYTHING)
    except ConfigurationError as error:
        return str(error), None
    except GatewayError as error:
        return str(error), error.code
    except Exception as error:  # noqa: BLE001 - a preflight tells what is wrong, and does not end with it
        return f"{type(error).__name__}: {error}", None
    return None, None


def _iis_version() -> tuple[int, int] | None:
    major, minor = _registry_number(_IIS_KEY, "MajorVersion"), _registry_number(_IIS_KEY, "MinorVersion")
    return None if major is None or minor is None else (major, minor)


def _registry_number(key: str, name: str) -> int | None:
    registry: Any = importlib.import_module("winreg")
    try:
        with registry.OpenKey(registry.HKEY_LOCAL_MACHINE, key, 0, registry.KEY_READ | registry.KEY_WOW64_64KEY) as it:
            return int(registry.QueryValueEx(it, name)[0])
    except (OSError, ValueError):
        return None


def _service_state(name: str) -> ServiceState:
    service: Any = importlib.import_module("win32service")
    manager = service.OpenSCManager(None, None, service.SC_MANAGER_CONNECT)
    try:
        handle = service.OpenService(manager, name, service.SERVICE_QUERY_STATUS)
    except service.error:
        return ServiceState.MISSING
    else:
        running = service.QueryServiceStatus(handle)[1] == service.SERVICE_RUNNING
        service.CloseServiceHandle(handle)
        return ServiceState.RUNNING if running else ServiceState.STOPPED
    finally:
        service.CloseServiceHandle(manager)
