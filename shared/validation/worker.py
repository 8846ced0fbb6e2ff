"""The process in which untrusted files are opened: judges one after the other, within bounds, and holds no credential.

It is started by `workers`, which ends it when it takes longer than it may. What it logs goes along with its answers.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from shared.codec import parse_json
from shared.validation.tasks import (
    LENGTH_OCTETS,
    MAX_LINES,
    Answer,
    decode_task,
    encode,
    length_of,
    policy_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMORY_BYTES = 256 * 1024 * 1024
"""Of address space; the interpreter with all its modules takes 45 MiB of it."""
CPU_S = 10
"""Processor time for one upload."""
CHEAP_CPU_S = 1
"""The same for one that is only tried."""
NICENESS = 10


class _Lines(logging.Handler):
    """Keeps what is logged while a file is judged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def take(self) -> tuple[str, ...]:
        lines, self.lines = tuple(self.lines[:MAX_LINES]), []
        return lines


def main() -> None:
    """Answer tasks from stdin on stdout until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that prints may end up among the answers
    if "--nice" in sys.argv:
        _be_nice()
    _bound_memory()
    lines = _Lines()
    logging.basicConfig(handlers=[lines], force=True)
    first = _read(sys.stdin.buffer)
    if first is None:
        return
    document: Mapping[str, object] = parse_json(first)  # type: ignore[assignment]  # `workers` sends an object first
    policy = policy_of(document)
    _write(answers, Answer())  # ready: whatever ends this process from here on is a file's doing, or somebody's
    while (text := _read(sys.stdin.buffer)) is not None:
        task = decode_task(text)
        _arm(CHEAP_CPU_S if task.cheap else CPU_S)
        answer = task.done(policy)
        _arm(0)
        _write(answers, replace(answer, lines=lines.take()))


def _read(stream: BinaryIO) -> bytes | None:
    prefix = stream.read(LENGTH_OCTETS)
    if len(prefix) < LENGTH_OCTETS:
        return None
    return stream.read(length_of(prefix))


def _write(stream: BinaryIO, answer: Answer) -> None:
    stream.write(encode(answer))
    stream.flush()


def _arm(seconds: float) -> None:
    """Have the system end this process after so much processor time, whatever it is doing; 0 for never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _be_nice() -> None:
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def _bound_memory() -> None:
    if os.name == "posix":
        import resource  # noqa: PLC0415 - not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold keys
        if sys.platform == "linux":  # macOS, where an app is tried out at most, takes no such limit
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    main()
