"""Who may read a file on Windows: sets an access list for SYSTEM and Administrators and reads one from its SDDL."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_FOLDER = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
"""Protected from inheritance; full access for LocalSystem and the Administrators, whatever language names them.

https://learn.microsoft.com/en-us/windows/win32/secauthz/security-descriptor-definition-language
"""
_TRUSTED = frozenset({"SY", "S-1-5-18", "BA", "S-1-5-32-544", "OW", "S-1-3-4"})
_ENTRY = re.compile(r"\((?P<kind>[A-Z]+);(?P<flags>[A-Z]*);(?P<rights>[^;]*);[^;]*;[^;]*;(?P<account>[^;)]+)[^)]*\)")
_READING = ("GA", "GR", "FA", "FR", "CC", "KA", "KR")
_FILE_READ_DATA = 0x1
_GENERIC_ALL_OR_READ = 0x90000000


def exposed_to(sddl: str) -> list[str]:
    """The accounts other than SYSTEM and Administrators that a security descriptor lets read.

    Args:
        sddl: With its discretionary access list.

    Returns:
        Their SIDs or SDDL abbreviations (`BU` is the users, `WD` everyone); `everyone` where there is no list at all.
    """
    _, found, access_list = sddl.partition("D:")
    if not found or access_list.startswith("NO_ACCESS_CONTROL"):
        return ["everyone"]
    discretionary = access_list.partition("S:")[0]
    exposed = [
        entry["account"]
        for entry in _ENTRY.finditer(discretionary)
        if entry["kind"] in {"A", "XA", "OA"}
        and "IO" not in re.findall("..", entry["flags"])
        and _reads(entry["rights"])
        and entry["account"] not in _TRUSTED
    ]
    return sorted(set(exposed))


def _reads(rights: str) -> bool:
    if rights.lower().startswith("0x"):
        return bool(int(rights, 16) & (_FILE_READ_DATA | _GENERIC_ALL_OR_READ))
    return any(right in _READING for right in re.findall("..", rights))


def make_private(folder: Path) -> None:
    """Make the folder, and give SYSTEM and Administrators alone access to it and to what is in it.

    The list is set on the folder before anything is written into it, and on what is there already.
    """
    security = importlib.import_module("win32security")
    convert = security.ConvertStringSecurityDescriptorToSecurityDescriptor
    descriptor = convert(PRIVATE_FOLDER, security.SDDL_REVISION_1)
    information = security.DACL_SECURITY_INFORMATION | security.PROTECTED_DACL_SECURITY_INFORMATION
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder, *folder.iterdir()):
        security.SetNamedSecurityInfo(
            str(path),
            security.SE_FILE_OBJECT,
            information,
            None,
            None,
            descriptor.GetSecurityDescriptorDacl(),
            None,
        )


def read_sddl(path: Path) -> str:
    """The security descriptor of a file as SDDL."""
    security = importlib.import_module("win32security")
    descriptor = security.GetNamedSecurityInfo(str(path), security.SE_FILE_OBJECT, security.DACL_SECURITY_INFORMATION)
    convert = security.ConvertSecurityDescriptorToStringSecurityDescriptor
    return str(convert(descriptor, security.SDDL_REVISION_1, security.DACL_SECURITY_INFORMATION))
