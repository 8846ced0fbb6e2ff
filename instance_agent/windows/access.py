"""Who owns and may read a file on Windows: gives it to SYSTEM and Administrators alone, and judges one by its SDDL."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_FOLDER = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
"""The Administrators' own, protected from inheritance; full access for LocalSystem and them, whatever their names.

https://learn.microsoft.com/en-us/windows/win32/secauthz/security-descriptor-definition-language
"""
_TRUSTED = frozenset({"SY", "S-1-5-18", "BA", "S-1-5-32-544", "OW", "S-1-3-4"})
_ENTRY = re.compile(r"\((?P<kind>[A-Z]+);(?P<flags>[A-Z]*);(?P<rights>[^;]*);[^;]*;[^;]*;(?P<account>[^;)]+)[^)]*\)")
_OWNER = re.compile(r"O:(?P<owner>[A-Z]{2}|S-[0-9-]+)")
_ALREADY_EXISTS = 183  # ERROR_ALREADY_EXISTS
_LINK = 0x400  # FILE_ATTRIBUTE_REPARSE_POINT
_READING = ("GA", "GR", "FA", "FR", "CC", "KA", "KR")
_FILE_READ_DATA = 0x1
_GENERIC_ALL_OR_READ = 0x90000000


def exposed_to(sddl: str) -> list[str]:
    """The accounts other than SYSTEM and Administrators that a security descriptor lets read.

    Args:
        sddl: With its discretionary access list, and its owner, who can change that list.

    Returns:
        Their SIDs or SDDL abbreviations (`BU` is the users, `WD` everyone); `everyone` where there is no list at all.
    """
    head, found, access_list = sddl.partition("D:")
    if not found or access_list.startswith("NO_ACCESS_CONTROL"):
        return ["everyone"]
    owner = _OWNER.match(head)
    owners = {owner["owner"]} - _TRUSTED if owner else set()
    discretionary = access_list.partition("S:")[0]
    exposed = [
        entry["account"]
        for entry in _ENTRY.finditer(discretionary)
        if entry["kind"] in {"A", "XA", "OA"}
        and "IO" not in re.findall("..", entry["flags"])
        and _reads(entry["rights"])
        and entry["account"] not in _TRUSTED
    ]
    return sorted({*exposed, *owners})


def _reads(rights: str) -> bool:
    if rights.lower().startswith("0x"):
        return bool(int(rights, 16) & (_FILE_READ_DATA | _GENERIC_ALL_OR_READ))
    return any(right in _READING for right in re.findall("..", rights))


def make_private(folder: Path) -> None:
    """Make the folder, and what is in it, the Administrators' own, with access for them and SYSTEM alone.

    It is so from its first moment. One that is there already must be theirs: every account can make folders in
    %ProgramData%, and what it put there would be read as our settings.

    Raises:
        ConfigurationError: Another account made it, it is a link, or this process may not.
    """
    security, files = importlib.import_module("win32security"), importlib.import_module("win32file")
    descriptor = security.ConvertStringSecurityDescriptorToSecurityDescriptor(PRIVATE_FOLDER, security.SDDL_REVISION_1)
    try:
        _make(folder, descriptor, security, files)
        for path in (folder, *sorted(folder.rglob("*"))):
            _refuse_link(path)
            _give(path, descriptor, security)
    except files.error as error:
        raise ConfigurationError(f"{folder} cannot be made private ({error.strerror}): run elevated") from error


def _make(folder: Path, descriptor: Any, security: Any, files: Any) -> None:  # noqa: ANN401 - pywin32's objects
    attributes = security.SECURITY_ATTRIBUTES()
    attributes.SECURITY_DESCRIPTOR = descriptor
    try:
        files.CreateDirectory(str(folder), attributes)
    except files.error as error:
        if error.winerror != _ALREADY_EXISTS:
            raise
    else:
        return
    refuse_foreign(folder)


def refuse_foreign(folder: Path) -> None:
    """See that a folder is the Administrators' or SYSTEM's; one that is not there is nobody's.

    Raises:
        ConfigurationError: Another account made it, it is a link, or this process may not look.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    _refuse_link(folder)
    security = importlib.import_module("win32security")
    try:
        found = security.GetNamedSecurityInfo(str(folder), security.SE_FILE_OBJECT, security.OWNER_SECURITY_INFORMATION)
    except security.error as error:
        raise ConfigurationError(f"the owner of {folder} cannot be seen ({error.strerror}): run elevated") from error
    owner = str(security.ConvertSidToStringSid(found.GetSecurityDescriptorOwner()))
    if owner not in _TRUSTED:
        raise ConfigurationError(
            f"{folder} was made by another account ({owner}), which could have put anything there: look at what it "
            "holds, delete it, and try again"
        )


def _refuse_link(path: Path) -> None:
    """What is a link now may be one to elsewhere in a moment: nothing of ours is."""
    if path.is_symlink() or getattr(path.lstat(), "st_file_attributes", 0) & _LINK:
        raise ConfigurationError(f"{path} is a link, which certcast does not make there: delete it, and try again")


def _give(path: Path, descriptor: Any, security: Any) -> None:  # noqa: ANN401 - pywin32's objects
    security.SetNamedSecurityInfo(
        str(path),
        security.SE_FILE_OBJECT,
        security.OWNER_SECURITY_INFORMATION
        | security.DACL_SECURITY_INFORMATION
        | security.PROTECTED_DACL_SECURITY_INFORMATION,
        descriptor.GetSecurityDescriptorOwner(),
        None,
        descriptor.GetSecurityDescriptorDacl(),
        None,
    )


def read_sddl(path: Path) -> str:
    """The security descriptor of a file as SDDL: its owner and its access list."""
    security = importlib.import_module("win32security")
    wanted = security.OWNER_SECURITY_INFORMATION | security.DACL_SECURITY_INFORMATION
    descriptor = security.GetNamedSecurityInfo(str(path), security.SE_FILE_OBJECT, wanted)
    convert = security.ConvertSecurityDescriptorToStringSecurityDescriptor
    return str(convert(descriptor, security.SDDL_REVISION_1, wanted))
