"""Requests that the local cloud counted, as tables for people: after each upload, and at the end."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from local_azure.proxy.counting import CLIENT, useful
from operator_cli.terminal import results, safe
from shared.azure.blobs import UPLOADS_CONTAINER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local_azure.proxy.counting import Counted, Counts, RequestCounter

_LOOK_EVERY_S = 0.25
_QUIET_S = 2.0
_CHANGES = {"Put Blob", "Put Block List", "Delete Blob"}
_AGENT = re.compile(r"agent-\d+$")
_OWN_QUEUE = re.compile(r"cert-agent-.+")


@asynccontextmanager
async def requests_shown(requests: RequestCounter | None) -> AsyncIterator[None]:
    """Print what is counted: each time nothing was asked for 2 s after an upload or a deletion, and at the end.

    Args:
        requests: The counter; None where nothing is counted, and nothing printed.
    """
    if requests is None:
        yield
        return
    start = requests.mark()
    watching = asyncio.create_task(_watch(requests))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        results().print(request_table("requests in all", requests.since(start)))


async def _watch(requests: RequestCounter) -> None:
    loop = asyncio.get_running_loop()
    mark, seen, changed_at = requests.mark(), 0, loop.time()
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        counts = requests.since(mark)
        asked = sum(count for kind, count in counts.items() if kind.is_useful or _is_change(kind))
        if asked != seen:
            seen, changed_at = asked, loop.time()
        if loop.time() - changed_at < _QUIET_S:
            continue
        if any(_is_change(kind) for kind in counts):
            results().print(request_table("requests since the upload", counts))
        mark, seen = requests.mark(), 0


def _is_change(kind: Counted) -> bool:
    return kind.caller == CLIENT and kind.resource == UPLOADS_CONTAINER and kind.operation in _CHANGES


def request_table(title: str, counts: Counts) -> Table:
    """What was asked because there was something to do, by kind; the rest in the last lines."""
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for column in ("service", "operation", "caller"):
        table.add_column(column, overflow="fold")
    for column in ("count", "conflicts"):
        table.add_column(column, justify="right")
    rows, conflicts = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for kind, count in useful(counts).items():
        what = f"{kind.operation} {_OWN_QUEUE.sub('cert-agent-...', kind.resource)}"
        row: tuple[str, str, str] = (kind.service, what, _party(kind))
        rows[row] += count
        conflicts[row] += count if kind.outcome == "conflict" else 0
    for row, count in sorted(rows.items()):
        table.add_row(*map(safe, row), str(count), str(conflicts[row] or ""))
    table.add_section()
    table.add_row("", "all of these", "", str(rows.total()), str(conflicts.total()), style="bold")
    apart = Counter[tuple[str, str]]()
    for kind, count in counts.items():
        if not kind.is_useful:
            what = "polls" if kind.is_poll else "heartbeats" if kind.is_heartbeat else "others"
            apart[what, _party(kind)] += count
    for (what, party), count in sorted(apart.items()):
        table.add_row("", f"apart: {what}", safe(party), str(count), "", style="dim")
    return table


def _party(kind: Counted) -> str:
    """The caller, the agents together."""
    return _AGENT.sub("agents", kind.caller)
