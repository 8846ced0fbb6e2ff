"""`certcast events`: the outgoing events, live, as the history has them."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from operator_cli.account_choice import choose_storage
from operator_cli.entries import hosts_of, moment_text, reason_of, style_of, took
from operator_cli.exits import Exit
from operator_cli.history import no_history, since_option
from operator_cli.options import refuse_two_accounts, storage_options, url_option
from operator_cli.status_api import api_at
from operator_cli.storage import opened
from operator_cli.terminal import emit_lines, results, safe, say, while_read
from shared.codec import instant_text
from shared.errors import CertcastError, NotSetUpError
from shared.state.history import history_document
from shared.state.recalling import Wanted, recalled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from operator_cli.status_api import Api
    from operator_cli.storage import Storage
    from shared.config import StorageAccess
    from shared.state.document import Document

    Look = Callable[[datetime], Awaitable[tuple[datetime, list[Document]]]]
    """Reads the entries since a moment; the time, and these."""

LOOK_S = 1.0
LATE = timedelta(minutes=3)
"""An entry may reach the table by a sweep, a minute after what it tells of; so far back is looked each time."""
_PAGE = 1000


class Following:
    """Which of the entries are new.

    Args:
        begin: What was before it is not shown.
    """

    def __init__(self, begin: datetime) -> None:
        self._begin = begin
        self._seen: dict[str, datetime] = {}

    def since(self, now: datetime) -> datetime:
        """From when on the next look is to read."""
        return max(self._begin, now - LATE)

    def new_among(self, entries: list[Document]) -> list[Document]:
        """Those that were not shown yet and have an outgoing event, oldest first."""
        new = []
        for at, entry in sorted(
            ((datetime.fromisoformat(each["at"]), each) for each in entries), key=lambda each: each[0]
        ):
            if at < self._begin or entry["id"] in self._seen:
                continue
            self._seen[entry["id"]] = at
            if entry.get("event_type"):
                new.append(entry)
        return new

    def forget(self, now: datetime) -> None:
        """Drop what no look reads again."""
        self._seen = {each: at for each, at in self._seen.items() if at >= now - 2 * LATE}


@click.command("events")
@since_option
@storage_options
@url_option
@click.option("--json-lines", is_flag=True, help="Print one JSON document a line: entries as of `history`.")
def command(
    since: str | None,
    connection_string_file: Path | None,
    account: str | None,
    url: str | None,
    json_lines: bool,  # noqa: FBT001 - an option
) -> int:
    """Show the events that other services are sent, as they are made, until Ctrl-C.

    They are read from the history, so they are shown where no topic and no webhook is set, too; `certcast status` tells
    of those that an outlet has not taken yet. One may come up to a minute late.
    """
    refuse_two_accounts(url, connection_string_file, account)
    access = None if url is not None else choose_storage(connection_string_file, account)
    with suppress(KeyboardInterrupt):  # the way to end it
        asyncio.run(while_read(_follow(access, url, since, as_json=json_lines)))
    return Exit.DONE


async def _follow(access: StorageAccess | None, url: str | None, since: str | None, *, as_json: bool) -> None:
    wanted = Wanted.of({"since": since}, now=datetime.now(UTC))
    if isinstance(wanted, str):
        raise click.UsageError(f"{wanted}.")
    async with AsyncExitStack() as stack:
        if access is not None:
            look = _at_storage(await stack.enter_async_context(opened(access)))
        else:
            look = _at_api(await stack.enter_async_context(api_at(url or "", os.environ)))
        now, entries = await look(wanted.since if since else datetime.now(UTC))
        following = Following(wanted.since if since else now)
        while True:
            _show(following.new_among(entries), as_json=as_json)
            following.forget(now)
            await asyncio.sleep(LOOK_S)
            now, entries = await _looked(look, following.since(now), now)


async def _looked(look: Look, since: datetime, before: datetime) -> tuple[datetime, list[Document]]:
    """Look; where a service does not answer now, say so, and go on with nothing new."""
    try:
        return await look(since)
    except CertcastError as error:
        if not error.retriable:
            raise
        say(f"{error}; looking again", "yellow")
        return before, []


def _at_storage(storage: Storage) -> Look:
    async def look(since: datetime) -> tuple[datetime, list[Document]]:
        wanted = Wanted(since=since, until=max(since, storage.now()) + LATE)
        try:
            async with aclosing(recalled(storage.tables, wanted, page=_PAGE)) as entries:
                found = [history_document(entry) async for entry in entries]
        except NotSetUpError as error:
            raise no_history(error) from None
        return storage.now(), found

    return look


def _at_api(api: Api) -> Look:
    async def look(since: datetime) -> tuple[datetime, list[Document]]:
        found: list[Document] = []
        query = {"since": instant_text(since), "limit": str(_PAGE)}
        while True:
            page = await api.get(f"history?{urlencode(query)}")
            found += page.get("entries", [])
            if not page.get("next") or page["next"] == query.get("after"):
                return datetime.fromisoformat(page["as_of"]), found
            query["after"] = str(page["next"])

    return look


def _show(events: list[Document], *, as_json: bool) -> None:
    if as_json:
        emit_lines(events)
        return
    for event in events:
        told = "; ".join(filter(None, [hosts_of(event), took(event.get("seconds")), reason_of(event)]))
        line = safe(f"{moment_text(event['at'])}  ", "dim").append_text(
            safe(event["event_type"], style_of(event["kind"]))
        )
        results().print(line.append_text(safe(f"  {event['name']}  {told}")), soft_wrap=True)
