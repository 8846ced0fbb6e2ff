"""Seeing with a TLS handshake what one worker serves, over a connection that only the agent can open.

A handshake over TCP reaches whichever worker the kernel picks. So the agent makes a pair of connected sockets and hands
one end to the worker, which serves it as if it had accepted it: same listener, same callback, same contexts. No further
port or file is open for it, which other accounts of the machine could reach.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import ssl
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PORT_BYTES = 4

_MAX_NAME = 253  # RFC 1035, section 2.3.4, as text


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a worker should serve.

    Attributes:
        host: Host or wildcard.
        port: PortNumber.
        fingerprint_sha256: The leaf's.
    """

    host: str
    port: int
    fingerprint_sha256: str


def unproved(passage: socket.socket, claims: Sequence[Claim], *, timeout_s: float) -> str:
    """Look at every claim in turn; a sentence about the first that does not hold, empty when all do. Blocks.

    Args:
        passage: The socket over which a worker takes connections.
        claims: What to look at.
        timeout_s: For each.

    Raises:
        TimeoutError: The worker did not answer.
    """
    for claim in claims:
        try:
            seen = _fingerprint(passage, claim, timeout_s)
        except TimeoutError:
            raise
        except OSError as error:
            return f"fails the TLS handshake for {claim.host}:{claim.port}: {_spoken(error)}"
        if seen != claim.fingerprint_sha256:
            return f"serves {seen[:16]}… for {claim.host}:{claim.port} in place of {claim.fingerprint_sha256[:16]}…"
    return ""


def _fingerprint(passage: socket.socket, claim: Claim, timeout_s: float) -> str:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            passage.settimeout(timeout_s)
            socket.send_fds(passage, [claim.port.to_bytes(PORT_BYTES)], [theirs.fileno()])
        ours.settimeout(timeout_s)
        with _looking_context().wrap_socket(ours, server_hostname=_name_to_ask(claim.host)) as tls:
            return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def _name_to_ask(host: str) -> str:
    """The host, or for a wildcard a name that it covers and nobody has."""
    parent = host.removeprefix("*.")
    return host if parent == host else f"{secrets.token_hex(8)[: _MAX_NAME - len(parent) - 1]}.{parent}"


def _spoken(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or type(error).__name__).replace("_", " ").lower()


@cache
def _looking_context() -> ssl.SSLContext:
    """A client that accepts any certificate in order to name it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
