"""`certcast doctor`: settings, policy, storage and rows that keep certcast from doing its work; nothing is changed."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import click
from rich.table import Table

from operator_cli.account_choice import choose_storage
from operator_cli.diagnosis import Diagnosis, look_at_account, look_at_policy, look_at_settings
from operator_cli.exits import Exit
from operator_cli.options import json_option, storage_options
from operator_cli.storage import opened_account
from operator_cli.terminal import emit, results, safe
from shared.azure.policy_source import BLOB_PREFIX
from shared.config import POLICY_SETTING
from shared.errors import CertcastError, ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


@click.command("doctor")
@storage_options
@json_option
def command(
    connection_string_file: Path | None,
    account: str | None,
    as_json: bool,  # noqa: FBT001 - an option
) -> int:
    """Look for what is wrong: settings, the policy, storage, rows that cannot be read, poison queues.

    Nothing is changed. Settings are looked at where this environment has them; give it the Function's to check those.

    \b
    Exit codes:
      0  all is well
      1  something is wrong; each is named with what to do
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    found = asyncio.run(_diagnosed(connection_string_file, account))
    if as_json:
        emit(found.document())
    else:
        _show(found)
    return Exit.FAILED if found.problems else Exit.DONE


async def _diagnosed(connection_string_file: Path | None, account: str | None) -> Diagnosis:
    found = Diagnosis()
    policy = os.environ.get(POLICY_SETTING, "").strip()
    look_at_settings(found, os.environ)
    if not policy.startswith(BLOB_PREFIX):
        await look_at_policy(found, policy, None)
    try:
        async with opened_account(choose_storage(connection_string_file, account)) as storage:
            if policy.startswith(BLOB_PREFIX):
                await look_at_policy(found, policy, storage)
            await look_at_account(found, storage)
    except ConfigurationError as error:
        found.wrong("setting", "the storage account", str(error))
    except CertcastError as error:
        found.wrong("unreachable", "the storage account", str(error))
    return found


def _show(found: Diagnosis) -> None:
    console = results()
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for problem in found.problems:
        table.add_row(safe(problem.code, "red"), safe(f"{problem.about}: {problem.detail}"))
    for warning in found.warnings:
        table.add_row(safe("warning", "yellow"), safe(warning))
    if found.problems or found.warnings:
        console.print(table)
    if not found.problems:
        read = sum(rows.read for rows in found.rows.values())
        console.print(safe(f"all is well; {read} rows were read", "bold green"))
