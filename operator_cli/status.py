"""`certcast status`: uploads and instances as the tables, or the status API, have them."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import click
from rich.console import Group

from operator_cli.account_choice import choose_storage
from operator_cli.exits import Exit
from operator_cli.options import json_option, optional_name_argument, refuse_two_accounts, storage_options, url_option
from operator_cli.status_api import status_api_at
from operator_cli.status_choice import choosing_options, wish_of
from operator_cli.status_overview import Wish, narrowed, overview, time_of
from operator_cli.status_tables import upload_tables
from operator_cli.storage import opened
from operator_cli.terminal import emit, emit_lines, results, while_read
from operator_cli.waiting import IS_IT_RUNNING
from shared.errors import CertcastError
from shared.phrasing import day
from shared.state.document import installation_document, status_document
from shared.state.overview import Asked
from shared.state.rows import UnreadableRow
from shared.state.telling import with_reasons
from shared.upload import BLOB_SCHEME, is_certificate_name, scheme_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import Any

    from operator_cli.status_api import Reader
    from operator_cli.storage import Storage
    from shared.config import StorageAccess
    from shared.ports import UploadContainer
    from shared.state.document import Document
    from shared.state.records import UploadRecord
    from shared.state.tables import State


@click.command("status")
@optional_name_argument
@choosing_options
@storage_options
@url_option
@json_option
@click.option(
    "--json-lines", is_flag=True, help="Print a JSON document on each line: the summary, then uploads, then instances."
)
@click.option("--watch", "is_watched", is_flag=True, help="Go on showing it until Ctrl-C; not with JSON.")
def command(name: str | None, **options: Any) -> int:  # noqa: ANN401 - as Click hands them over
    """Show whether all is served and what needs somebody, or the upload NAME with what each instance reported of it.

    First comes one line of summary. Then up to 20 uploads and 20 instances are all shown; of more, those that need
    somebody: uploads that are rejected, failed, partially live, waiting for more than a minute or ending within 14
    days; instances that are silent, in trouble or failing. --all shows all; the other options show what they ask for.
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
    wish = wish_of(options)
    as_json, json_lines = options["as_json"], options["json_lines"]
    if as_json + json_lines + options["is_watched"] > 1:
        raise click.UsageError("--json, --json-lines and --watch are three ways to show it: use one of them")
    if name is not None and wish != Wish(asked=Asked()):
        raise click.UsageError("NAME shows one upload: give no option that chooses among all with it")
    reading = _reading(options["url"], options["connection_string_file"], options["account"])
    if options["is_watched"]:
        from operator_cli.status_watch import watch  # noqa: PLC0415 - most do not watch, and it is slow to import

        with suppress(KeyboardInterrupt):  # the way to end it
            asyncio.run(while_read(watch(reading, name, wish)))
        return Exit.DONE
    document = asyncio.run(_read_once(reading, name))
    if as_json:
        emit(document if name is not None else narrowed(document, wish.asked))
    elif json_lines:
        emit_lines(lines_of(document if name is not None else narrowed(document, wish.asked)))
    elif name is not None:
        results().print(upload_tables(document, time_of(document)))
    else:
        results().print(Group(*overview(document, wish).parts))
    return Exit.DONE


def lines_of(document: Document) -> Iterator[Document]:
    """The document's entries as documents that say what each is: `kind` is `summary`, `upload` or `instance`."""
    if "summary" in document:
        yield {"kind": "summary", "as_of": document["as_of"], **document["summary"], "total": document["total"]}
    for kind in ("upload", "instance"):
        yield from ({"kind": kind, **entry} for entry in document[f"{kind}s"])


def _reading(
    url: str | None, connection_string_file: Path | None, account: str | None
) -> AbstractAsyncContextManager[Reader]:
    refuse_two_accounts(url, connection_string_file, account)
    if url is not None:
        return status_api_at(url, os.environ)
    return _storage_at(choose_storage(connection_string_file, account))


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
        raise CertcastError(await why_unknown(name, storage.uploads))
    [record] = await with_reasons(state, [record], now, instances=known_by_id)
    document = status_document([record], instances, now=now, asked_for=True) | {"unreadable_rows": len(unreadable)}
    document["uploads"][0]["installations"] = await _installations(state, record)
    return document


async def why_unknown(name: str, container: UploadContainer) -> str:
    """Why an upload is not known: a blob that was not noticed is told from one that is not there."""
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
