"""Failures of the set-up in one sentence that names the cure; nothing here installs anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class _Cure(NamedTuple):
    pattern: str
    advice: str


_CURES = (
    _Cure(
        pattern=r"No space left on device|Errno 28\b|ENOSPC|not enough space on the disk",
        advice="the disk is full: free about 1.5 GB and run the command again",
    ),
    _Cure(
        pattern=r"DO NOT MATCH THE HASHES|EINTEGRITY|Hash mismatch",
        advice="a downloaded file is not the one in the lock file: empty the cache (`pip cache purge`, `npm cache clean"
        " --force`) and run the command again; if it stays, a proxy or mirror alters downloads",
    ),
    _Cure(
        pattern=r"CERTIFICATE_VERIFY_FAILED|SELF_SIGNED_CERT|UNABLE_TO_(GET|VERIFY)|invalid peer certificate",
        advice="the package index's TLS certificate is not trusted here: give pip and npm your network's CA (PIP_CERT,"
        " NODE_EXTRA_CA_CERTS, SSL_CERT_FILE) and run the command again",
    ),
    _Cure(
        pattern=r"NewConnectionError|Failed to establish a new connection|name resolution|getaddrinfo failed|ProxyError"
        r"|Cannot connect to proxy|Connect(ion)?Timeout|ReadTimeout|Connection (refused|reset|aborted)|Network is"
        r" unreachable|ENOTFOUND|ECONNREFUSED|ECONNRESET|EAI_AGAIN|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET"
        r"|dns error|error sending request|tunneling socket",
        advice="the package index was not reached: check the network or the proxy (HTTPS_PROXY), then run it again",
    ),
    _Cure(
        pattern=r"No matching distribution|Could not find a version|ETARGET|E404|404 Not Found",
        advice="the package index has no such version for this Python and platform, or was not reached: use Python 3.11"
        " to 3.13 on Linux, macOS or Windows, and check the network and the index that pip and npm are set to use",
    ),
    _Cure(
        pattern=r"EACCES|EPERM|Permission denied|Access is denied",
        advice="a file may not be written: close programs that use .venv or node_modules, check who owns them, and run"
        " the command again",
    ),
)


class SetupError(Exception):
    """The command cannot go on; the text says in one line what happened and what to do."""


def failure(what: str, output: str, log: Path) -> SetupError:
    """Put a failed installer's output into one sentence.

    Args:
        what: What was being done, such as "installing the Python packages".
        output: Everything the installer printed.
        log: Where that output can be read.
    """
    for cure in _CURES:
        if re.search(cure.pattern, output, re.IGNORECASE):
            return SetupError(f"{what} failed: {cure.advice} (details: {log})")
    said = [line.strip() for line in output.splitlines() if re.match(r"\s*(error|npm err)", line, re.IGNORECASE)]
    last = said[-1] if said else (output.strip().splitlines() or ["it printed nothing"])[-1].strip()
    return SetupError(f"{what} failed: {last[:200]} (read {log}, then run the command again)")
