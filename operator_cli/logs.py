"""`certcast logs`: the way of one upload, by stage and instance."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from operator_cli.account_choice import choose_storage
from operator_cli.entries import style_of
from operator_cli.exits import Exit
from operator_cli.options import json_option, name_argument, storage_options
from operator_cli.status import why_unknown
from operator_cli.status_tables import plain_table
from operator_cli.storage import opened
from operator_cli.terminal import emit, results, safe, say
from shared.bounded import gather_bounded
from shared.codec import instant_text
from shared.errors import AccessDeniedError, CertcastError, NotSetUpError
from shared.state.history import HistoryKind
from shared.state.recalling import Wanted, recalled
from shared.state.timeline import moment_document, timeline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from operator_cli.storage import Storage
    from shared.binding import BindingKey
    from shared.config import StorageAccess
    from shared.state.document import Document
    from shared.state.history import HistoryEntry
    from shared.state.records import InstallationRecord

MOST_ENTRIES = 500
_FAILED = frozenset({"failed", "probe_mismatch", "refused"})
_DAY_CHARS = len("2030-01-02 ")
_MILLISECONDS = len("2030-01-02 03:04:05.678")


@click.command("logs")
@name_argument
@storage_options
@json_option
def command(
    name: str,
    connection_string_file: Path | None,
    account: str | None,
    as_json: bool,  # noqa: FBT001 - an option
) -> int:
    """Show the way of the upload NAME, the oldest first: by stage and instance, after what came of it before.

    \b
    Stages of its last version:
      uploaded, noticed, judged, told   by the Function; told are the instances
      installed                         an instance has put it in place and seen it served
      failed, refused, probe_mismatch   an instance could not; the detail says why
      let_go                            an instance serves the removed upload no more
    All others are kinds of the history, which `certcast history --help` explains.
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    document = asyncio.run(_read(choose_storage(connection_string_file, account), name))
    if as_json:
        emit(document)
    else:
        results().print(_lines(document["moments"]))
    return Exit.DONE


async def _read(access: StorageAccess, name: str) -> Document:
    async with opened(access) as storage:
        return await read_timeline(storage, name)


async def read_timeline(storage: Storage, name: str) -> Document:
    """Read what became of one upload, and where.

    Args:
        storage: The storage account.
        name: The upload's name.

    Raises:
        CertcastError: No upload of that name is known, and the history has none.
    """
    state, now = storage.tables, storage.now()
    entries = await _entries(storage, name)
    record = await state.uploads.get(name)
    if record is None and not entries:
        raise CertcastError(await why_unknown(name, storage.uploads))
    reports: list[InstallationRecord] = []
    if record is not None:
        for found in await gather_bounded(state.reports_on(host, port) for host, port in _places(record.claims)):
            reports += found
    moments = timeline(record, reports, entries)
    return {"as_of": instant_text(now), "name": name, "moments": [moment_document(moment) for moment in moments]}


def _places(claims: Sequence[BindingKey]) -> list[tuple[str, int]]:
    return sorted({(key.host, key.port) for key in claims})


async def _entries(storage: Storage, name: str) -> list[HistoryEntry]:
    """The newest entries on an upload."""
    found: list[HistoryEntry] = []
    wanted = Wanted.of({"name": name}, now=storage.now())
    if isinstance(wanted, str):
        raise CertcastError(wanted)
    is_wanted = wanted.test()
    try:
        async with aclosing(recalled(storage.tables, wanted)) as entries:
            async for entry in entries:
                if len(found) == MOST_ENTRIES:
                    break
                found += [entry] if is_wanted(entry) else []
    except (NotSetUpError, AccessDeniedError) as error:
        say(f"certcast: what came before is not shown: {error}", "yellow")
    return found


def _lines(moments: Sequence[Document]) -> RenderableType:
    """A row for each moment; its day where that is another than the row's before."""
    table = plain_table("when (UTC)", "stage", "instance", "took", "detail")
    day = ""
    for moment in moments:
        when = moment["at"].replace("T", " ")[:_MILLISECONDS]
        shown = when if when[:_DAY_CHARS] != day else when[_DAY_CHARS:].rjust(_MILLISECONDS)
        day = when[:_DAY_CHARS]
        table.add_row(
            safe(shown),
            safe(moment["stage"], _style(moment["stage"])),
            safe(moment["instance"] or ""),
            safe(_took(moment["took_ms"])),
            safe(moment["detail"]),
        )
    return table


def _style(stage: str) -> str:
    if stage in _FAILED:
        return "red"
    return style_of(stage) if stage in set(HistoryKind) else ""


def _took(ms: float | None) -> str:
    if ms is None:
        return ""
    return f"{ms:.0f} ms" if ms < 10_000 else f"{ms / 1_000:.0f} s"  # noqa: PLR2004 - ten seconds
