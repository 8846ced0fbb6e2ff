"""Where the command prints: results on stdout, everything else on stderr, and colour on a terminal alone.

With `--json` stdout carries one JSON document and nothing else, with `--json-lines` one on each line.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import select
import sys
from typing import TYPE_CHECKING, TypeVar, cast

from rich.console import Console
from rich.text import Text

from shared.phrasing import printable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from typing import IO, Any, TextIO

    from rich.style import Style

T = TypeVar("T")

_LOOK_FOR_READER_S = 0.5
_TRAILING = re.compile(r" +(?=\n)")

WIDTH_OF_A_FILE = 200
"""Columns where the output is no terminal: wide enough that a row of a table stays one line."""


def prepare_streams() -> None:
    """Let characters that a stream's encoding does not have be replaced: a status must not fail on a blob's name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def results() -> Console:
    """The console for what the command was asked for."""
    return _console(sys.stdout)


def messages() -> Console:
    """The console for everything else: progress, remarks, errors."""
    return _console(sys.stderr)


def say(text: str, style: str | Style = "") -> None:
    """Print one remark on stderr."""
    messages().print(safe(text, style), soft_wrap=True)


def emit(document: dict[str, Any]) -> None:
    """Print the one JSON document on stdout. ASCII only, so that no name in it can steer a terminal."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def emit_lines(documents: Iterable[dict[str, Any]]) -> None:
    """Print JSON documents on stdout, each on a line of its own; ASCII only."""
    for document in documents:
        sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
    sys.stdout.flush()


def is_reader_gone(stream: TextIO | None = None) -> bool:
    """Whether stdout, or another stream, is a pipe or a terminal that nothing reads; on Windows only writing tells."""
    if sys.platform == "win32":
        return False
    try:
        file = (stream or sys.stdout).fileno()
    except (OSError, ValueError):
        return False  # it is no file
    asked = select.poll()
    asked.register(file, 0)  # errors are told without being asked for (poll(2))
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))


async def while_read(work: Coroutine[Any, Any, T]) -> T:
    """Do what goes on until it is ended, and end it within half a second of the end of what reads stdout.

    Raises:
        BrokenPipeError: Nothing reads it any more.
    """
    working = asyncio.create_task(work)
    try:
        while not (await asyncio.wait([working], timeout=_LOOK_FOR_READER_S))[0]:
            if is_reader_gone():
                raise BrokenPipeError
        return working.result()
    finally:
        working.cancel()
        await asyncio.wait([working])


def safe(text: str, style: str | Style = "") -> Text:
    """Text from outside, fit for a terminal: characters that control it, or that cannot be printed, are replaced."""
    return Text(printable(text), style=style, overflow="fold")


class _Trimmed(io.TextIOBase):
    """Takes away the spaces with which Rich fills up the lines of a table."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_TRAILING.sub("", text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


class _Console(Console):
    """A console whose reader may go away: that is no failure of the command."""

    def on_broken_pipe(self) -> None:
        """Say so as any other writing does, where Rich would end the process with exit code 1."""
        raise BrokenPipeError


def _console(stream: TextIO) -> Console:
    # Said explicitly, as Rich would also take FORCE_COLOR and the like for a terminal.
    terminal = stream.isatty()
    return _Console(
        file=stream if terminal else cast("IO[str]", _Trimmed(stream)),
        force_terminal=terminal,
        force_interactive=terminal,
        width=None if terminal else WIDTH_OF_A_FILE,
        markup=False,
        highlight=False,
        emoji=False,
    )
