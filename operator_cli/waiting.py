"""Waiting for something in the cloud, with a progress bar on a terminal and a line per change elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from operator_cli.exits import TimedOutError
from operator_cli.terminal import messages, safe

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

FIRST_LOOKS_S = 0.1
LONGEST_PAUSE_S = 1.0
_GROWTH = 1.1

IS_IT_RUNNING = (
    "is it running and subscribed to the container's events (docs/deploy.md), or `certcast up` on this machine?"
)
"""What a person can look after when the Function takes no notice."""

Show = Callable[[str, int, int], None]
"""Shows how far it is: what is happening, how many of how many."""


async def until(look: Callable[[], Awaitable[T | None]], *, timeout_s: float) -> T:
    """Look, at growing intervals, until there is something.

    Args:
        look: Answers None as long as there is nothing.
        timeout_s: How long to go on.

    Raises:
        TimedOutError: Without a text; what was waited for is the caller's to say.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = FIRST_LOOKS_S
    while True:
        found = await look()
        if found is not None:
            return found
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimedOutError
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * _GROWTH, LONGEST_PAUSE_S)


@contextmanager
def progress() -> Iterator[Show]:
    """Show progress on stderr: a bar on a terminal, elsewhere a line whenever it changes."""
    console = messages()
    if not console.is_terminal:
        yield _lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _COUNT,
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, count="")

        def show(text: str, done: int, total: int) -> None:
            count = f"{done}/{total}" if total else ""
            bar.update(task, description=safe(text).plain, completed=done, total=total or None, count=count)

        yield show


_COUNT = TextColumn("{task.fields[count]}", markup=False)


def _lines() -> Show:
    before = ""

    def show(text: str, done: int, total: int) -> None:
        nonlocal before
        line = f"{text}: {done}/{total}" if total else text
        if line != before:
            messages().print(safe(line), soft_wrap=True)
        before = line

    return show
