"""Talking to nginx over the unix socket in our include: what it has loaded, and that files have changed."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_TIMEOUT_S = 10.0
_POLL_S = 0.02
_LONGEST_ANSWER = 65536
_ANSWER = re.compile(rb"^HTTP/1\.[01] 200 .*\r\n\r\ncertcast ([0-9a-f]+) ([0-9]+)\n\Z", re.DOTALL)


class Control:
    """The socket's near end."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def loaded(self) -> str | None:
        """The token of the include that nginx has loaded; None where nothing answers."""
        try:
            async with self.line() as line:
                return await line.ask("GET")
        except ServerUnavailableError:
            return None

    async def wait_until_loaded(self, token: str, *, timeout_s: float) -> bool:
        """Wait until nginx has loaded the include with this token; whether it has."""
        try:
            async with asyncio.timeout(timeout_s):
                while await self.loaded() != token:  # noqa: ASYNC110 - nginx tells nobody
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return False
        return True

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        """An open connection, so that one knows nginx is there before anything is changed.

        Raises:
            ServerUnavailableError: Nothing listens on the socket.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except (OSError, TimeoutError) as error:
            reason = error.strerror or "no answer"
            raise ServerUnavailableError(
                f"nginx does not answer on {self._socket} ({reason}): is it running, with certcast's include?"
            ) from None
        try:
            yield Line(self._socket, reader, writer)
        finally:
            writer.transport.abort()


class Line:
    """One connection, for one question."""

    def __init__(self, socket: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._socket = socket
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str) -> str:
        """Ask once: GET for what is loaded, POST to have files that changed since read again (dynamic mode).

        Returns:
            The token of the include that is loaded.

        Raises:
            ServerUnavailableError: There is no answer, or one that our include does not give.
        """
        request = f"{method} /generation HTTP/1.0\r\nHost: certcast\r\nContent-Length: 0\r\n\r\n"
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                self._writer.write(request.encode())
                answer = await self._reader.read(_LONGEST_ANSWER)
                while more := await self._reader.read(_LONGEST_ANSWER):
                    answer += more
        except (OSError, TimeoutError):
            raise ServerUnavailableError(f"nginx broke off on {self._socket}") from None
        found = _ANSWER.match(answer)
        if found is None:
            said = answer.partition(b"\r\n\r\n")[2].decode("utf-8", "replace").strip()[:200]
            raise ServerUnavailableError(f"nginx answers {method} on {self._socket} unexpectedly: {said or 'nothing'}")
        return found[1].decode()
