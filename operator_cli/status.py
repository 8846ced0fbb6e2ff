"""`certcast status`: uploads and instances as the tables, or the status API, have them."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

import click
from rich.live import Live

from operator_cli.account_choice import choose_storage
from operator_cli.exits import Exit
from operator_cli.options import json_option, storage_options
from operator_cli.status_api import status_api_at
from operator_cli.status_tables import status_tables
from operator_cli.storage import opened
from operator_cli.terminal import emit, results
from operator_cli.waiting import IS_IT_RUNNING
from shared.errors import CertcastError
from shared.phrasing import day
from shared.state.document import installation_document, status_document
from shared.state.rows import UnreadableRow
from shared.state.telling import with_reasons
from shared.upload import BLOB_SCHEME, is_certificate_name, scheme_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from operator_cli.status_api import Reader
    from operator_cli.storage import Storage
    from shared.config import StorageAccess
    from shared.ports import UploadContainer
    from shared.state.document import Document
    from shared.state.records import UploadRecord
    from shared.state.tables import State

REFRESH_S = 1.0
_AGE = re.compile(r"\b\d+ (?:s|min|h|d) ago\b")


@click.command("status")
@click.argument("name", required=False)
@storage_options
@click.option(
    "--url",
    metavar="URL",
    help="Ask the status API at this address instead of the storage account; its function key is read from "
    "CERTCAST_FUNCTION_KEY.",
)
@json_option
@click.option("--watch", is_flag=True, help="Go on showing it until Ctrl-C; not with --json.")
def command(  # noqa: PLR0917 - Click passes them by name
    name: str | None,
    connection_string_file: Path | None,
    account: str | None,
    url: str | None,
    as_json: bool,  # noqa: FBT001 - an option
    watch: bool,  # noqa: FBT001 - an option
) -> int:
    """Show every upload and every instance, or the upload NAME with what each instance reported about it.

    Removed uploads are left out once no instance serves them any more, unless named.

    \b
    Statuses:
      received, waiting_for_metadata   being looked at; has no password yet
      rejected                         not served; the reasons say what to do
      scheduled                        served once it becomes valid
      accepted                         instances were told, not all have proved it
      live                             proved by a TLS handshake on every instance
      partially_live, failed           some, or no instance could serve it
      superseded                       another upload is served for its hosts
      removed                          deleted; `live` counts who still serves it

    \b
    Instances:
      starting, ready                  running; ready once it tried all that it is to serve
      trouble                          running; its web server cannot be used now
      stopped                          its agent was stopped
      silent                           it missed three heartbeats; both are forgotten after half an hour
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    if watch and as_json:
        raise click.UsageError("--watch shows tables, and --json prints one document: use one of them")
    if url is not None and (connection_string_file is not None or account is not None):
        raise click.UsageError("--url asks the status API, which knows its storage account: give no other")
    if url is not None:
        reading = status_api_at(url, os.environ)
    else:
        reading = _storage_at(choose_storage(connection_string_file, account))
    if watch:
        with suppress(KeyboardInterrupt):  # the way to end it
            asyncio.run(_watch(reading, name))
        return Exit.DONE
    document = asyncio.run(_read_once(reading, name))
    if as_json:
        emit(document)
    else:
        results().print(status_tables(document))
    return Exit.DONE


async def read_status(storage: Storage, name: str | None) -> Document:
    """Read the status document, of one upload or of all.

    Args:
        storage: The storage account.
        name: The upload; None for all.

    Raises:
        CertcastError: No upload of that name is known.
    """
    state, unreadable = storage.tables, list[UnreadableRow]()
    instances = [known async for known in state.instances.all(unreadable=unreadable)]
    known_by_id = {known.value.id: known for known in instances}
    now = storage.now()
    if name is None:
        records = [known.value async for known in state.uploads.all(unreadable=unreadable)]
        uploads = await with_reasons(state, records, now, instances=known_by_id)
        return {**status_document(uploads, instances, now=now), "unreadable_rows": len(unreadable)}
    record = await state.uploads.get(name)
    if record is None:
        raise CertcastError(await _why_unknown(name, storage.uploads))
    [record] = await with_reasons(state, [record], now, instances=known_by_id)
    document = status_document([record], instances, now=now, asked_for=True) | {"unreadable_rows": len(unreadable)}
    document["uploads"][0]["installations"] = await _installations(state, record)
    return document


async def _why_unknown(name: str, container: UploadContainer) -> str:
    """Tell a blob that was not noticed from one that is not there, where the container may be read."""
    version = None
    if scheme_of(name) == BLOB_SCHEME:
        with suppress(CertcastError):  # who may read tables need not be one who may read uploads
            version = await container.version(name)
    if version is None:
        return f"no upload {name!r} is known: `certcast status` lists them, a new one once the Function has seen it"
    if not is_certificate_name(name):
        return f"blob {name!r} is not looked at: names of uploads end in .pfx or .p12"
    return (
        f"blob {name!r} was written at {day(version.last_modified)}, and the Function has not noticed it yet, though a "
        f"sweep finds within a minute what no event told of: {IS_IT_RUNNING}"
    )


async def _installations(state: State, record: UploadRecord) -> list[Document]:
    found: list[Document] = []
    for key in record.claims:
        reports = await state.reports_on(key.host, key.port)
        found += [installation_document(report) for report in sorted(reports, key=lambda report: report.instance)]
    return found


@asynccontextmanager
async def _storage_at(access: StorageAccess) -> AsyncIterator[Reader]:
    async with opened(access) as storage:
        yield partial(read_status, storage)


async def _read_once(reading: AbstractAsyncContextManager[Reader], name: str | None) -> Document:
    async with reading as read:
        return await read(name)


async def _watch(reading: AbstractAsyncContextManager[Reader], name: str | None) -> None:
    """Redraw the tables on a terminal; elsewhere print them whenever they change."""
    console = results()
    before: Document | None = None
    async with reading as read:
        with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
            while True:
                document = await read(name)
                tables = status_tables(document)
                if live is not None:
                    live.update(tables, refresh=True)
                elif _settled(document) != before:
                    console.print(tables)
                before = _settled(document)
                await asyncio.sleep(REFRESH_S)


def _settled(document: Document) -> Document:
    """The document without what changes with every heartbeat, and every second."""
    instances = [{**instance, "last_seen": None} for instance in document["instances"]]
    uploads = [{**upload, "reason": _AGE.sub("", upload["reason"])} for upload in document["uploads"]]
    return {**document, "as_of": None, "uploads": uploads, "instances": instances}
