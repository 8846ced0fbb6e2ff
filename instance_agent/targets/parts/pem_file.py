"""One PEM file of ours: its name, the tag in its first line, what it holds and how that is read back.

A file is called `<host>.pem`, `_.<parent>.pem` for a wildcard, `_default_.pem` for the default. PEM readers skip its
first line, the tag: a file with no tag, or with one for another host, was made by hand and is never touched. The tag
tells what followed it, so that a file that was changed by hand is known from one that was not. What a server does with
it is unknown here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, InstalledBinding, ServerUnavailableError
from instance_agent.targets.parts.key_loading import load_bundle
from shared.binding import MAX_PORT
from shared.bundle import BUNDLE_ID, bundle_id_of
from shared.hostnames import DEFAULT_HOST, normalise_host

if TYPE_CHECKING:
    from pathlib import Path

    from instance_agent.targets.base import Install

TAG = "# certcast "
PEM_SUFFIX = ".pem"
LONGEST_NAME = 255
"""NAME_MAX of every usual file system."""

_DEFAULT_NAME = "_default_"  # no host's: host names have no underscores
_LEAF = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


def file_name(host: str) -> str:
    """The host as part of a file name.

    Raises:
        ValueError: It is not a normalised host name, so nothing may be called after it.
    """
    if host == DEFAULT_HOST:
        return _DEFAULT_NAME
    if normalise_host(host) != host:
        raise ValueError(f"'{host}' is not in the form that certcast keeps host names in")
    return f"_{host[1:]}" if host.startswith("*.") else host


def host_of(name: str) -> str:
    """The host whose file has this name; the inverse of `file_name`."""
    if name == _DEFAULT_NAME:
        return DEFAULT_HOST
    return f"*{name[1:]}" if name.startswith("_.") else name


def name_refusal(host: str, port: int, *, suffix: int = len(".conf")) -> str | None:
    """Why no file can be called after a host and port; None when one can.

    Args:
        host: The host.
        port: The port.
        suffix: Length of the longest ending that such a name gets.
    """
    try:
        name = file_name(host)
    except ValueError as error:
        return str(error)
    if not 0 < port <= MAX_PORT:
        return f"{host}:{port} has no port: ports are 1 to {MAX_PORT}"
    if len(name) + suffix > LONGEST_NAME:
        return f"{host} is too long for the name of a file on this machine"
    return None


def is_tagged(content: bytes) -> bool:
    """Whether a file with this content is ours."""
    return content.startswith(TAG.encode())


def not_ours(path: Path) -> str:
    """What to do about a file in the place of one of ours."""
    return f"{path} was not made by certcast: move it away, or remove the upload"


def tag(binding: Install | InstalledBinding, *, pem: bytes | None = None) -> str:
    """The line that marks a file as ours and tells what the certificate alone does not.

    Args:
        binding: What the file is for.
        pem: What follows, where that is a certificate.
    """
    told = {"host": binding.host, "port": binding.port, "bundle": binding.bundle_id, "site": binding.site}
    if pem is not None:
        told["pem"] = hashlib.sha256(pem).hexdigest()
    return f"{TAG}{json.dumps(told)}\n"


def tagged_pem(change: Install) -> bytes:
    """A file's whole content: tag, key, leaf, intermediates.

    Raises:
        ApplyError: OpenSSL does not serve it: the key is another's, or either is too weak. Said here because some
            servers end, rather than go on, when they meet such a file at a reload.
        ServerUnavailableError: It cannot be tried now.
    """
    bundle = change.bundle
    trouble = ""
    if bundle.leaf.public_key() != bundle.key.public_key():
        trouble = "its private key does not belong to it"
    else:
        try:
            load_bundle(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), bundle)
        except ssl.SSLError as error:
            trouble = (error.reason or "unknown reason").replace("_", " ").lower()
        except OSError as error:
            raise ServerUnavailableError(
                f"the certificate for {change.phrased} cannot be tried now: {error.strerror}"
            ) from error
    if trouble:
        raise ApplyError(f"the certificate for {change.phrased} cannot be served: {trouble}", culprit=change.key)
    pem = bundle.to_pem()
    return tag(change, pem=pem).encode() + pem


def decode(content: bytes) -> InstalledBinding | None:
    """The binding that a file's content tells of; None for one that is not ours or not whole.

    One whose certificates or key are others than its tag tells of has an id that no sealed bundle has.
    """
    line, _, pem = content.partition(b"\n")
    if not is_tagged(line):
        return None
    try:
        told = json.loads(line[len(TAG) :])
        site = told["site"]
        if name_refusal(told["host"], told["port"]) is not None:
            return None
        found = held(told["host"], told["port"], pem)
        if found is None:
            return None
        return replace(
            found,
            bundle_id=_told_id(told, found, pem),
            site=site if isinstance(site, str) else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def held(host: str, port: int, content: bytes) -> InstalledBinding | None:
    """What a file holds for a host and port, whatever its tag says; None where it holds no certificate.

    Its id is of the form of a bundle's, and no sealed bundle has it: nothing that was asked for is done by it.
    """
    leaf = _LEAF.search(content)
    if leaf is None:
        return None
    try:
        fingerprint = hashlib.sha256(base64.b64decode(leaf[1])).hexdigest()
    except binascii.Error:
        return None
    return InstalledBinding(
        host=host, port=port, bundle_id=bundle_id_of(fingerprint, content), fingerprint_sha256=fingerprint
    )


def _told_id(told: dict[str, object], found: InstalledBinding, pem: bytes) -> str:
    """The bundle's id that a tag tells, if the file still holds what it tells of."""
    bundle_id, digest = told["bundle"], told.get("pem")  # before 0.2 a tag told no digest
    if not isinstance(bundle_id, str) or not BUNDLE_ID.match(bundle_id):
        bundle_id = ""
    changed = digest is not None and digest != hashlib.sha256(pem).hexdigest()
    another = bundle_id != "" and not bundle_id.startswith(found.fingerprint_sha256)
    return found.bundle_id if changed or another else bundle_id
