"""The small program between certcast and each of its child processes: it ends the child when certcast is gone.

It is run by path (`python -I -S tether.py GRACE_S COMMAND…`) and uses the standard library alone. Its standard input is
a pipe whose other end only certcast holds, so the pipe closes whenever certcast ends, SIGKILL included. `child.py`
starts it and watches it.

Orders on standard input: end of file means stop (a polite signal, then a kill after GRACE_S); `k` means kill at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
PID_MARK = b"\0pid "
"""Begins the one line of output that is the tether's own: the child's process id."""
_KILL_ORDER = b"k"
_KILL = 9  # signal.SIGKILL, a name that Windows does not have
_TAKES_NO_PROGRAM = 127  # what a shell answers for a command it cannot start


class Tether:
    """One child process and everything it started."""

    def __init__(self, command: list[str], grace_s: float) -> None:
        self._grace_s = grace_s
        self._stopping = threading.Event()
        if sys.platform == "linux":
            # Orphaned grandchildren, daemons in sessions of their own included, become children of this process.
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._child = _start(command)

    def stop(self) -> None:
        """Ask the child to end, and kill everything that is left after the grace period."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                self._child.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                self._child.terminate()
        killer = threading.Timer(self._grace_s, self.kill)
        killer.daemon = True
        killer.start()

    def kill(self) -> None:
        """End the child and its group at once."""
        if sys.platform == "win32":
            subprocess.run(  # noqa: S603 - a fixed program with a number
                ["taskkill", "/PID", str(self._child.pid), "/T", "/F"],  # noqa: S607 - found on every Windows
                check=False,
                capture_output=True,
            )
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
                os.killpg(self._child.pid, _KILL)

    def watch_orders(self) -> None:
        """Read orders until the pipe closes; runs on a thread of its own."""
        while True:
            order = os.read(0, 1)
            if order == _KILL_ORDER:
                self.kill()
            elif not order:
                self.stop()
                return

    def wait(self) -> int:
        """Wait for the child, end what it left behind, and answer its exit code (128 + signal for a killed one)."""
        code = self._child.wait()
        self.kill()
        if sys.platform == "linux":
            _end_descendants()
        return code if code >= 0 else 128 - code


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    if sys.platform == "win32":
        child = subprocess.Popen(  # noqa: S603 - certcast's own command line
            command, stdin=subprocess.DEVNULL, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP
        )
        os.write(1, b"%s%d\n" % (PID_MARK, child.pid))
        return child
    return subprocess.Popen(  # noqa: S603 - certcast's own command line
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_introduce,  # noqa: PLW1509 - no thread runs yet
    )


def _introduce() -> None:
    """Between fork and exec: print the process id, and have the kernel kill the child when the tether is killed."""
    os.write(1, b"%s%d\n" % (PID_MARK, os.getpid()))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _KILL, 0, 0, 0)


def _end_descendants() -> None:
    """Kill the orphans that were handed to this process, in whatever session they live, until none is left."""
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, _KILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    """The direct children of this process (proc(5): `/proc/<pid>/task/<tid>/children` needs a kernel option)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # The command name may hold spaces and parentheses; the state and the parent follow its last ')'.
                after_name = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if int(after_name[1]) == os.getpid():
                    found.append(int(entry.name))
    return found


def main(arguments: list[str]) -> int:
    """Run the command given after the grace period until it or the parent ends."""
    try:
        tether = Tether(arguments[1:], float(arguments[0]))
    except OSError as error:
        sys.stderr.write(f"{arguments[1]} could not be started: {error.strerror}\n")
        return _TAKES_NO_PROGRAM

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        tether.stop()

    signal.signal(signal.SIGTERM, on_signal)
    # Ctrl-C in a terminal reaches every process of the foreground group; only certcast decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=tether.watch_orders, daemon=True).start()
    return tether.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
