"""`certcast logs`: the way of one upload, moment by moment and instance by instance."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from operator_cli.account_choice import choose_storage
from operator_cli.entries import style_of
from operator_cli.exits import Exit
from operator_cli.options import json_option, name_argument, refuse_two_accounts, storage_options, url_option
from operator_cli.status import why_unknown
from operator_cli.status_api import api_at, in_path
from operator_cli.status_tables import plain_table
from operator_cli.storage import opened
from operator_cli.terminal import emit, results, safe
from shared.errors import CertcastError
from shared.state.recalling import past_of
from shared.state.timeline import moment_document, timeline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from operator_cli.storage import Storage
    from shared.config import StorageAccess
    from shared.state.document import Document

_STYLES = {"installed": "green", "failed": "red", "probe_mismatch": "red", "refused": "red"}


@click.command("logs")
@name_argument
@storage_options
@url_option
@json_option
def command(
    name: str,
    connection_string_file: Path | None,
    account: str | None,
    url: str | None,
    as_json: bool,  # noqa: FBT001 - an option
) -> int:
    """Show the way of the upload NAME, oldest first: uploaded, noticed, judged, told, and installed where.

    Before its latest version comes what became of it in the last seven days; `certcast history --name NAME` has all of
    it. What an instance did is told by its own clock.

    \b
    Stages:
      uploaded, noticed, judged, told   the version that was judged last
      installed                         an instance installed it and proved it by a TLS handshake
      failed, probe_mismatch, refused   an instance could not; the detail says why
      let_go                            an instance serves it no more
      others                            as in `certcast history`
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    refuse_two_accounts(url, connection_string_file, account)
    document = asyncio.run(
        _by_api(url, name) if url is not None else _by_storage(choose_storage(connection_string_file, account), name)
    )
    if as_json:
        emit(document)
    else:
        results().print(timeline_table(document["timeline"]))
    return Exit.DONE


async def _by_storage(access: StorageAccess, name: str) -> Document:
    async with opened(access) as storage:
        return await read_timeline(storage, name)


async def read_timeline(storage: Storage, name: str) -> Document:
    """Read the way of one upload.

    Raises:
        CertcastError: No upload of that name is known.
    """
    state = storage.tables
    record = await state.uploads.get(name)
    if record is None:
        raise CertcastError(await why_unknown(name, storage.uploads))
    reports = [report for key in record.claims for report in await state.reports_on(key.host, key.port)]
    past = await past_of(state, record, storage.now())
    moments = [moment_document(moment) for moment in timeline(record, reports, past)]
    return {"name": record.name, "timeline": moments}


async def _by_api(url: str, name: str) -> Document:
    async with api_at(url, os.environ) as api:
        found = await api.get(f"certificates/{in_path(name)}")
    if not isinstance(found.get("timeline"), list):
        raise CertcastError("this Functions app tells of no timeline: update it, or ask the storage account")
    return {"name": found["name"], "timeline": found["timeline"]}


def timeline_table(moments: Sequence[Document]) -> RenderableType:
    """A row for each moment."""
    if not moments:
        return safe("nothing is told of it yet", "dim")
    table = plain_table("when (UTC)", "stage", "took", "instance", "what")
    for moment in moments:
        stage = str(moment["stage"])
        table.add_row(
            safe(_to_the_millisecond(moment["at"])),
            safe(stage, _STYLES.get(stage) or style_of(stage)),
            safe(_took(moment.get("took_ms"))),
            safe(moment.get("instance") or ""),
            safe(moment.get("detail") or ""),
        )
    return table


def _to_the_millisecond(at: str) -> str:
    return datetime.fromisoformat(at).astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")


def _took(ms: float | None) -> str:
    if ms is None:
        return ""
    return f"{ms:.0f} ms" if ms < 10_000 else f"{ms / 1000:.1f} s"  # noqa: PLR2004 - seconds are read more easily
