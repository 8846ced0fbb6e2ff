"""A child process that cannot outlive certcast: started through the tether, its output kept, stopped or killed.

Nothing here knows what the child is. Each child has one thread that drains its output, so that it never blocks on a
full pipe, whatever event loop (or none) is running.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from local_azure.processes.tether import PID_MARK
from shared.errors import UnavailableError

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence

OnLine = Callable[[str, str], None]
"""Receives the child's name and one line of its output; called on the child's reader thread."""

_TETHER = Path(__file__).with_name("tether.py")
_KEPT_LINES = 200
_TETHER_MARGIN_S = 10.0
_LAST_OUTPUT_S = 5.0
_KILL = 9  # signal.SIGKILL, a name that Windows does not have
_OWN_GROUP_FLAG = 0x200  # subprocess.CREATE_NEW_PROCESS_GROUP, a name that only Windows has


class ChildEndedError(UnavailableError):
    """A child process ended, or did not become ready in time; the text ends with its last lines."""


class ChildProcess:
    """One running child; made by `start`.

    Attributes:
        name: What log lines and errors call it.
    """

    def __init__(
        self, name: str, popen: subprocess.Popen[bytes], *, log: Path | None, on_line: OnLine | None, grace_s: float
    ) -> None:
        self.name = name
        self._popen = popen
        self._log = log
        self._on_line = on_line
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._watchers: list[tuple[re.Pattern[str], Future[re.Match[str]]]] = []
        self._waiters: list[Future[int]] = []
        self._returncode: int | None = None
        self._pid: int | None = None
        self._reader = threading.Thread(target=self._drain, name=f"output of {name}", daemon=True)
        self._reader.start()
        threading.Thread(target=self._await_end, name=f"end of {name}", daemon=True).start()

    @property
    def pid(self) -> int | None:
        """The child's own process id, which on POSIX is its process group's too; None until the child was started."""
        return self._pid

    @property
    def returncode(self) -> int | None:
        """The exit code once the child and all it started are gone, else None."""
        return self._returncode

    @property
    def last_lines(self) -> list[str]:
        """The latest lines of output, oldest first."""
        with self._lock:
            return list(self._lines)

    async def line_matching(self, pattern: re.Pattern[str], *, timeout_s: float) -> re.Match[str]:
        """Wait for a line of output that the pattern is found in; lines already kept count.

        Raises:
            ChildEndedError: The child ended first, or the time passed.
        """
        watcher: Future[re.Match[str]] = Future()
        with self._lock:
            for line in self._lines:
                if found := pattern.search(line):
                    return found
            if self._returncode is not None:
                raise self.ended_error()
            self._watchers.append((pattern, watcher))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(watcher), timeout_s)
        except TimeoutError:
            raise self.ended_error() from None

    async def wait(self) -> int:
        """Wait until the child and everything it started are gone; answers its exit code."""
        waiter: Future[int] = Future()
        with self._lock:
            if self._returncode is not None:
                return self._returncode
            self._waiters.append(waiter)
        return await asyncio.wrap_future(waiter)

    async def stop(self) -> int:
        """Ask the child to end, kill it after its grace period, and wait until everything is gone."""
        self._close_stdin()
        return await self._gone()

    async def kill(self) -> int:
        """Kill the child and everything it started, as a power failure would, and wait until they are gone."""
        with contextlib.suppress(OSError, ValueError):  # it ended already
            self._stdin().write(b"k")
        self._close_stdin()
        return await self._gone()

    def ended_error(self) -> ChildEndedError:
        """What to say of a child that has ended, or that runs and is still not what it should be."""
        end = "is not ready in time" if self._returncode is None else f"ended with exit code {self._returncode}"
        return ChildEndedError(f"{self.name} {end}; its last lines: {self._quoted()}")

    async def _gone(self) -> int:
        try:
            return await asyncio.wait_for(self.wait(), self._grace_s + _TETHER_MARGIN_S)
        except TimeoutError:
            self._popen.kill()
            return await self.wait()

    def _stdin(self) -> Any:  # noqa: ANN401 - IO[bytes], which typeshed calls optional
        return self._popen.stdin

    def _close_stdin(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin().close()

    def _drain(self) -> None:
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(appending(self._log)) if self._log else None
            stdout = stack.enter_context(self._popen.stdout) if self._popen.stdout else ()
            for raw in stdout:
                if raw.startswith(PID_MARK):
                    self._pid = int(raw[len(PID_MARK) :])
                    continue
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if log is not None:
                    log.write(f"{line}\n".encode())
                self._take(line)

    def _await_end(self) -> None:
        code = self._popen.wait()
        if sys.platform != "win32" and code < 0 and self._pid is not None:
            # Somebody killed the tether, so what it would have ended is ended here, as far as its group reaches.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, _KILL)
        self._reader.join(_LAST_OUTPUT_S)
        self._close_stdin()
        with self._lock:
            self._returncode = code
            watchers, self._watchers = self._watchers, []
            waiters, self._waiters = self._waiters, []
        for _pattern, watcher in watchers:
            with contextlib.suppress(InvalidStateError):  # its wait timed out or was cancelled
                watcher.set_exception(self.ended_error())
        for waiter in waiters:
            with contextlib.suppress(InvalidStateError):
                waiter.set_result(code)

    def _take(self, line: str) -> None:
        with self._lock:
            self._lines.append(line)
            for pattern, watcher in self._watchers:
                if found := pattern.search(line):
                    with contextlib.suppress(InvalidStateError):
                        watcher.set_result(found)
            self._watchers = [(pattern, watcher) for pattern, watcher in self._watchers if not watcher.done()]
        if self._on_line is not None:
            self._on_line(self.name, line)

    def _quoted(self) -> str:
        return " | ".join(list(self._lines)[-5:]) or "none"


def start(
    name: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    log: Path | None = None,
    on_line: OnLine | None = None,
    grace_s: float = 5.0,
) -> ChildProcess:
    """Start a command that ends when this process does.

    Args:
        name: What log lines and errors call it.
        command: Program and arguments; no secret belongs here, since every user of the machine can read it.
        environment: The child's whole environment; this process's own when None.
        folder: Its working folder.
        log: A file its output is appended to (made readable by its owner only).
        on_line: Called with each line of output, on a thread of its own.
        grace_s: How long it may take to stop before it is killed.
    """
    popen = subprocess.Popen(  # noqa: S603 - certcast's own command lines
        [sys.executable, "-I", "-S", str(_TETHER), str(grace_s), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment) if environment is not None else None,
        cwd=folder,
        # A group of its own: Ctrl-C in the terminal reaches certcast alone, which then stops everything in order.
        creationflags=_OWN_GROUP_FLAG if sys.platform == "win32" else 0,
        start_new_session=sys.platform != "win32",
    )
    return ChildProcess(name, popen, log=log, on_line=on_line, grace_s=grace_s)


def appending(path: Path) -> BinaryIO:
    """Open a log file that only its owner may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb", buffering=0)
