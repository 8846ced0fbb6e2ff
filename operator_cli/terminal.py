"""Where the command prints: results on stdout, everything else on stderr, and colour on a terminal alone.

With `--json` stdout carries one JSON document and nothing else.
"""

from __future__ import annotations

import io
import json
import re
import sys
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.text import Text

from shared.phrasing import printable

if TYPE_CHECKING:
    from typing import IO, Any, TextIO

    from rich.style import Style

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


def _console(stream: TextIO) -> Console:
    # Said explicitly, as Rich would also take FORCE_COLOR and the like for a terminal.
    terminal = stream.isatty()
    return Console(
        file=stream if terminal else cast("IO[str]", _Trimmed(stream)),
        force_terminal=terminal,
        force_interactive=terminal,
        width=None if terminal else WIDTH_OF_A_FILE,
        markup=False,
        highlight=False,
        emoji=False,
    )
