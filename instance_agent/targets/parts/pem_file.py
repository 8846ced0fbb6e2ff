"""One PEM file of ours: its name, the tag in its first line, what it holds and how that is read back.

A file is called `<host>.pem`, `_.<parent>.pem` for a wildcard, `_default_.pem` for the default. PEM readers skip its
first line, the tag: a file with no tag, or with one for another host, was made by hand and is never touched. What a
server does with it is unknown here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import ssl
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, InstalledBinding, ServerUnavailableError
from instance_agent.targets.parts.key_loading import load_bundle
from shared.binding import MAX_PORT
from shared.bundle import BUNDLE_ID
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


def tag(binding: Install | InstalledBinding) -> str:
    """The line that marks a file as ours and tells what the certificate alone does not."""
    told = {"host": binding.host, "port": binding.port, "bundle": binding.bundle_id, "site": binding.site}
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
    return tag(change).encode() + bundle.to_pem()


def decode(content: bytes) -> InstalledBinding | None:
    """The binding that a file's content tells of; None for one that is not ours or not whole."""
    line, _, pem = content.partition(b"\n")
    leaf = _LEAF.search(pem)
    if not is_tagged(line) or leaf is None:
        return None
    try:
        told = json.loads(line[len(TAG) :])
        bundle_id, site = told["bundle"], told["site"]
        if name_refusal(told["host"], told["port"]) is not None:
            return None
        return InstalledBinding(
            host=told["host"],
            port=told["port"],
            bundle_id=bundle_id if isinstance(bundle_id, str) and BUNDLE_ID.match(bundle_id) else "",
            fingerprint_sha256=hashlib.sha256(base64.b64decode(leaf[1])).hexdigest(),
            site=site if isinstance(site, str) else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        return None
