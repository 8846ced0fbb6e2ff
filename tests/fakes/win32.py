"""pywin32's calls about owners and access lists, on folders of this machine: who owns what is kept in memory."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ADMINISTRATORS, SYSTEM, MALLORY = "S-1-5-32-544", "S-1-5-18", "S-1-5-21-1-2-3-1001"
_NAMES = {"BA": ADMINISTRATORS, "SY": SYSTEM}
_ALREADY_EXISTS, _ACCESS_DENIED = 183, 5


class Win32Error(Exception):
    """As `pywintypes.error`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.winerror, self.strerror = code, text


@dataclass
class Descriptor:
    """A security descriptor."""

    owner: str
    access: str

    def GetSecurityDescriptorOwner(self) -> str:  # noqa: N802 - pywin32's name
        return self.owner

    def GetSecurityDescriptorDacl(self) -> str:  # noqa: N802 - pywin32's name
        return self.access


@dataclass
class Win32:
    """The machine.

    Attributes:
        of: Owner and access list of each path.
        elevated: Whether this process may give things to the Administrators.
        meanwhile: Called before a folder is made.
    """

    of: dict[Path, Descriptor] = field(default_factory=dict)
    elevated: bool = True
    meanwhile: Callable[[], None] = lambda: None

    def CreateDirectory(self, name: str, attributes: Any) -> None:  # noqa: N802 - pywin32's name
        self.meanwhile()
        self._require_elevated()
        path = Path(name)
        if path.exists() or path.is_symlink():
            raise Win32Error(_ALREADY_EXISTS, "Cannot create a file when that file already exists.")
        path.mkdir()
        self.of[path] = attributes.SECURITY_DESCRIPTOR

    def GetNamedSecurityInfo(self, name: str, _kind: int, _wanted: int) -> Descriptor:  # noqa: N802 - pywin32's name
        return self.of.get(Path(name)) or Descriptor(MALLORY, "everyone's")

    def SetNamedSecurityInfo(self, name: str, _kind: int, wanted: int, owner: str, *others: Any) -> None:  # noqa: N802
        self._require_elevated()
        assert wanted & 1
        assert wanted & 4
        _group, access, _audit = others
        self.of[Path(name)] = Descriptor(owner, access)

    def ConvertStringSecurityDescriptorToSecurityDescriptor(self, sddl: str, _revision: int) -> Descriptor:  # noqa: N802
        owner, _, access = sddl.removeprefix("O:").partition("D:")
        return Descriptor(_NAMES[owner], access)

    def _require_elevated(self) -> None:
        if not self.elevated:
            raise Win32Error(_ACCESS_DENIED, "Access is denied.")

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it in pywin32's place."""
        security, files = ModuleType("win32security"), ModuleType("win32file")
        names = (
            *("GetNamedSecurityInfo", "SetNamedSecurityInfo", "ConvertStringSecurityDescriptorToSecurityDescriptor"),
            "CreateDirectory",
        )
        for module in (security, files):
            vars(module).update({name: getattr(self, name) for name in names}, error=Win32Error)
        vars(security).update(
            SDDL_REVISION_1=1,
            SE_FILE_OBJECT=1,
            OWNER_SECURITY_INFORMATION=1,
            DACL_SECURITY_INFORMATION=4,
            PROTECTED_DACL_SECURITY_INFORMATION=0x80000000,
            SECURITY_ATTRIBUTES=type("SECURITY_ATTRIBUTES", (), {}),
            ConvertSidToStringSid=str,
        )
        monkeypatch.setitem(sys.modules, "win32security", security)
        monkeypatch.setitem(sys.modules, "win32file", files)
