"""Commands on this terminal: run in the foreground, or beside others with what they print kept until it is wanted."""

from __future__ import annotations

import shlex
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from devtools.environment import Environment


def run(here: Environment, command: Sequence[str | Path], *, quiet: bool = False) -> int:
    """Run a command on this terminal; it gets the signals that would end this process, and the chance to stop well."""
    if not quiet:
        print(f"\n$ {shown(here, command)}", flush=True)
    child = subprocess.Popen(command, cwd=here.root, env=here.variables())

    def hand_on(number: int, _frame: FrameType | None) -> None:
        # Ctrl-C reaches the child by itself: it belongs to the same terminal.
        if number != signal.SIGINT:
            child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code in {-signal.SIGINT, -signal.SIGTERM}:
        raise KeyboardInterrupt
    return code


class Beside:
    """A command that runs while others do.

    Args:
        here: The environment.
        command: What runs.
        output: Where it prints to.
    """

    def __init__(self, here: Environment, command: Sequence[str | Path], output: IO[bytes]) -> None:
        self._shown = shown(here, command)
        self._output = output
        self._child = subprocess.Popen(
            command, cwd=here.root, env=here.variables(), stdout=output, stderr=subprocess.STDOUT
        )

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        return self._child.wait()

    def failed(self) -> list[str]:
        """Print what it said, when it has ended, and answer its command line if it failed."""
        code = self.wait()
        self._output.seek(0)
        print(f"\n$ {self._shown}\n{self._output.read().decode(errors='replace')}", end="", flush=True)
        return [self._shown] if code else []

    def end(self) -> None:
        """End it, whatever it has done."""
        self._child.kill()
        self._child.wait()


@contextmanager
def beside(here: Environment, command: Sequence[str | Path]) -> Iterator[Beside]:
    """Run a command beside others; it ends with the block."""
    with tempfile.TemporaryFile() as output:
        running = Beside(here, command, output)
        try:
            yield running
        finally:
            running.end()


def shown(here: Environment, command: Sequence[str | Path]) -> str:
    """A command line as a person would type it in the environment."""
    words = [part.stem if isinstance(part, Path) and part.parent == here.scripts else str(part) for part in command]
    return shlex.join(words)
