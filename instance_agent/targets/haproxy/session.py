"""One conversation with HAProxy over its admin socket: commands in, replies out; what they mean is known elsewhere.

https://docs.haproxy.org/2.6/management.html#9.3
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from instance_agent.targets.base import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

_PROMPT = b"\n> "
_LONGEST_REPLY = 256 * 1024 * 1024  # a crt-list of a million hosts
_REPLY_TIMEOUT_S = 20.0
_AT_ONCE = 64  # commands sent ahead of their replies: few enough never to fill both sockets' buffers


class ConversationBrokenError(ServerUnavailableError):
    """HAProxy closed the connection in the middle of a command, as it does for one larger than its buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which HAProxy process answers.

    Attributes:
        pid: Its process id.
        started: Its start time as it tells it; a process id alone comes again.
        version: Its version.
        stopping: Whether it is the old process of a reload, serving its last connections.
    """

    pid: str
    started: str
    version: str
    stopping: bool

    @property
    def process(self) -> tuple[str, str]:
        """What differs after a restart or a reload."""
        return (self.pid, self.started)


class Session:
    """An async context manager over one connection; opened again by itself after HAProxy closed it."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        await self._connection()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def ask(self, command: str, payload: bytes = b"") -> str:
        """Send one command and wait for its reply.

        Args:
            command: Without its line end.
            payload: Lines that follow it, none of them empty; each ends in a newline.

        Raises:
            ConversationBrokenError: The connection was closed before the reply.
            ServerUnavailableError: HAProxy cannot be reached or does not answer.
        """
        return (await self._exchange([_request(command, payload)]))[0]

    async def ask_all(self, commands: Sequence[str], payload: bytes = b"") -> list[str]:
        """Send many short commands without waiting for each; the replies come in their order.

        Args:
            commands: As in `ask`.
            payload: The first one's.
        """
        requests = [_request(command, b"" if number else payload) for number, command in enumerate(commands)]
        replies: list[str] = []
        for start in range(0, len(requests), _AT_ONCE):
            replies += await self._exchange(requests[start : start + _AT_ONCE])
        return replies

    @property
    def lost(self) -> bool:
        """Whether HAProxy has hung up meanwhile, as it may do after `stats timeout` (10 s) without a command."""
        return self._reader is None or self._reader.at_eof()

    async def identity(self) -> Identity:
        """Ask who answers."""
        return self.identity_in(await self.ask("show info"))

    def identity_in(self, info: str) -> Identity:
        """Who answered `show info` so.

        Raises:
            ServerUnavailableError: It was no HAProxy.
        """
        lines = info.splitlines()
        told = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "Pid" not in told:
            raise ServerUnavailableError(f"{self._socket} does not answer as HAProxy's stats socket does")
        return Identity(
            pid=told["Pid"],
            started=told.get("Start_time_sec", ""),
            version=told.get("Version", ""),
            stopping=told.get("Stopping", "0") != "0",
        )

    async def _exchange(self, requests: Sequence[bytes]) -> list[str]:
        reader, writer = await self._connection()
        try:
            async with asyncio.timeout(_REPLY_TIMEOUT_S):
                writer.write(b"".join(requests))
                return [await _reply(reader) for _ in requests]
        except TimeoutError:
            await self._close()
            raise ServerUnavailableError(
                f"HAProxy did not answer on {self._socket} within {_REPLY_TIMEOUT_S:g} s"
            ) from None
        except (OSError, EOFError) as error:
            await self._close()
            raise ConversationBrokenError(f"HAProxy closed the connection to {self._socket}") from error
        except BaseException:
            await self._close()
            raise

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.lost:
            await self._close()
        if self._reader is None or self._writer is None:
            try:
                async with asyncio.timeout(_REPLY_TIMEOUT_S):
                    reader, writer = await asyncio.open_unix_connection(self._socket, limit=_LONGEST_REPLY)
                    self._reader, self._writer = reader, writer
                    writer.write(b"prompt\n")
                    await _reply(reader)
            except (OSError, EOFError) as error:
                await self._close()
                reason = getattr(error, "strerror", None) or type(error).__name__
                raise ServerUnavailableError(
                    f"HAProxy cannot be reached at {self._socket} ({reason}): is it running, and does its "
                    f"configuration have `stats socket {self._socket} mode 600 level admin`?"
                ) from error
        return self._reader, self._writer

    async def _close(self) -> None:
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def escaped(name: str) -> str:
    """A file name as one word of a command."""
    return name.replace("\\", "\\\\").replace(" ", "\\ ")


def _request(command: str, payload: bytes = b"") -> bytes:
    return f"{command} <<\n".encode() + payload + b"\n" if payload else f"{command}\n".encode()


async def _reply(reader: asyncio.StreamReader) -> str:
    """One reply, without the prompts that HAProxy writes for each line of a payload."""
    text = (await reader.readuntil(_PROMPT)).removesuffix(_PROMPT).decode("utf-8", "replace")
    while text.startswith("+ "):
        text = text.removeprefix("+ ")
    return text.strip()
