"""`certcast remove`: delete an upload and wait until no instance serves it any more."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from operator_cli.account_choice import choose_storage
from operator_cli.exits import Exit, TimedOutError
from operator_cli.options import json_option, name_argument, storage_options, wait_options
from operator_cli.storage import opened
from operator_cli.terminal import emit, results, safe, say
from operator_cli.waiting import IS_IT_RUNNING, progress, until
from shared.errors import CertcastError
from shared.state.document import is_gone, upload_document
from shared.state.records import DELETED, UploadStatus

if TYPE_CHECKING:
    from pathlib import Path

    from operator_cli.storage import Storage
    from operator_cli.waiting import Show
    from shared.config import StorageAccess
    from shared.state.document import Document
    from shared.state.records import UploadRecord

UNNOTICED_S = 15.0
"""A look at an upload that began before it was deleted has written something by then."""


@click.command("remove")
@name_argument
@wait_options("served by no instance any more")
@storage_options
@json_option
def command(  # noqa: PLR0917 - Click passes them by name
    name: str,
    timeout_s: float,
    no_wait: bool,  # noqa: FBT001 - an option
    connection_string_file: Path | None,
    account: str | None,
    as_json: bool,  # noqa: FBT001 - an option
) -> int:
    """Delete the upload NAME and wait until its certificate is unbound everywhere.

    Where another accepted upload covers the same host and port, that one is served instead; elsewhere the instance's
    fallback certificate answers.
    """
    access = choose_storage(connection_string_file, account)
    last, timed_out = asyncio.run(_remove(access, name, None if no_wait else timeout_s))
    if as_json:
        document: Document = upload_document(last) if last else {"name": name, "status": UploadStatus.REMOVED.value}
        emit({**document, **({"error": str(timed_out)} if timed_out else {})})
    if timed_out is not None:
        say(f"certcast: {timed_out}", "red")
        return Exit.TIMED_OUT
    if not as_json:
        what = "deleted" if no_wait else "removed, and served nowhere any more"
        results().print(safe(f"{what}: {name}", "bold green"), soft_wrap=True)
    return Exit.DONE


async def _remove(
    access: StorageAccess, name: str, timeout_s: float | None
) -> tuple[UploadRecord | None, TimedOutError | None]:
    async with opened(access) as storage:
        before = None
        if timeout_s is not None:
            before = await storage.tables.uploads.get(name)  # refused before anything is deleted, not after
        if not await storage.uploads.delete(name):
            raise CertcastError(f"there is no upload named {name!r}: `certcast status` lists them")
        if timeout_s is None:
            return None, None
        with progress() as show:
            show(f"deleted {name}", 0, 0)
            return await unbound(storage, name, before, timeout_s, show)


async def unbound(
    storage: Storage, name: str, before: UploadRecord | None, timeout_s: float, show: Show
) -> tuple[UploadRecord | None, TimedOutError | None]:
    """Wait until a deleted upload is served by no instance any more.

    Args:
        storage: The storage account.
        name: The upload.
        before: Its row as it was before the deletion.
        timeout_s: How long to wait.
        show: Shows how far it is.

    Returns:
        Its row, and the error when it was not in time.
    """
    last: UploadRecord | None = None
    deleted_at = time.monotonic()

    async def look() -> tuple[UploadRecord | None] | None:
        nonlocal last
        last = await storage.tables.uploads.get(name)
        if last is None:
            return (None,)  # never looked at: a look that begins now finds no blob
        if _is_of_an_earlier_removal(last, before):
            # A look that begins now finds no blob; one that has read it enters what it saw, and then another removal.
            unnoticed = last == before and time.monotonic() - deleted_at >= UNNOTICED_S
            return (last,) if unnoticed and is_gone(last) and last.etag == DELETED else None
        if last.status is UploadStatus.REMOVED:
            show("removed, unbound on", last.total - last.live, last.total)
        return (last,) if is_gone(last) and last.etag == DELETED else None

    try:
        return (await until(look, timeout_s=timeout_s))[0], None
    except TimedOutError:
        return last, TimedOutError(_not_in_time(name, last, before, timeout_s))


def _is_of_an_earlier_removal(last: UploadRecord, before: UploadRecord | None) -> bool:
    """Whether the row still tells of an upload that was removed before the one deleted now was put in its place."""
    return before is not None and before.status is UploadStatus.REMOVED and last.fanned_out_at == before.fanned_out_at


def _not_in_time(name: str, last: UploadRecord | None, before: UploadRecord | None, timeout_s: float) -> str:
    if last is None or last.status is not UploadStatus.REMOVED or _is_of_an_earlier_removal(last, before):
        return f"{name} was deleted, but the Function has not noticed it for {timeout_s:g} s: {IS_IT_RUNNING}"
    why = f" ({last.reason})" if last.reason else ""
    return (
        f"{name} was deleted and is still served by {last.live}/{last.total} instances after {timeout_s:g} s{why}: "
        f"`certcast status {name}` shows how it goes on"
    )
