"""Why a port cannot be listened on, and what to do about it; nothing is listened on here."""

from __future__ import annotations

import errno
from typing import ClassVar

from instance_agent.targets.base import ApplyError


class ListenerError(ApplyError):
    """A port could not be listened on; the change can succeed once the port is free."""

    retriable: ClassVar[bool] = True


def listener_trouble(address: str, port: int, error: OSError) -> str:
    """What to do about a port that cannot be listened on."""
    cures = {
        errno.EADDRINUSE: "another program listens there: end it, or set CERTCAST_EMBEDDED_PORT_OFFSET",
        errno.EACCES: "this account may not: run as administrator, or set CERTCAST_EMBEDDED_PORT_OFFSET",
        errno.EADDRNOTAVAIL: "CERTCAST_EMBEDDED_ADDRESS is not an address of this machine",
    }
    # asyncio itself tells that no address could be bound, without a number, from Python 3.13 on.
    number = errno.EADDRNOTAVAIL if error.errno is None else error.errno
    cure = cures.get(number, f"check CERTCAST_EMBEDDED_ADDRESS and CERTCAST_EMBEDDED_PORT_OFFSET ({error.strerror})")
    return f"cannot listen on {address or 'every address'}, port {port}: {cure}"
