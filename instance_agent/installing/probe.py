"""One TLS handshake with a listener of this machine, to see which certificate it serves.

Nothing is trusted or verified: the certificate is compared with the one that was installed, byte by byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import ssl
from functools import cache
from typing import Protocol

from shared.errors import UnavailableError
from shared.hostnames import DEFAULT_HOST

_READ_BYTES = 65536
_MAX_NAME = 253  # RFC 1035, section 2.3.4, as text


class ProbeError(UnavailableError):
    """No certificate was seen.

    Attributes:
        reached: Whether something accepted the connection, so that it is the handshake that failed.
    """

    def __init__(self, message: str, *, reached: bool) -> None:
        super().__init__(message)
        self.reached = reached


class Probe(Protocol):
    """How the installer looks at a listener; `served_fingerprint`, except in tests."""

    async def __call__(self, address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
        """See `served_fingerprint`."""


async def served_fingerprint(address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
    """Shake hands once, never resuming a session, and tell which leaf was served.

    Args:
        address: IP address and port of the listener.
        sni: The server name to ask for; None to ask for none.
        timeout_s: For connection and handshake together.

    Returns:
        Lower-case hex SHA-256 of the leaf's DER.

    Raises:
        ProbeError: Nothing listens there, or the handshake failed.
    """
    where = f"{address[0]}:{address[1]}"
    what = f"for {sni}" if sni else "without a server name"
    reached = False
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(*address)
            reached = True
            try:
                leaf = await _leaf(reader, writer, sni)
            except BaseException:
                writer.transport.abort()
                raise
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except TimeoutError:
        problem = f"did not finish a TLS handshake {what}" if reached else "did not accept a connection"
        raise ProbeError(f"{where} {problem} within {timeout_s:g} s", reached=reached) from None
    except ssl.SSLError as error:
        reason = (error.reason or "no reason given").replace("_", " ").lower()
        raise ProbeError(f"{where} failed the TLS handshake {what}: {reason}", reached=True) from error
    except OSError as error:
        problem = f"broke off the TLS handshake {what}" if reached else "cannot be connected to"
        raise ProbeError(f"{where} {problem}: {error.strerror or type(error).__name__}", reached=reached) from error
    except ValueError as error:
        raise ProbeError(f"{where} cannot be asked for '{sni}', which is no server name", reached=False) from error
    if leaf is None:
        raise ProbeError(f"{where} finished the TLS handshake {what} without a certificate", reached=True)
    return hashlib.sha256(leaf).hexdigest()


def name_to_probe(host: str) -> str | None:
    """The server name to ask for: the host, for a wildcard one that no exact binding has, none for the default."""
    if host == DEFAULT_HOST:
        return None
    parent = host.removeprefix("*.")
    if parent == host:
        return host
    nonce = secrets.token_hex(4)
    room = _MAX_NAME - len(parent) - 1
    label = f"certcast-probe-{nonce}"
    return f"{label if len(label) <= room else nonce[:room]}.{parent}"


async def _leaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sni: str | None) -> bytes | None:
    """The leaf's DER, by a handshake over buffers of our own: asyncio's TLS transports linger after the close."""
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _looking_context().wrap_bio(received, to_send, server_hostname=sni)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(to_send.read())
            data = await reader.read(_READ_BYTES)
            if data:
                received.write(data)
            else:
                received.write_eof()
    leaf = tls.getpeercert(binary_form=True)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.unwrap()  # writes the close_notify; the server's answer is not waited for
    writer.write(to_send.read())
    return leaf


@cache
def _looking_context() -> ssl.SSLContext:
    """A client that accepts any certificate in order to name it, and never sends a session."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
