"""The metadata an upload is sent with: what Azure can carry in it, and what it cannot."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.errors import ConfigurationError
from shared.upload import is_canary, is_certificate_name

if TYPE_CHECKING:
    from operator_cli.pfx_file import Candidate, Wish

MAX_METADATA_BYTES = 8192
"""Names and values together (learn.microsoft.com, "Set Blob Metadata")."""

# Metadata travels as HTTP headers, whose values lose spaces at their ends (RFC 9110 section 5.5).
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z")


def blob_name(path_name: str, name: str | None) -> str:
    """The blob to upload to: the one named, else the file's name.

    Raises:
        ConfigurationError: certcast would not look at a blob of that name.
    """
    chosen = name if name is not None else path_name
    try:
        chosen.encode()
    except UnicodeEncodeError:
        raise ConfigurationError("the file's name is not valid text: give the blob a name with --name") from None
    if is_canary(chosen):
        raise ConfigurationError(
            f"a blob named {chosen!r} would be a canary of `certcast doctor`, which is never served: give it another "
            "name with --name"
        )
    if not is_certificate_name(chosen):
        raise ConfigurationError(
            f"a blob named {chosen!r} would not be looked at: names end in .pfx or .p12, and have neither backslashes "
            "nor the folders . and ..; give it one with --name"
        )
    return chosen


def upload_metadata(wish: Wish, candidate: Candidate) -> dict[str, str]:
    """The metadata of an accepted candidate, hosts in their ASCII form, the password with it.

    Raises:
        ConfigurationError: A value is not one that metadata can carry; the text names the way round.
    """
    hosts = candidate.judgement.hosts if wish.hosts else ()
    subject = None if wish.subject is None else _ascii_subject(wish.subject)
    values = replace(wish, hosts=hosts, subject=subject).metadata()
    if candidate.password:
        values["CertificatePassword"] = candidate.password
    for key, value in values.items():
        if not _HEADER_VALUE.match(value):
            raise ConfigurationError(_not_carried(key, value))
    size = sum(len(key) + len(value) for key, value in values.items())
    if size > MAX_METADATA_BYTES:
        raise ConfigurationError(
            f"the metadata has {size} bytes and Azure carries {MAX_METADATA_BYTES}: leave --host out if the "
            "certificate's own names are meant, or upload the file several times under different names with some of "
            "the hosts each"
        )
    return values


def _ascii_subject(subject: str) -> str:
    """Letters outside ASCII as escaped octets, which mean the same in a distinguished name (RFC 4514 section 2.4)."""
    return "".join(
        letter if letter.isascii() else "".join(f"\\{octet:02X}" for octet in letter.encode()) for letter in subject
    )


def _not_carried(key: str, value: str) -> str:
    if key == "CertificatePassword":
        return (
            "the password has characters outside ASCII, or a space at an end, which blob metadata cannot carry: export "
            "the file again with a password of ASCII letters, digits and signs, or upload it with a reference to a Key "
            "Vault secret as its CertificatePassword (docs/commands.md)"
        )
    option = {"SiteName": "--site", "Role": "--role", "CertificateSubject": "--subject"}.get(key, "--host")
    return f"{option} {value!r} has characters that blob metadata cannot carry: use ASCII letters, digits and signs"
