"""`certcast status --watch`: drawn again each second on a terminal, printed whenever it changes elsewhere."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.segment import Segment

from operator_cli.status_overview import overview, time_of
from operator_cli.status_tables import upload_tables
from operator_cli.terminal import results, safe

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from operator_cli.status_api import Reader
    from operator_cli.status_overview import Overview, Wish
    from shared.state.document import Document

    Lines = list[list[Segment]]

REFRESH_S = 1.0
_MORE = "... more than fits here"
_AGE = re.compile(r"\b\d+ (?:s|min|h|d) ago\b")


class Screenful:
    """Parts one below the other that fit the screen: the first is whole, of the second most is given up.

    Args:
        parts: What comes first, two lists, and what comes last.
    """

    def __init__(self, parts: tuple[RenderableType, RenderableType, RenderableType, RenderableType]) -> None:
        self._parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the lines that there is room for."""
        free = options.update(height=None)
        head, uploads, instances, notes = (console.render_lines(part, free, pad=False) for part in self._parts)
        room = (options.height or console.height) - len(head) - len(notes)
        if len(uploads) + len(instances) > room:
            some = min(len(instances), max(room // 3, room - len(uploads)))
            uploads, instances = _cut(uploads, room - some), _cut(instances, some)
        for line in (*head, *uploads, *instances, *notes):
            yield from line
            yield Segment.line()


def _cut(lines: Lines, room: int) -> Lines:
    """As many lines as there is room for; the last one says that there are more."""
    if len(lines) <= room:
        return lines
    kept = max(room - 1, 0)
    return [*lines[:kept], [Segment(_MORE)]] if room > 0 else []


async def watch(reading: AbstractAsyncContextManager[Reader], name: str | None, wish: Wish) -> None:
    """Go on showing one upload, or what is wished for, until it is cancelled."""
    console = results()
    async with reading as read:
        if console.is_terminal:
            await _on_screen(console, read, name, wish)
        else:
            await _line_by_line(console, read, name, wish)


async def _on_screen(console: Console, read: Reader, name: str | None, wish: Wish) -> None:
    last = ""
    try:
        with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
            while True:
                document = await read(name)
                if name is None:
                    found = overview(document, wish, most=console.height)
                    last = found.summary.line
                    live.update(Screenful(found.parts), refresh=True)
                else:
                    tables = upload_tables(document, time_of(document))
                    live.update(Screenful((Group(), tables, Group(), Group())), refresh=True)
                await asyncio.sleep(REFRESH_S)
    finally:
        if last:  # what was on the screen is gone with it
            console.print(safe(last))


async def _line_by_line(console: Console, read: Reader, name: str | None, wish: Wish) -> None:
    before: object = None
    while True:
        document = await read(name)
        found = overview(document, wish) if name is None else None
        state = _settled(document, found)
        if state != before:
            console.print(Group(*found.parts) if found else upload_tables(document, time_of(document)))
        before = state
        await asyncio.sleep(REFRESH_S)


def _settled(document: Document, found: Overview | None) -> object:
    """What is shown, without what changes with every heartbeat, and every second."""
    instances = [{**instance, "last_seen": None} for instance in document["instances"]]
    uploads = [{**upload, "reason": _AGE.sub("", upload["reason"])} for upload in document["uploads"]]
    shown = found and ([upload["name"] for upload in found.uploads], replace(found.summary, silent_for=""))
    return shown, {**document, "as_of": None, "uploads": uploads, "instances": instances}
