"""A child process that cannot outlive certcast: started through the tether, its output kept, stopped or killed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from local_azure.processes.tether import PID_MARK
from shared.errors import UnavailableError

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence

OnLine = Callable[[str, str], None]
"""Receives the child's name and one line of its output; called on the event loop."""

_TETHER = Path(__file__).with_name("tether.py")
_KEPT_LINES = 200
_TETHER_MARGIN_S = 10.0
_LAST_OUTPUT_S = 5.0
_KILL = 9  # signal.SIGKILL, a name that Windows does not have
_OWN_GROUP_FLAG = 0x200  # subprocess.CREATE_NEW_PROCESS_GROUP, a name that only Windows has
_STDIN, _STDOUT = 0, 1


class ChildEndedError(UnavailableError):
    """A child process ended, or did not become ready in time; the text ends with its last lines."""


class ChildProcess(asyncio.SubprocessProtocol):
    """One child, made by `start_child`; its output is taken as it comes, so that it never blocks on a full pipe.

    Attributes:
        name: What log lines and errors call it.
        pid: The child's own process id, which on POSIX is its process group's too; None until it was started.
    """

    def __init__(self, name: str, *, on_line: OnLine | None, grace_s: float) -> None:
        self.name = name
        self.pid: int | None = None
        self._on_line = on_line
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._unfinished = b""
        self._watchers: list[tuple[re.Pattern[str], asyncio.Future[re.Match[str]]]] = []
        self._ended: asyncio.Future[int] = self._loop.create_future()

    @property
    def returncode(self) -> int | None:
        """The exit code once the child and all it started are gone, else None."""
        return self._ended.result() if self._ended.done() else None

    @property
    def last_lines(self) -> list[str]:
        """The latest lines of output, oldest first."""
        return list(self._lines)

    async def line_matching(self, pattern: re.Pattern[str], *, timeout_s: float) -> re.Match[str]:
        """Wait for a line of output that the pattern is found in; lines already kept count.

        Raises:
            ChildEndedError: The child ended first, or the time passed.
        """
        for line in self._lines:
            if found := pattern.search(line):
                return found
        watcher: asyncio.Future[re.Match[str]] = self._loop.create_future()
        self._watchers.append((pattern, watcher))
        await asyncio.wait((watcher, self._ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not watcher.done():
            watcher.cancel()
            raise self.ended_error()
        return watcher.result()

    async def until(self, ready: Callable[[], Awaitable[bool]], *, timeout_s: float, every_s: float) -> None:
        """Ask again and again whether the child is ready, until it is.

        Raises:
            ChildEndedError: The child ended first, or the time passed.
        """
        deadline = self._loop.time() + timeout_s
        while self.returncode is None and self._loop.time() < deadline:
            if await ready():
                return
            await asyncio.sleep(every_s)
        raise self.ended_error()

    async def wait(self) -> int:
        """Wait until the child and everything it started are gone; answers its exit code."""
        return await asyncio.shield(self._ended)

    def call_when_gone(self, callback: Callable[[ChildProcess], None]) -> None:
        """Have something called once the child and everything it started are gone."""
        self._ended.add_done_callback(lambda _ended: callback(self))

    async def stop(self) -> int:
        """Ask the child to end, kill it after its grace period, and wait until everything is gone."""
        self._orders.close()
        return await self._gone()

    async def kill(self) -> int:
        """Kill the child and everything it started, as a power failure would, and wait until they are gone."""
        self._orders.write(b"k")
        self._orders.close()
        return await self._gone()

    def ended_error(self) -> ChildEndedError:
        """What to say of a child that has ended, or that runs and is still not what it should be."""
        end = "is not ready in time" if self.returncode is None else f"ended with exit code {self.returncode}"
        return ChildEndedError(f"{self.name} {end}; its last lines: {' | '.join(self.last_lines[-5:]) or 'none'}")

    async def _gone(self) -> int:
        await asyncio.wait((self._ended,), timeout=self._grace_s + _TETHER_MARGIN_S)
        if not self._ended.done():
            self._tether.kill()
        return await self.wait()

    # What asyncio calls as things happen.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The tether was started."""
        self._tether = cast("asyncio.SubprocessTransport", transport)
        self._orders = cast("asyncio.WriteTransport", self._tether.get_pipe_transport(_STDIN))

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        """Some output came."""
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        for line in lines:
            self._take(line)

    def pipe_connection_lost(self, fd: int, _exc: Exception | None) -> None:
        """No more output comes."""
        if fd == _STDOUT and self._unfinished:
            self._take(self._unfinished)

    def process_exited(self) -> None:
        """The tether has ended, and with it the child."""
        if sys.platform != "win32" and (self._tether.get_returncode() or 0) < 0 and self.pid is not None:
            # The tether was killed, so what it would have ended is ended here, as far as its group reaches.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, _KILL)
        self._orders.close()
        # A process that was out of reach may hold the output open and never end.
        self._enough = self._loop.call_later(_LAST_OUTPUT_S, self._tether.close)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The tether has ended, and all its output was taken."""
        self._enough.cancel()
        self._tether.close()
        self._ended.set_result(cast("int", self._tether.get_returncode()))

    def _take(self, raw: bytes) -> None:
        if raw.startswith(PID_MARK):
            self.pid = int(raw[len(PID_MARK) :])
            return
        line = raw.decode("utf-8", "replace").rstrip("\r")
        self._lines.append(line)
        for pattern, watcher in self._watchers:
            if not watcher.done() and (found := pattern.search(line)):
                watcher.set_result(found)
        self._watchers = [(pattern, watcher) for pattern, watcher in self._watchers if not watcher.done()]
        if self._on_line is not None:
            self._on_line(self.name, line)


async def start_child(
    name: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    on_line: OnLine | None = None,
    grace_s: float = 5.0,
) -> ChildProcess:
    """Start a command that ends when this process does.

    Args:
        name: What log lines and errors call it.
        command: Program and arguments; no secret belongs here, since every user of the machine can read it.
        environment: The child's whole environment; this process's own when None.
        folder: Its working folder.
        on_line: Called with each line of output.
        grace_s: How long it may take to stop before it is killed.
    """
    _, child = await asyncio.get_running_loop().subprocess_exec(
        lambda: ChildProcess(name, on_line=on_line, grace_s=grace_s),
        *(sys.executable, "-I", "-S", str(_TETHER), str(grace_s), *command),
        stderr=asyncio.subprocess.STDOUT,
        env=dict(environment) if environment is not None else None,
        cwd=folder,
        # A group of its own: Ctrl-C in the terminal reaches certcast alone, which then stops everything in order.
        creationflags=_OWN_GROUP_FLAG if sys.platform == "win32" else 0,
        start_new_session=sys.platform != "win32",
    )
    return child
