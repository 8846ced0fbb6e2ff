"""Ports on the loopback interface: listening on them, finding free ones, and what to say of one that is not."""

from __future__ import annotations

import errno
import random
import socket
import sys
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from shared.binding import MAX_PORT
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"
"""The one address the local cloud is bound to."""

OFFSET_STEP = 100
"""How far the port offsets of two agents are apart."""

_FIRST_OFFSET, _LAST_OFFSET = 9_000, 17_000
"""Less than 8443 - 443 apart: what is 443 for one agent is never 8443 for another."""

_TRIES = 200
_LOW_PORTS = range(2_000, _FIRST_OFFSET)
"""Below those of agents, and below those that operating systems hand out for outgoing connections."""


def port_error(code: int | None, port: int, purpose: str) -> ConfigurationError | None:
    """What to say of a port that is not free; None where the system's error code is about something else."""
    if code == errno.EADDRINUSE:
        return ConfigurationError(
            f"port {port} for {purpose} is taken by another program (perhaps another `certcast up`):"
            " stop it, or choose another port"
        )
    if code == errno.EACCES:
        return ConfigurationError(f"port {port} for {purpose} may not be used by this user: choose one above 1023")
    return None


def ensure_free(port: int, purpose: str) -> None:
    """Check that a port can be listened on.

    Raises:
        ConfigurationError: It is taken, forbidden or no port.
    """
    if not 0 < port <= MAX_PORT:
        raise ConfigurationError(f"{port} is no port for {purpose}: choose one from 1 to {MAX_PORT}")
    try:
        _bound(port).close()
    except OSError as error:
        raise port_error(error.errno, port, purpose) or error from None


def free_port(length: int = 1) -> int:
    """A port that no program listens on now, for one that cannot choose for itself.

    Not the operating system's choice: until the program listens, an outgoing connection could be given that one.

    Args:
        length: How many ports in a row are to be free, this one first.

    Raises:
        ConfigurationError: None was found.
    """
    for _ in range(_TRIES):
        first = random.choice(_LOW_PORTS[:-length])  # noqa: S311
        with ExitStack() as held:
            try:
                for port in range(first, first + length):
                    # Listening, because Linux lets several hold a port on which none listens.
                    held.enter_context(closing(_bound(port))).listen()
            except OSError:
                continue
            return first
    raise ConfigurationError(f"no free port was found on {LOOPBACK}")


@contextmanager
def port_offsets(count: int, *, ports: tuple[int, ...] = (443, 8443)) -> Iterator[range]:
    """Offsets a hundred apart for the ports of several agents; until the end no other process that asks gets them.

    An offset is reserved by listening on the port of its own number. All stay below the ports that operating systems
    hand out for outgoing connections.

    Args:
        count: How many agents there are.
        ports: What each agent listens on, the offset added.

    Raises:
        ConfigurationError: There is no such row of offsets.
    """
    for _ in range(_TRIES):
        first = random.randrange(_FIRST_OFFSET, _LAST_OFFSET - OFFSET_STEP * count, OFFSET_STEP)  # noqa: S311
        offsets = range(first, first + OFFSET_STEP * count, OFFSET_STEP)
        with ExitStack() as held:
            try:
                for offset in offsets:
                    # Listening, because Linux lets several hold a port on which none listens.
                    held.enter_context(closing(_bound(offset))).listen()
                    for port in ports:
                        _bound(offset + port).close()
            except OSError:
                continue
            yield offsets
            return
    raise ConfigurationError(f"there are no free ports for {count} agents on {LOOPBACK}")


async def listen(runner: web.AppRunner, address: str, port: int, purpose: str) -> int:
    """Begin to answer requests; returns the port, which is a free one for 0.

    Raises:
        ConfigurationError: The port is taken or forbidden; the text names the cure.
    """
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
    except OSError as error:
        await runner.cleanup()
        raise port_error(error.errno, port, purpose) or error from None
    return int(runner.addresses[0][1])


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
