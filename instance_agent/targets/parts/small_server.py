"""A plain HTTP server of the agent: bounded in connections and in the time each may take, whoever asks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from instance_agent.targets.parts.connections import Connections
from instance_agent.targets.parts.small_http import answer_requests

if TYPE_CHECKING:
    from instance_agent.targets.parts.small_http import Respond

MOST_CLIENTS = 200
FIRST_S = 10
"""For the first request of a connection: a client that has nothing to ask yet has no reason to connect."""
BETWEEN_S = 120
"""From one request to the next: longer than the 90 s after which Go's clients (Caddy, Prometheus) close."""

_BACKLOG = 1024


class SmallServer:
    """Answers GET and HEAD.

    Args:
        respond: Answers a request at once, without waiting for anything.
    """

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._connections = Connections(self._converse, most=MOST_CLIENTS, any_gives_way=True)
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    def listen(self, address: str, port: int) -> int:
        """Answer at an address, and return the port.

        Args:
            address: An address, or a name of this machine.
            port: 0 takes any free one.

        Raises:
            OSError: It cannot be listened on.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listening = socket.create_server((address, port), family=family, backlog=_BACKLOG)
        self._listening.setblocking(False)
        self._accepting = asyncio.create_task(self._connections.accept(self._listening))
        return int(self._listening.getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and end the connections; an answer that was begun is sent."""
        if self._accepting is None or self._listening is None:
            return
        self._accepting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._accepting
        self._listening.close()
        self._accepting = self._listening = None
        await self._connections.end()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        used = self._connections.used
        await answer_requests(reader, writer, self._respond, first_s=FIRST_S, idle_s=BETWEEN_S, answered=used)
