"""What the parts of the local cloud print during a soak, as far as it counts."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable

_SHOWN = 12
_EXCEPTION = "Traceback (most recent call last)"
_PROGRAMS = re.compile(r"agent-\d+|functions\Z|events\Z|topic\Z")


class Logs:
    """Takes lines in; which program's they are is said by its name.

    Args:
        heard: Called with each line of an agent.

    Attributes:
        exceptions: How many stack traces certcast's own programs printed, by program.
        errors: How many errors they told, likewise.
        latest: The latest lines of errors and stack traces.
    """

    def __init__(self, heard: Callable[[str, str], None]) -> None:
        self.exceptions = Counter[str]()
        self.errors = Counter[str]()
        self.latest: deque[str] = deque(maxlen=_SHOWN)
        self._heard = heard
        self._tracing: dict[str, int] = {}

    def __call__(self, component: str, line: str) -> None:
        """Take a line in."""
        if not _PROGRAMS.match(component):
            return
        self._heard(component, line)
        if _EXCEPTION in line:
            self.exceptions[component] += 1
            self._tracing[component] = _SHOWN
        if "ERROR" in line or "CRITICAL" in line:
            self.errors[component] += 1
            self.latest.append(f"{component}: {line}")
        elif self._tracing.get(component):
            self._tracing[component] -= 1
            self.latest.append(f"{component}: {line}")
