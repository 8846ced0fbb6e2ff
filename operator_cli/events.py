"""`certcast events`: the outgoing events as they come about, whether they are sent anywhere or not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from operator_cli.account_choice import choose_storage
from operator_cli.entries import hosts_of, moment_text, reason_of, style_of, took
from operator_cli.exits import Exit
from operator_cli.following import LOOK_EVERY_S, Following
from operator_cli.history import no_history, since_option
from operator_cli.options import storage_options
from operator_cli.storage import opened
from operator_cli.terminal import emit_lines, results, safe, say, while_read
from shared.errors import NotSetUpError, UnavailableError
from shared.state.history import history_document
from shared.state.recalling import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from operator_cli.storage import Storage
    from shared.config import StorageAccess
    from shared.state.document import Document
    from shared.state.history import HistoryEntry

    Show = Callable[[Sequence[HistoryEntry]], None]


@click.command("events")
@since_option
@storage_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document on each line.")
def command(
    since: str | None,
    connection_string_file: Path | None,
    account: str | None,
    as_json: bool,  # noqa: FBT001 - an option
) -> int:
    """Show the events for other services as they come about, until Ctrl-C; first those since a time, if one is given.

    They are shown whether a topic or a webhook is set or not. Their ids and types are those that are sent; what is told
    of the upload is the history's entry, which is less than an event's `data`.
    """
    access = choose_storage(connection_string_file, account)
    with suppress(KeyboardInterrupt):  # the way to end it
        asyncio.run(while_read(_follow(access, since, _print_json if as_json else _print)))
    return Exit.DONE


async def _follow(access: StorageAccess, since: str | None, show: Show) -> None:
    async with opened(access) as storage:
        following = Following(storage.tables, storage.now)
        try:
            show(await following.begin(_since(storage, since)))
        except NotSetUpError as error:
            raise no_history(error) from None
        is_away = False
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                show(await following.look())
            except UnavailableError as error:
                if not is_away:
                    say(f"certcast: {error}; it is looked again", "yellow")
                is_away = True
            else:
                is_away = False


def _since(storage: Storage, since: str | None) -> datetime | None:
    if since is None:
        return None
    wanted = Wanted.of({"since": since}, now=storage.now())
    if isinstance(wanted, str):
        raise click.UsageError(f"{wanted}.")
    return wanted.since


def event_document(entry: HistoryEntry) -> Document:
    """An event as a line of JSON: named as in a CloudEvent, with the entry of the history as its data."""
    kind = entry.kind.event_type
    document = history_document(entry)
    return {
        "id": entry.id,
        "type": None if kind is None else kind.value,
        "subject": entry.name,
        "time": document["at"],
        "data": document,
    }


def _print_json(entries: Sequence[HistoryEntry]) -> None:
    emit_lines(event_document(entry) for entry in entries if entry.kind.event_type is not None)


def _print(entries: Sequence[HistoryEntry]) -> None:
    console = results()
    for entry in entries:
        if (kind := entry.kind.event_type) is None:
            continue
        document = history_document(entry)
        parts = [entry.name, hosts_of(document), took(entry.seconds), reason_of(document)]
        line = safe(moment_text(document["at"]), "dim")
        line.append("  ").append_text(safe(kind.value, style_of(entry.kind.value)))
        line.append("  ").append_text(safe("  ".join(filter(None, parts))))
        console.print(line, soft_wrap=True)
