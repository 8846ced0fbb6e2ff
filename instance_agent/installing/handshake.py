"""A client's side of one TLS handshake over buffers, which keeps the leaf as soon as the server has shown it.

Nothing is trusted or verified, and all that OpenSSL can speak from TLS 1.2 on is offered: the question is what a
listener serves, not whether it is safe.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_BYTES = 262_144
"""Of one handshake. OpenSSL takes 100 KiB of certificates at most (SSL_CTX_set_max_cert_list); no server needs more."""

USUAL_PROTOCOLS = ("h2", "http/1.1")
"""Offered by browsers (ALPN, RFC 7301); a server may refuse clients that offer none."""

# Python's own list leaves out RSA key exchange and SHA-1, which are all that some servers speak.
_CIPHERS = "ALL:!aNULL:!PSK:!SRP:@SECLEVEL=0"

# Alerts of a peer as OpenSSL names them, but for those that say that its own part was wrong (RFC 5246, section 7.2.2):
# a server whose key is not its certificate's cannot read what an RSA key exchange was encrypted with.
_ALERTS = ("SSLV3_ALERT_", "TLSV1_", "TLSV13_ALERT_")
_ITS_OWN_FAULT = frozenset({"SSLV3_ALERT_BAD_RECORD_MAC", "TLSV1_ALERT_DECRYPT_ERROR", "TLSV1_ALERT_DECRYPTION_FAILED"})
_TOO_OLD = frozenset({"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"})
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"})


class EndlessError(Exception):
    """The server sent more than any handshake takes."""


class _Certificate(Protocol):
    def public_bytes(self) -> str:
        """The certificate in PEM."""


class Handshake:
    """One handshake, without a connection.

    Args:
        sni: The server name to ask for; None to ask for none.
        protocols: What to offer with ALPN.

    Raises:
        ValueError: That is no server name.

    Attributes:
        heard: Bytes that the server sent.
    """

    def __init__(self, sni: str | None, protocols: Sequence[str] = USUAL_PROTOCOLS) -> None:
        self.heard = 0
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = _looking_context(tuple(protocols))
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=sni)

    def go_on(self) -> bool:
        """Take the next step with what was received; whether the handshake is finished.

        Raises:
            ssl.SSLError: It failed.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def to_send(self) -> bytes:
        """What is to be sent now."""
        return self._to_send.read()

    def take(self, data: bytes) -> None:
        """Take what the server sent; nothing for the end of it.

        Raises:
            EndlessError: That is too much.
        """
        self.heard += len(data)
        if self.heard > MOST_BYTES:
            raise EndlessError
        if data:
            self._received.write(data)
        else:
            self._received.write_eof()

    def leave(self) -> bytes:
        """The last to be sent after a finished handshake; the server's answer is not waited for."""
        with contextlib.suppress(ssl.SSLError):  # it may have sent an alert already, to a client without a certificate
            self._tls.unwrap()
        return self._to_send.read()

    def leaf(self) -> bytes | None:
        """The leaf's DER as soon as it was shown, finished or not; None before.

        It is in the server's first flight (RFC 5246, section 7.3; RFC 8446, section 2), before a server learns that its
        client has no certificate of its own to show.
        """
        if sys.version_info >= (3, 13):
            chain = self._tls.get_unverified_chain()
            return chain[0] if chain else None
        # The same below its name: what later versions call in public, 3.11 and 3.12 have here.
        shown = self._tls._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
        return ssl.PEM_cert_to_DER_cert(cast("_Certificate", shown[0]).public_bytes()) if shown else None


def is_refusal(error: BaseException) -> bool:
    """Whether a handshake ended by the server's will, and not because what it showed is of no use to any client."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        return True
    reason = error.reason or ""
    return reason.startswith(_ALERTS) and reason not in _ITS_OWN_FAULT


def wants_other_protocol(error: ssl.SSLError) -> bool:
    """Whether the server speaks none of the protocols that were offered (alert 120, RFC 7301, section 3.2)."""
    return "no application protocol" in _words(error)


def speaks_no_tls(error: ssl.SSLError) -> bool:
    """Whether what the server sent is no TLS at all."""
    return error.reason in _NO_TLS


def told(error: ssl.SSLError) -> str:
    """Why a handshake failed, in words."""
    words = _words(error)
    if error.reason in _TOO_OLD:
        return f"{words}; it speaks only TLS 1.1 or older, which browsers refuse: let it speak TLS 1.2 or 1.3"
    if speaks_no_tls(error):
        return f"{words}; what answers there speaks no TLS"
    return words


def _words(error: ssl.SSLError) -> str:
    """The reason as OpenSSL gives it, also where Python has no name for it."""
    text = error.reason or (str(error.args[1]) if len(error.args) > 1 else "no reason given")
    return text.removeprefix("[SSL] ").partition(" (_ssl.c")[0].replace("_", " ").lower()


@cache
def _looking_context(protocols: tuple[str, ...]) -> ssl.SSLContext:
    """A client that accepts any certificate in order to name it, and never sends a session."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
