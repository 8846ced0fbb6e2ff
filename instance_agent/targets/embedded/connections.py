"""The connections of the embedded listeners: how many there may be, counted from accept on, and how each ends.

Ports are accepted from by a loop of our own: where file descriptors run out, asyncio's servers write a stack trace for
each place in their backlog, and start as many further attempts, each of which does the same a second later.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from instance_agent.targets.embedded.page import MAX_HEAD_BYTES
from shared.phrasing import logger

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MAX_CONNECTIONS = 500
HANDSHAKE_S = 15
IDLE_S = 60

_SHUTDOWN_S = 1.0  # for a client that does not answer our close_notify
_PAUSE_S = 0.2  # after accept failed: time for descriptors to become free
_COMPLAIN_EACH_S = 1.0

log = logger(__name__)


class Connections:
    """All connections of one agent, on all its ports."""

    def __init__(self, converse: Conversation, *, most: int, handshake_s: float) -> None:
        """Take what is said on a connection after its handshake, and the bounds.

        Args:
            converse: May raise OSError and EOFError, which end the connection like its return does.
            most: Open at a time, from accept on; one more is closed at once.
            handshake_s: For the TLS handshake, from accept on.
        """
        self._converse = converse
        self._most = most
        self._handshake_s = handshake_s
        self._open: set[asyncio.Task[None]] = set()
        self._quiet_until = 0.0

    async def accept(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        """Accept from a listening socket until cancelled, whatever goes wrong."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, _ = await loop.sock_accept(listening)
            except OSError as error:
                self._complain(f"connections cannot be accepted now: {error.strerror}")
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._open) < self._most:
                task = loop.create_task(self._serve(connected, context))
                self._open.add(task)
                task.add_done_callback(self._open.discard)
            else:
                connected.close()
                self._complain(f"new connections are closed: {self._most} are open, and no more are allowed")
            await asyncio.sleep(0)  # sock_accept does not give way where the next client is there already

    async def end(self) -> None:
        """End every connection; an answer that was begun is sent."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, connected: socket.socket, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_HEAD_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                connected,
                ssl=context,
                ssl_handshake_timeout=self._handshake_s,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        except OSError:
            return  # already closed: the client sent what is no TLS, sent nothing in time, or left
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError):
            pass  # the client left, or was silent too long
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _complain(self, trouble: str) -> None:
        """Log a line, unless there was one within the last second: clients decide how often this is called."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _COMPLAIN_EACH_S
            log.warning("%s", trouble)
