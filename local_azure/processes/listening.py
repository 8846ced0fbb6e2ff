"""Ports on the loopback interface: what to say when one cannot be had, and how free ones are found."""

from __future__ import annotations

import errno
import random
import socket
import sys
from contextlib import ExitStack, closing
from typing import Self

from shared.binding import MAX_PORT
from shared.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
"""The one address the local cloud is bound to."""

_FIRST_OFFSET, _LAST_OFFSET, _OFFSET_STEP = 9_000, 24_000, 100
_TRIES = 200
_LOW_PORTS = range(2_000, _FIRST_OFFSET)
"""Below those of agents, and below those that operating systems hand out for outgoing connections."""


def port_taken(port: int, purpose: str) -> ConfigurationError:
    """The error for a port that another program listens on."""
    return ConfigurationError(
        f"port {port} for {purpose} is taken by another program (perhaps another `certcast up`):"
        " stop it, or choose another port"
    )


def port_forbidden(port: int, purpose: str) -> ConfigurationError:
    """The error for a port that this user may not listen on."""
    return ConfigurationError(f"port {port} for {purpose} may not be used by this user: choose one above 1023")


def port_error(error: OSError, port: int, purpose: str) -> Exception:
    """What to raise instead of the operating system's own error; that error itself where it is about something else."""
    if error.errno == errno.EADDRINUSE:
        return port_taken(port, purpose)
    if error.errno == errno.EACCES:
        return port_forbidden(port, purpose)
    return error


def ensure_free(port: int, purpose: str) -> None:
    """See that a port can be listened on.

    Raises:
        ConfigurationError: It is taken, forbidden or no port.
    """
    if not 0 < port <= MAX_PORT:
        raise ConfigurationError(f"{port} is no port for {purpose}: choose one from 1 to {MAX_PORT}")
    try:
        _bound(port).close()
    except OSError as error:
        raise port_error(error, port, purpose) from None


def free_port(length: int = 1) -> int:
    """A port that nobody listens on now, for a program that cannot choose one for itself.

    Not the operating system's choice: until the program listens, an outgoing connection could be given that one.

    Args:
        length: How many ports on end are to be free from this one on.

    Raises:
        ConfigurationError: None was found.
    """
    for _ in range(_TRIES):
        first = random.choice(_LOW_PORTS[:-length])  # noqa: S311
        with ExitStack() as held:
            try:
                for port in range(first, first + length):
                    # Listening, because Linux lets several hold a port on which nobody listens.
                    held.enter_context(closing(_bound(port))).listen()
            except OSError:
                continue
            return first
    raise ConfigurationError(f"no free port was found on {LOOPBACK}")


class PortOffsets:
    """Offsets for the ports of several agents, of which no other process that asks here gets any.

    Attributes:
        offsets: One for each agent, a hundred apart.
    """

    def __init__(self, offsets: range, held: ExitStack) -> None:
        self.offsets = offsets
        self._held = held

    @classmethod
    def reserve(cls, count: int, *, ports: tuple[int, ...] = (443, 8443)) -> Self:
        """Find offsets at which these ports are free for each agent.

        An offset is reserved by listening on the port of its own number. All stay below the ports that operating
        systems hand out for outgoing connections.

        Raises:
            ConfigurationError: There is no such row of offsets.
        """
        for _ in range(_TRIES):
            first = random.randrange(_FIRST_OFFSET, _LAST_OFFSET - _OFFSET_STEP * count, _OFFSET_STEP)  # noqa: S311
            offsets = range(first, first + _OFFSET_STEP * count, _OFFSET_STEP)
            with ExitStack() as stack:
                try:
                    for offset in offsets:
                        # Listening, because Linux lets several hold a port on which nobody listens.
                        stack.enter_context(closing(_bound(offset))).listen()
                        for port in ports:
                            _bound(offset + port).close()
                except OSError:
                    continue
                return cls(offsets, stack.pop_all())
        raise ConfigurationError(f"there are no free ports for {count} agents on {LOOPBACK}")

    def release(self) -> None:
        """Let others have them."""
        self._held.close()


def _bound(port: int) -> socket.socket:
    """A socket that holds a port without listening on it."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            # As servers do: a port whose last connections are still fading is free. (Windows would share a taken one.)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, port))
    except BaseException:
        holder.close()
        raise
    return holder
