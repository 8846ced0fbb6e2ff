"""A TLS handshake as a browser would make it, to see which certificate a server shows.

Nothing is verified here: what is of interest is which certificate it is, and it is compared byte by byte.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from functools import cache

HANDSHAKE_TIMEOUT_S = 5.0


async def certificate_shown(address: tuple[str, int], host: str | None) -> str | None:
    """Connect, ask for a host by SNI, and leave.

    Args:
        address: IP address and port.
        host: The server name; None to ask for none.

    Returns:
        Lower-case hex SHA-256 of the certificate, None when no handshake came about.
    """
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(*address, ssl=_unverified(), server_hostname=host or "")
    except (OSError, TimeoutError):
        return None
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return hashlib.sha256(der).hexdigest() if der else None
    finally:
        writer.transport.abort()


@cache
def _unverified() -> ssl.SSLContext:
    """One context for all handshakes; none resumes another's session, as no session is handed to the next."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
