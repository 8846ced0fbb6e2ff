"""Log files, one for each part of the local cloud, that only their owner may read."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO, Self

from shared.phrasing import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local_azure.processes.child import OnLine


class LogFiles:
    """The files, open until the block ends.

    Args:
        folder: Where they are; those of an earlier run are deleted.
        on_line: Called with each name and line too.
    """

    def __init__(self, folder: Path, on_line: OnLine | None) -> None:
        for old in folder.glob("*.log"):
            old.unlink()
        self._folder = folder
        self._on_line = on_line
        self._files: dict[str, BinaryIO] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __call__(self, name: str, line: str) -> None:
        """Take a line of a part."""
        if name not in self._files:
            descriptor = os.open(self._folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._files[name] = self._open.enter_context(os.fdopen(descriptor, "wb", buffering=0))
        # Read on terminals, and a server that was started here may quote anything that was asked of it.
        line = printable(line.expandtabs())
        self._files[name].write(f"{line}\n".encode())
        if self._on_line is not None:
            self._on_line(name, line)


@contextmanager
def captured(logger: str, name: str, on_line: OnLine) -> Iterator[None]:
    """Hand over what a logger of this process says, as a part's lines."""
    source = logging.getLogger(logger)
    level, handler = source.level, _Lines(name, on_line)
    source.addHandler(handler)
    source.setLevel(logging.INFO)
    try:
        yield
    finally:
        source.setLevel(level)
        source.removeHandler(handler)


class _Lines(logging.Handler):
    def __init__(self, name: str, on_line: OnLine) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self._part = name
        self._on_line = on_line

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).split("\n"):
            self._on_line(self._part, line)
