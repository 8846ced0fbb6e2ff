"""Loads .NET and assemblies, and turns .NET exceptions into the gateways' errors."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from instance_agent.targets.iis.gateway import CommitConflictError, GatewayError
from instance_agent.targets.iis.hresult import SHARING_VIOLATION
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HRESULT_MASK = 0xFFFFFFFF


def load_framework() -> None:
    """Load .NET Framework into this process, for its whole life.

    Raises:
        ConfigurationError: pythonnet or .NET Framework is missing.
    """
    try:
        importlib.import_module("pythonnet").load("netfx")
    except ImportError as error:
        raise ConfigurationError(
            "the IIS targets need pythonnet: install what requirements.lock beside install.ps1 lists"
        ) from error
    except RuntimeError as error:
        raise ConfigurationError(f".NET Framework cannot be loaded: {error}; install .NET Framework 4.8") from error


def load_assembly(path: Path) -> None:
    """Load an assembly from a file, so that no other version from the global cache takes its place.

    IIS Express puts a Microsoft.Web.Administration of its own there, which reads another configuration.

    Raises:
        ConfigurationError: The file is missing or cannot be loaded.
    """
    if not path.is_file():
        raise ConfigurationError(
            f"{path} is missing: install the Windows feature 'IIS Management Scripts and Tools' "
            "(Install-WindowsFeature Web-Scripting-Tools)"
        )
    importlib.import_module("clr")
    system = namespace("System")
    try:
        system.Reflection.Assembly.LoadFrom(str(path))
    except system.Exception as error:
        raise ConfigurationError(f"{path} cannot be loaded: {error.Message}; a 64-bit Python is needed") from error


def namespace(name: str) -> Any:  # noqa: ANN401 - pythonnet makes these modules at run time
    """A .NET namespace as a module."""
    importlib.import_module("clr")
    return importlib.import_module(name)


@contextmanager
def translated() -> Iterator[None]:
    """Raise .NET exceptions as `GatewayError`, commit conflicts as `CommitConflictError`.

    A commit over another program's is a FileLoadException; while the file is being written it is 0x80070020.
    """
    system = namespace("System")
    try:
        yield
    except system.IO.FileLoadException as error:
        raise CommitConflictError(str(error.Message), code=error.HResult & _HRESULT_MASK) from error
    except system.Exception as error:
        code = error.HResult & _HRESULT_MASK
        kind = CommitConflictError if code == SHARING_VIOLATION else GatewayError
        raise kind(str(error.Message), code=code) from error
