"""Log lines of a part that runs in this process, taken the way that the other parts' output takes."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from local_azure.processes.child import appending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local_azure.processes.child import OnLine


@contextmanager
def captured(logger: str, component: str, *, log: Path, on_line: OnLine) -> Iterator[None]:
    """Append what a logger says to a file that only its owner may read, and hand its lines over.

    Args:
        logger: The logger's name.
        component: What the lines are said to be from.
        log: The file.
        on_line: Called with the component and each line, on any thread.
    """
    its_log = logging.getLogger(logger)
    appending(log).close()
    in_file = logging.FileHandler(log, encoding="utf-8")
    in_file.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    handed_over = _OnLine(component, on_line)
    handed_over.setFormatter(in_file.formatter)
    with ExitStack() as stack:
        stack.callback(its_log.setLevel, its_log.level)
        its_log.setLevel(logging.INFO)
        for handler in (in_file, handed_over):
            its_log.addHandler(handler)
            stack.callback(handler.close)
            stack.callback(its_log.removeHandler, handler)
        yield


class _OnLine(logging.Handler):
    """Hands log records over as lines of a component."""

    def __init__(self, component: str, on_line: OnLine) -> None:
        super().__init__()
        self._component = component
        self._on_line = on_line

    def emit(self, record: logging.LogRecord) -> None:
        self._on_line(self._component, self.format(record))
