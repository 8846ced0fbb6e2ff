"""The HRESULTs that IIS administrators meet, in words and with their cure."""

from __future__ import annotations

from typing import Final

CLASS_NOT_REGISTERED: Final = 0x80040154
ACCESS_DENIED: Final = 0x80070005
SHARING_VIOLATION: Final = 0x80070020
ALREADY_EXISTS: Final = 0x800700B7
NO_LOGON_SESSION: Final = 0x80070520
INVALID_INDEX: Final = 0x80070585
INVALID_OBJECT: Final = 0x800710D8

_CURES: Final = {
    CLASS_NOT_REGISTERED: (
        "the IIS management components are missing: install the Windows feature 'IIS Management Scripts and Tools' "
        "(Install-WindowsFeature Web-Scripting-Tools)"
    ),
    ACCESS_DENIED: "access was denied: run the agent elevated, as the Windows service under LocalSystem does",
    SHARING_VIOLATION: "another program is writing the IIS configuration; it is tried again",
    ALREADY_EXISTS: "the site already has that binding",
    NO_LOGON_SESSION: (
        "the private key of the certificate cannot be used, or the certificate is not in the store: remove it from the "
        "store and let the agent import it again"
    ),
    INVALID_INDEX: "this IIS has no SNI (IIS 7 and older): Windows Server 2012 or later is needed",
    INVALID_OBJECT: "IIS cannot tell the state of the site: its application pool or its bindings are not right",
}


def cure(code: int | None) -> str | None:
    """What the code means on a web server and what to do, or None for other codes."""
    return None if code is None else _CURES.get(code)


def described(message: str, code: int | None) -> str:
    """The system's message with the code and, where there is one, the cure."""
    known = cure(code)
    text = " ".join(message.split()).rstrip(".")
    if code is not None:
        text = f"{text} (0x{code:08X})"
    return text if known is None else f"{text}: {known}"
