"""Files that a server must accept before they count: commit, check, put in force, or put everything back.

How a server checks and reloads is its target's business; the order of the steps is this module's.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from instance_agent.targets.base import ApplyError, Key, ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from instance_agent.targets.parts.file_batch import FileBatch


class Activation(Protocol):
    """How a server is made to use its files."""

    async def check(self) -> str | None:
        """Why the server would not take the files as they are now; None when it would."""

    async def activate(self) -> str | None:
        """Make the server use the files as they are now; why it did not, or None.

        Raises:
            ServerUnavailableError: The server is in no state to use any.
        """


class Interval:
    """Keeps reloads apart: a busy fleet's changes gather while the server rests from the last one."""

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._last: float | None = None

    async def wait(self) -> None:
        """Wait until a reload may happen again."""
        if self._last is not None:
            await asyncio.sleep(max(0.0, self._last + self._least_s - time.monotonic()))

    def begin(self) -> None:
        """A reload happens now."""
        self._last = time.monotonic()


def broken_without_us(refused: str) -> str:
    """What is said where a server refuses its configuration as it was before us.

    Args:
        refused: What its check said.
    """
    return f"the server's configuration is broken without certcast's part: {refused}"


async def put_in_force(
    batch: FileBatch,
    activation: Activation,
    *,
    blame: Callable[[str], Key | None] = lambda _: None,
    interval: Interval | None = None,
) -> None:
    """Commit the batch and have the server use it, or leave files and server as they were.

    Args:
        batch: Not committed yet.
        activation: The server's check and reload.
        blame: Finds in what the server said which host and port it is about.
        interval: To be told of each reload; None for none. Wait for it before the batch is made, so that what the
            batch is made of is not old when it is committed.

    Raises:
        ApplyError: The server does not take these files, but takes those before them.
        ServerUnavailableError: It takes neither, or is down.
    """
    interval = interval or Interval(0)
    await asyncio.to_thread(batch.commit, on_trial=True)
    try:
        await _accepted(batch, activation, blame, interval)
    except BaseException:
        await asyncio.to_thread(batch.undo)
        raise
    finally:
        await asyncio.to_thread(batch.close)


async def _accepted(
    batch: FileBatch, activation: Activation, blame: Callable[[str], Key | None], interval: Interval
) -> None:
    if (refused := await activation.check()) is not None:
        await asyncio.to_thread(batch.undo)
        culprit = blame(refused)
        if culprit is None and (still := await activation.check()) is not None:
            raise ServerUnavailableError(broken_without_us(still))
        raise ApplyError(refused, culprit=culprit)
    await asyncio.to_thread(batch.proved)
    interval.begin()
    if (trouble := await activation.activate()) is not None:
        await asyncio.to_thread(batch.undo)
        interval.begin()
        if (still := await activation.activate()) is not None:
            raise ServerUnavailableError(f"the server cannot be reloaded, with its old files neither: {still}")
        raise ApplyError(trouble, culprit=blame(trouble))
