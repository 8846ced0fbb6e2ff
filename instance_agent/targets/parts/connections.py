"""The connections of an agent's own listeners: how many there may be, counted from accept on, and how each ends.

Ports are accepted from by a loop of our own: where file descriptors run out, asyncio's servers write a stack trace for
each place in their backlog, and start as many further attempts, each of which does the same a second later.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from instance_agent.targets.parts.small_http import MAX_HEAD_BYTES
from shared.phrasing import logger

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_SHUTDOWN_S = 1.0  # for a client that does not answer our close_notify
_PAUSE_S = 0.2  # after accept failed: time for descriptors to become free
_COMPLAIN_EACH_S = 1.0

log = logger(__name__)


class Connections:
    """All connections of one server, on all its ports."""

    def __init__(
        self, converse: Conversation, *, most: int, handshake_s: float | None = None, any_gives_way: bool = False
    ) -> None:
        """Take what is said on a connection after its handshake, and the bounds.

        Args:
            converse: May raise OSError and EOFError, which end the connection like its return does.
            most: Open at a time, from accept on. For one more, the oldest ends that was not used yet, so that clients
                that say nothing keep none away that does; where there is none, the one more is closed at once.
            handshake_s: For the TLS handshake, from accept on; None where there is none.
            any_gives_way: Whether, where all were used, the one ends whose last use is longest ago.
        """
        self._converse = converse
        self._most = most
        self._handshake_s = handshake_s
        self._any_gives_way = any_gives_way
        self._open: dict[asyncio.Task[None], bool] = {}  # whether each was used, the last used last
        self._ending: set[asyncio.Task[None]] = set()
        self._quiet_until = 0.0

    def used(self) -> None:
        """Say, in a conversation, that its connection is in use."""
        task = asyncio.current_task()
        if task is not None and task in self._open:
            del self._open[task]
            self._open[task] = True

    async def accept(self, listening: socket.socket, context: ssl.SSLContext | None = None) -> None:
        """Accept from a listening socket until cancelled, whatever goes wrong."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, _ = await loop.sock_accept(listening)
            except OSError as error:
                self._complain(f"connections cannot be accepted now: {error.strerror}")
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._open) >= self._most:
                self._make_room()
            if len(self._open) < self._most:
                task = loop.create_task(self._serve(connected, context))
                self._open[task] = False
                task.add_done_callback(self._ended)
            else:
                connected.close()
                self._complain(f"new connections are closed: {self._most} are open, and no more are allowed")
            await asyncio.sleep(0)  # sock_accept does not give way where the next client is there already

    async def end(self) -> None:
        """End every connection; an answer that was begun is sent."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, *self._ending, return_exceptions=True)

    def _make_room(self) -> None:
        unused = (task for task, used in self._open.items() if not used)
        oldest = next(unused, next(iter(self._open), None) if self._any_gives_way else None)
        if oldest is not None:
            del self._open[oldest]
            self._ending.add(oldest)
            oldest.cancel()
            self._complain(f"{self._most} connections are open, and no more are allowed: an old one makes room")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task, None)
        self._ending.discard(task)

    async def _serve(self, connected: socket.socket, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_HEAD_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                connected,
                ssl=context,
                ssl_handshake_timeout=self._handshake_s,
                ssl_shutdown_timeout=_SHUTDOWN_S if context else None,
            )
        except OSError:
            return  # already closed: the client sent what is no TLS, sent nothing in time, or left
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError):
            pass  # the client left, or was silent too long
        except Exception:
            log.exception("what was asked on a connection could not be answered")
        finally:
            writer.close()
            with contextlib.suppress(OSError):  # a TimeoutError is one: the client takes nothing more
                async with asyncio.timeout(2 * _SHUTDOWN_S):
                    await writer.wait_closed()
            with contextlib.suppress(AttributeError):  # Python 3.11.2 has let go of a connection that is closed
                transport.abort()

    def _complain(self, trouble: str) -> None:
        """Log a line, unless there was one within the last second: clients decide how often this is called."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _COMPLAIN_EACH_S
            log.warning("%s", trouble)
