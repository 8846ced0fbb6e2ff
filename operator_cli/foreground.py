"""Running the local cloud in the foreground: it ends in good order however the program is asked to end."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

_ENDINGS = ("SIGTERM", "SIGHUP", "SIGBREAK")  # Ctrl-C is asyncio's own; the last one is Windows' Ctrl-Break


def run_until_stopped(work: Coroutine[None, None, T]) -> T:
    """Run to the end, or until Ctrl-C or a request to end, on which everything that was started is stopped first.

    Raises:
        KeyboardInterrupt: It was stopped.
    """
    try:
        return asyncio.run(_stoppable(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _stoppable(work: Coroutine[None, None, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for name in _ENDINGS:
        number = getattr(signal, name, None)
        if number is None or task is None:
            continue
        try:
            loop.add_signal_handler(number, task.cancel)
        except NotImplementedError:  # Windows: asyncio has no signal handlers there
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(task.cancel))
    return await work
