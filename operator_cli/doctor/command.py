"""`certcast doctor`: looks for all that keeps certcast from doing its work, side by side, and says what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
from rich.table import Table

from operator_cli.account_choice import choose_storage, is_storage_set
from operator_cli.doctor.canary import MOST_WAIT_S, WAIT_S
from operator_cli.doctor.looking import look
from operator_cli.exits import Exit
from operator_cli.foreground import run_until_stopped
from operator_cli.options import json_option, storage_options
from operator_cli.status_api import api_address
from operator_cli.terminal import emit, results, safe
from shared.errors import ConfigurationError
from shared.hostnames import LOOPBACK_NAMES
from shared.state.findings import Checked, Finding, Result, Severity, document_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.text import Text

    from shared.config import StorageAccess

_STYLES = {Result.OK: "green", Result.WARNING: "yellow", Result.WRONG: "bold red", Result.NOT_LOOKED_AT: "dim"}


@click.command("doctor")
@storage_options
@click.option(
    "--url",
    metavar="URL",
    help="Ask the Functions app at this address too: its settings, identity and key are its own. Its function key is "
    "read from CERTCAST_FUNCTION_KEY.",
)
@click.option(
    "--no-canary",
    "--read-only",
    "read_only",
    is_flag=True,
    help="Write nothing; whether events arrive is then not looked at.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(1, MOST_WAIT_S),
    default=WAIT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long an event about the canary is waited for.",
)
@json_option
def command(  # noqa: PLR0917 - Click passes them by name
    connection_string_file: Path | None,
    account: str | None,
    url: str | None,
    read_only: bool,  # noqa: FBT001 - an option
    wait_s: float,
    as_json: bool,  # noqa: FBT001 - an option
) -> int:
    """Look for what is wrong, and say what to do: settings, storage, key, events, agents, uploads.

    A canary, a blob certcast-doctor-....pfx, is uploaded to see whether an event about it arrives, and removed; nothing
    else is written. Settings are looked at where this environment has them: give it the Function's, or --url.

    \b
    Exit codes:
      0  nothing is wrong; there may be warnings, and what could not be looked at is named
      1  something is wrong; each is named with what to do
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    if url is not None:
        api_address(url)
    chosen = connection_string_file is not None or account is not None or is_storage_set(os.environ)
    access = None
    if chosen or url is None or urlsplit(url).hostname in LOOPBACK_NAMES:
        access = _chosen(connection_string_file, account)
    checked, rows = run_until_stopped(look(access, env=os.environ, url=url, wait_s=None if read_only else wait_s))
    document = {**document_of(checked), "rows": rows}
    if as_json:
        emit(document)
    else:
        _show(checked)
    return Exit.DONE if document["ok"] else Exit.FAILED


def _chosen(connection_string_file: Path | None, account: str | None) -> StorageAccess | ConfigurationError:
    """The storage account; that it cannot be told is a finding, beside which the rest is looked at."""
    try:
        return choose_storage(connection_string_file, account)
    except ConfigurationError as error:
        return error


def _show(checked: Sequence[Checked]) -> None:
    """A line for each check; then what was found, and what to do about it; then what it comes to."""
    console = results()
    table = _grid()
    for each in checked:
        found = f"{len(each.seen.findings)} found, see below" if each.seen.findings else each.seen.remark
        table.add_row(safe(each.name), safe(each.result.value, _STYLES[each.result]), safe(found, "dim"))
    console.print(table)
    findings = [finding for each in checked for finding in each.seen.findings]
    table = _grid()
    for severity, style in ((Severity.WRONG, "bold red"), (Severity.WARNING, "yellow")):
        for finding in findings:
            if finding.severity is severity:
                table.add_row(safe(severity.value, style), safe(finding.code), safe(_told(finding)))
    if findings:
        console.print()
        console.print(table)
    console.print()
    console.print(_sum(checked), soft_wrap=True)


def _told(finding: Finding) -> str:
    return finding.detail if finding.detail.startswith(finding.about) else f"{finding.about}: {finding.detail}"


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    return table


def _sum(checked: Sequence[Checked]) -> Text:
    wrong = sum(each.result is Result.WRONG for each in checked)
    left = [each.name for each in checked if each.result is Result.NOT_LOOKED_AT]
    unseen = f"; not looked at: {', '.join(left)}" if left else ""
    if wrong:
        return safe(f"{wrong} of {len(checked)} checks found something wrong{unseen}", "bold red")
    if left:
        return safe(f"nothing wrong was found{unseen}", "bold yellow")
    warned = any(each.result is Result.WARNING for each in checked)
    return safe("nothing is wrong" if warned else "all is well", "bold green")
