"""TLS server contexts made from bundles, one by one or for a batch."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, ServerUnavailableError
from instance_agent.targets.parts.key_loading import load_bundle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from instance_agent.targets.base import Install
    from shared.bundle import CertificateBundle


def server_context(bundle: CertificateBundle) -> ssl.SSLContext:
    """A context that serves the bundle over TLS 1.2 and 1.3 with ALPN http/1.1.

    Sessions are not resumed: a resumed handshake carries no certificate, and a client that came back with a ticket
    would see the one replaced since (RFC 8446, section 2.2).

    Raises:
        ssl.SSLError: OpenSSL does not serve this certificate: the key does not fit, or either is too weak for it.
        OSError: The key could not be handed over (no file descriptors left).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    load_bundle(context, bundle)
    return context


def contexts_for(installs: Iterable[Install]) -> dict[tuple[str, int], ssl.SSLContext]:
    """A context for each host and port, one for all that share a bundle. Takes 1 to 2 ms each: run it in a thread.

    Raises:
        ApplyError: OpenSSL will not serve one of them.
    """
    built: dict[int, ssl.SSLContext] = {}  # by identity: equal bundles may have different keys
    contexts: dict[tuple[str, int], ssl.SSLContext] = {}
    for install in installs:
        number = id(install.bundle)
        try:
            contexts[install.key] = built[number] = built.get(number) or server_context(install.bundle)
        except ssl.SSLError as error:
            raise ApplyError(
                f"the certificate for {install.phrased} cannot be served: {openssl_reason(error)}",
                culprit=install.key,
            ) from error
        except OSError as error:
            raise ServerUnavailableError(
                f"the TLS context for {install.phrased} cannot be built now: {error.strerror}"
            ) from error
    return contexts


def openssl_reason(error: ssl.SSLError) -> str:
    """OpenSSL's reason in its own words, without file and line."""
    return (error.reason or "unknown reason").replace("_", " ").lower()
