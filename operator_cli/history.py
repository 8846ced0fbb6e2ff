"""`certcast history`: what became of uploads in the last 90 days."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from operator_cli.account_choice import choose_storage
from operator_cli.entries import entries_table
from operator_cli.exits import Exit
from operator_cli.options import json_option, refuse_two_accounts, storage_options, url_option
from operator_cli.status_api import api_at
from operator_cli.storage import opened
from operator_cli.terminal import emit, results, safe
from shared.codec import instant_text
from shared.errors import CertcastError, NotSetUpError
from shared.state.history import MAX_PAST, HistoryKind, history_document
from shared.state.recalling import Wanted, recalled
from shared.state.records import HISTORY_TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from operator_cli.storage import Storage
    from shared.config import StorageAccess
    from shared.state.document import Document

_PAGE = 1000
_TIME = "a time such as 2030-01-02T03:04:05Z, or how long ago, as 1d, 12h or 30m"

since_option = click.option("--since", metavar="TIME", help=f"Leave out what was before: {_TIME}.")


@click.command("history")
@since_option
@click.option("--until", metavar="TIME", help=f"Leave out what was after: {_TIME}.")
@click.option(
    "--host",
    metavar="HOST",
    help="Only uploads for this host; `.example.com` for all below it, a word without a dot for hosts that have it.",
)
@click.option("--name", metavar="NAME", help="Only the upload of this name.")
@click.option("--kind", type=click.Choice([kind.value for kind in HistoryKind]), help="Only this.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=200, show_default=True, metavar="N", help="The newest so many."
)
@storage_options
@url_option
@json_option
def command(limit: int, **options: Any) -> int:  # noqa: ANN401 - as Click hands them over
    """Show what became of uploads, the newest first: when, which version and certificate, how long it took.

    \b
    Kinds:
      accepted, renewed     its hosts are to be served from it; in place of another certificate
      scheduled             it is served once it becomes valid
      rejected              it is not served; the reason says why
      live                  proved by a TLS handshake on every instance
      partially_live, failed    some, or no instance could serve it
      superseded            another upload is served for its hosts
      removed               deleted, and served by no instance any more
      expiring              it ends soon, or has ended, and nothing follows
      redeployed            it was installed once more, as somebody asked
      drift_repaired        something else had changed what is served; put right
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    refuse_two_accounts(options["url"], options["connection_string_file"], options["account"])
    query = {key: options[key] for key in ("since", "until", "host", "name", "kind") if options[key]}
    if options["url"] is not None:
        document = asyncio.run(_by_api(options["url"], query, limit))
    else:
        access = choose_storage(options["connection_string_file"], options["account"])
        document = asyncio.run(_by_storage(access, query, limit))
    if options["as_json"]:
        emit(document)
        return Exit.DONE
    results().print(entries_table(document["entries"]))
    if not document["complete"]:
        results().print(safe(f"There are more: --limit {limit} shows the newest of them.", "dim"))
    return Exit.DONE


async def _by_storage(access: StorageAccess, query: Mapping[str, str], limit: int) -> Document:
    async with opened(access) as storage:
        return await read_history(storage, query, limit)


async def read_history(storage: Storage, query: Mapping[str, str], limit: int) -> Document:
    """Read the newest entries that are asked for.

    Args:
        storage: The storage account.
        query: What is asked for, as text.
        limit: Entries at most.

    Raises:
        click.UsageError: What is asked for is none of what it may be.
    """
    wanted = Wanted.of(query, now=storage.now())
    if isinstance(wanted, str):
        raise click.UsageError(f"{wanted}.")
    is_wanted, complete = wanted.test(), True
    found: list[Document] = []
    try:
        async with aclosing(recalled(storage.tables, wanted, page=min(limit + 1, _PAGE))) as entries:
            async for entry in entries:
                if not is_wanted(entry):
                    continue
                if len(found) == limit:
                    complete = False
                    break
                found.append(history_document(entry))
    except NotSetUpError as error:
        raise no_history(error) from None
    return {"as_of": instant_text(storage.now()), "entries": found, "complete": complete}


def no_history(error: NotSetUpError) -> CertcastError:
    """What a person can do about it that the tables lack the history."""
    return CertcastError(
        f"{error}. Without that table, which deployments of earlier versions lack, entries wait in their uploads' "
        f"rows, {MAX_PAST} of each at most: az storage table create --name {HISTORY_TABLE} (docs/history.md)"
    )


async def _by_api(url: str, query: Mapping[str, str], limit: int) -> Document:
    """The same from the status API, page by page."""
    found: list[Document] = []
    asked, then = {**query, "limit": str(min(limit + 1, _PAGE))}, ""
    async with api_at(url, os.environ) as api:
        while True:
            page = await api.get(f"history?{urlencode({**asked, **({'after': then} if then else {})})}")
            found += page.get("entries", [])
            later = str(page.get("next") or "")
            more = len(found) > limit  # of which there are also on a last page
            if more or later in {"", then}:
                complete = not more and not later
                return {"as_of": page.get("as_of"), "entries": found[:limit], "complete": complete}
            then = later
