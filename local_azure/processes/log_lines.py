"""Log lines of a part that runs in this process, taken the way that the output of child processes is."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from local_azure.processes.child import appending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local_azure.processes.child import OnLine


@contextmanager
def captured(logger: str, component: str, *, log: Path, on_line: OnLine | None) -> Iterator[None]:
    """Append what a logger says to a file that only its owner may read, and hand its lines over.

    Args:
        logger: The logger's name.
        component: What the lines are said to be from.
        log: The file.
        on_line: Called with the component and each line.
    """
    source = logging.getLogger(logger)
    level = source.level
    with appending(log) as file:
        handler = _Lines(component, file, on_line)
        source.addHandler(handler)
        source.setLevel(logging.INFO)
        try:
            yield
        finally:
            source.setLevel(level)
            source.removeHandler(handler)


class _Lines(logging.Handler):
    """Takes log records as lines of a component."""

    def __init__(self, component: str, file: BinaryIO, on_line: OnLine | None) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self._component = component
        self._file = file
        self._on_line = on_line

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        self._file.write(f"{line}\n".encode())
        if self._on_line is not None:
            self._on_line(self._component, line)
