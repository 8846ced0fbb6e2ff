"""TLS server contexts made from bundles, and the bounded store of them; which host gets which is decided elsewhere."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from typing import TYPE_CHECKING

from instance_agent.targets.parts.key_loading import load_bundle

if TYPE_CHECKING:
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


class ContextStore:
    """The contexts used last, at most `limit` of them; one that was dropped is built again when it is asked for.

    A context takes 1 to 1.5 ms to build and 24 KB to keep; an open connection keeps its own alive by itself.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._contexts: OrderedDict[CertificateBundle, ssl.SSLContext] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contexts)

    def __contains__(self, bundle: CertificateBundle) -> bool:
        return bundle in self._contexts

    def get(self, bundle: CertificateBundle) -> ssl.SSLContext:
        """The bundle's context, built now if need be.

        Raises:
            OSError: It could not be built (`ssl.SSLError` is one).
        """
        context = self._contexts.get(bundle)
        if context is None:
            context = server_context(bundle)
            self.put(bundle, context)
        else:
            self._contexts.move_to_end(bundle)
        return context

    def put(self, bundle: CertificateBundle, context: ssl.SSLContext) -> None:
        """Keep a context that was built elsewhere, dropping the one that was not asked for the longest."""
        self._contexts[bundle] = context
        self._contexts.move_to_end(bundle)
        while len(self._contexts) > self._limit:
            self._contexts.popitem(last=False)

    def discard(self, bundle: CertificateBundle) -> None:
        """Drop the context of a bundle that is no longer bound, and its key with it."""
        self._contexts.pop(bundle, None)
