"""What libraries that send spans have to say, in one line of ours now and then: a collector may be away for days.

They say it in a thread of theirs. The Functions host drops what belongs to no invocation, so it is kept until work of
ours comes by.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

from shared.phrasing import logger, shown

if TYPE_CHECKING:
    from collections.abc import Callable

log = logger(__name__)

SAID_EVERY_S = 600
SHOWN_OF_IT = 300
_ADDRESS = re.compile(r"(https?://[^/\s'\"?]+)[^\s'\"]*|(with url:) \S+")
"""Behind the host there may be a token."""


class NowAndThen(logging.Handler):
    """Takes libraries' lines, and has one of ours to say for the first, and then for one in ten minutes.

    Args:
        clock: Tells seconds that only pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._last: float | None = None
        self._unsaid = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, unless something was kept a short while ago."""
        now = self._clock()
        if self._last is not None and now - self._last < SAID_EVERY_S:
            return
        self._last = now
        self._unsaid = _ADDRESS.sub(lambda found: f"{found[1] or found[2]} ...", record.getMessage())

    def say(self) -> None:
        """Say what was kept, if anything."""
        if self._unsaid:
            kept, self._unsaid = self._unsaid, ""
            log.warning(
                "traces: spans may be lost, and nothing else is: %s; this is said once in %d minutes",
                *(shown(kept, SHOWN_OF_IT), SAID_EVERY_S / 60),
            )


def hush(*libraries: str) -> NowAndThen:
    """Have what these loggers, and those below them, say go through one such handler."""
    handler = NowAndThen()
    for name in libraries:
        library = logging.getLogger(name)
        library.handlers[:] = [handler]
        library.propagate = False
    return handler
