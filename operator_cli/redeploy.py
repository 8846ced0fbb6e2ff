"""`certcast redeploy`: install an upload once more on every instance, and wait until it is live again."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import click

from operator_cli.account_choice import choose_storage
from operator_cli.exits import Exit, TimedOutError
from operator_cli.options import (
    json_option,
    name_argument,
    refuse_two_accounts,
    storage_options,
    url_option,
    wait_options,
)
from operator_cli.outcome import DECIDED, SUCCEEDED
from operator_cli.status import why_unknown
from operator_cli.status_api import api_at, in_path
from operator_cli.status_tables import reason_of
from operator_cli.storage import opened_account, storage_of
from operator_cli.terminal import emit, results, safe, say
from operator_cli.waiting import IS_IT_RUNNING, progress, until
from shared.errors import CertcastError
from shared.messages import RECHECK_QUEUE, RecheckUpload, encode, new_traceparent, trace_of
from shared.state.document import upload_document
from shared.state.reasons import may_be_redeployed, nothing_to_redeploy
from shared.state.telling import with_reasons

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from operator_cli.storage import Storage
    from shared.config import StorageAccess
    from shared.state.document import Document

    Look = Callable[[], Awaitable[Document | None]]
    """The upload's entry once it was begun to be installed again; None until then."""


@click.command("redeploy")
@name_argument
@wait_options("live again")
@storage_options
@url_option
@json_option
def command(  # noqa: PLR0917 - Click passes them by name
    name: str,
    timeout_s: float,
    no_wait: bool,  # noqa: FBT001 - an option
    connection_string_file: Path | None,
    account: str | None,
    url: str | None,
    as_json: bool,  # noqa: FBT001 - an option
) -> int:
    """Install the upload NAME once more on every instance, and wait until it is live again.

    For after something was changed by hand on a machine, and after a new key-encryption key: what it serves is sealed
    again, every instance installs and proves it again. Clients are served meanwhile.

    \b
    Exit codes:
      0  proved again by a TLS handshake on every instance
      1  failed on some instance; or there is nothing of it to install
      2  wrong usage, file or setting
      3  not live in time; it may still become so: certcast status
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    refuse_two_accounts(url, connection_string_file, account)
    wait_s = None if no_wait else timeout_s
    if url is not None:
        found, timed_out = asyncio.run(_by_api(url, name, wait_s))
    else:
        found, timed_out = asyncio.run(_by_storage(choose_storage(connection_string_file, account), name, wait_s))
    if as_json:
        emit({**(found or {"name": name}), "redeployed": True, **({"error": str(timed_out)} if timed_out else {})})
    if timed_out is not None:
        say(f"certcast: {timed_out}", "red")
        return Exit.TIMED_OUT
    if not as_json:
        _show(name, found)
    return Exit.DONE if found is None or found["status"] in SUCCEEDED else Exit.FAILED


async def _by_api(url: str, name: str, timeout_s: float | None) -> tuple[Document | None, TimedOutError | None]:
    async with api_at(url, os.environ) as api:
        await api.post(f"certificates/{in_path(name)}/redeploy")

        async def look() -> Document | None:
            return await api.upload(name)  # it was begun when the API answered

        return await _live_again(name, look, timeout_s)


async def _by_storage(
    access: StorageAccess, name: str, timeout_s: float | None
) -> tuple[Document | None, TimedOutError | None]:
    async with opened_account(access) as account:
        storage = storage_of(account, access)
        record = await storage.tables.uploads.get(name)
        if record is None:
            raise CertcastError(await why_unknown(name, storage.uploads))
        if not may_be_redeployed(record):
            raise CertcastError(nothing_to_redeploy(record))
        wish = RecheckUpload(name=name, traceparent=new_traceparent(), redeploy=True)
        await account.queues.send(RECHECK_QUEUE, encode(wish))
        return await _live_again(name, lambda: _begun(storage, wish), timeout_s)


async def _begun(storage: Storage, wish: RecheckUpload) -> Document | None:
    """The upload's entry, once its row names the trace that the wish began."""
    record = await storage.tables.uploads.get(wish.name)
    if record is None or trace_of(record.traceparent) != trace_of(wish.traceparent):
        return None
    instances = {known.value.id: known async for known in storage.tables.instances.all()}
    [told] = await with_reasons(storage.tables, [record], storage.now(), instances=instances)
    return upload_document(told)


async def _live_again(name: str, look: Look, timeout_s: float | None) -> tuple[Document | None, TimedOutError | None]:
    """The upload's entry once it is decided; None where that is not waited for; with the error where it took long."""
    if timeout_s is None:
        return None, None
    last: Document | None = None
    with progress() as show:
        show("asked for; waiting for the Function to begin", 0, 0)

        async def decided() -> Document | None:
            nonlocal last
            last = await look() or last
            if last is None:
                return None
            show(f"{last['status']}, proved on", last["live"], last["expected"])
            return last if last["status"] in DECIDED else None

        try:
            return await until(decided, timeout_s=timeout_s), None
        except TimedOutError:
            return last, TimedOutError(_not_in_time(name, last, timeout_s))


def _not_in_time(name: str, last: Document | None, timeout_s: float) -> str:
    if last is None:
        return (
            f"{name} was asked to be installed again, and the Function has not begun it for {timeout_s:g} s: "
            f"{IS_IT_RUNNING} One of an older version takes no such wish by the queue: use --url"
        )
    why = f" ({last['reason']})" if last["reason"] else ""
    return (
        f"{name} is {last['status']} and live on {last['live']}/{last['expected']} {timeout_s:g} s after it was asked "
        f"to be installed again{why}: `certcast status {name}` shows how it goes on"
    )


def _show(name: str, found: Document | None) -> None:
    console = results()
    if found is None:
        line = f"asked for: {name} is installed again; `certcast status {name}` shows how it goes"
        console.print(safe(line), soft_wrap=True)
        return
    seconds, good = found["seconds_to_live"], found["status"] in SUCCEEDED
    line = f"{found['status']}: {name} on {found['live']}/{found['expected']}"
    line += "" if seconds is None else f" in {seconds:.1f} s"
    console.print(safe(line, "bold green" if good else "bold red"), soft_wrap=True)
    if reason := reason_of(found):
        console.print(safe(f"  {reason}"), soft_wrap=True)
