"""One TLS handshake with a listener of this machine, to see which certificate it serves.

The certificate is compared with the one that was installed, byte by byte. It is judged by what the server showed,
whether or not it let the handshake finish: a server that asks for a client certificate does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import ssl
from typing import Protocol

from instance_agent.installing.handshake import (
    MOST_BYTES,
    EndlessError,
    Handshake,
    is_refusal,
    speaks_no_tls,
    told,
    wants_other_protocol,
)
from shared.errors import UnavailableError
from shared.hostnames import DEFAULT_HOST

UNKNOWN_HOST = "*.invalid"
"""Names that nothing is bound for (RFC 2606): probing it shows what the server answers unknown names with."""

_READ_BYTES = 65536
_MAX_NAME = 253  # RFC 1035, section 2.3.4, as text


class ProbeError(UnavailableError):
    """No certificate was seen, or one that is of no use to clients.

    Attributes:
        reached: Whether something accepted the connection, so that it is the handshake that failed.
        silent: Whether it then sent nothing at all.
        no_tls: Whether what it sent is no TLS.
        timed_out: Whether it was waited for in vain, so that it may do better soon.
        shown: Fingerprint of a certificate that was shown in a handshake that no client can finish; else empty.
    """

    def __init__(
        self,
        message: str,
        *,
        reached: bool,
        silent: bool = False,
        no_tls: bool = False,
        timed_out: bool = False,
        shown: str = "",
    ) -> None:
        super().__init__(message)
        self.reached = reached
        self.silent = silent
        self.no_tls = no_tls
        self.timed_out = timed_out
        self.shown = shown

    def advised(self, hint: str) -> ProbeError:
        """The same, and what may help."""
        return ProbeError(
            f"{self}; {hint}",
            reached=self.reached,
            silent=self.silent,
            no_tls=self.no_tls,
            timed_out=self.timed_out,
            shown=self.shown,
        )


class Probe(Protocol):
    """How the installer looks at a listener: a `ListenerProbe`, except in tests."""

    async def __call__(self, address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
        """See `served_fingerprint`."""


async def served_fingerprint(
    address: tuple[str, int], sni: str | None, *, timeout_s: float, header: bytes = b""
) -> str:
    """Shake hands once, never resuming a session, and tell which leaf was served.

    Args:
        address: IP address and port of the listener.
        sni: The server name to ask for; None to ask for none.
        timeout_s: For connection and handshake together.
        header: Sent ahead of the handshake.

    Returns:
        Lower-case hex SHA-256 of the leaf's DER.

    Raises:
        ProbeError: Nothing listens there, or no certificate was shown, or one that no client can make use of.
    """
    hands, reached, failure = await _shaken(address, sni, header, timeout_s)
    leaf = hands.leaf()
    shown = hashlib.sha256(leaf).hexdigest() if leaf is not None else ""
    if shown and (failure is None or is_refusal(failure)):
        return shown
    problem = _problem(failure, f"for {sni}" if sni else "without a server name", reached=reached, timeout_s=timeout_s)
    raise ProbeError(
        f"{_named(address)} {problem}",
        reached=reached,
        silent=reached and not hands.heard,
        no_tls=isinstance(failure, ssl.SSLError) and speaks_no_tls(failure),
        timed_out=isinstance(failure, TimeoutError),
        shown=shown,
    ) from failure


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


def names_to_probe(host: str) -> tuple[str | None, ...]:
    """Every way to ask for a host, all of which must show its certificate: two for the default, one for others."""
    return (None, name_to_probe(UNKNOWN_HOST)) if host == DEFAULT_HOST else (name_to_probe(host),)


async def _shaken(
    address: tuple[str, int], sni: str | None, header: bytes, timeout_s: float
) -> tuple[Handshake, bool, Exception | None]:
    """A handshake as far as it went, whether something accepted the connection, and what ended it early.

    A second one is made without ALPN where the server speaks something else than HTTP.
    """
    try:
        hands = Handshake(sni)
        reached, failure = await _attempt(address, hands, header, timeout_s)
        if isinstance(failure, ssl.SSLError) and wants_other_protocol(failure):
            hands = Handshake(sni, protocols=())
            reached, failure = await _attempt(address, hands, header, timeout_s)
    except ValueError as error:
        raise ProbeError(
            f"{_named(address)} cannot be asked for '{sni}', which is no server name", reached=False
        ) from error
    return hands, reached, failure


async def _attempt(
    address: tuple[str, int], hands: Handshake, header: bytes, timeout_s: float
) -> tuple[bool, Exception | None]:
    """Shake hands over a connection that is closed in the end; whether there was one, and what ended it early."""
    reached = False
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(*address)
            reached = True
            try:
                await _shake(hands, reader, writer, header)
            except BaseException:
                writer.transport.abort()
                raise
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except (OSError, EndlessError) as error:
        return reached, error
    return reached, None


async def _shake(hands: Handshake, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, header: bytes) -> None:
    """Shake hands to the end; asyncio's own TLS transports linger after the close."""
    ahead = header
    while not hands.go_on():
        writer.write(ahead + hands.to_send())
        ahead = b""
        hands.take(await reader.read(_READ_BYTES))
    writer.write(hands.leave())


def _problem(failure: Exception | None, what: str, *, reached: bool, timeout_s: float) -> str:
    """Why no certificate was seen, or none that is of use."""
    match failure:
        case None:
            return f"finished the TLS handshake {what} without a certificate"
        case TimeoutError():
            waited = f"finish a TLS handshake {what}" if reached else "accept a connection"
            return f"did not {waited} within {timeout_s:g} s"
        case ssl.SSLError():
            return f"failed the TLS handshake {what}: {told(failure)}"
        case OSError():
            ended = f"broke off the TLS handshake {what}" if reached else "cannot be connected to"
            return f"{ended}: {failure.strerror or type(failure).__name__}"
    return f"sent more than {MOST_BYTES} bytes without finishing the TLS handshake {what}"


def _named(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
