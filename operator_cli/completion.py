"""`certcast completion`: a shell's script that completes commands, options and the names of uploads."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from operator_cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.config import StorageAccess

PROGRAM = "certcast"
VARIABLE = "_CERTCAST_COMPLETE"
"""The environment variable by which a shell's script asks, which Click makes of the program's name."""

NAMES_AT_MOST = 50
ANSWERED_IN_S = 2.0
"""After so long the account is taken for too slow: a person waits at the keyboard."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@+-]*\Z")
"""Names that no shell reads as anything else: what is completed stands on the line as it is, to be run by one key."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the script that completes certcast's commands, options and uploads in this shell.

    \b
      bash   eval "$(certcast completion bash)"    in ~/.bashrc
      zsh    eval "$(certcast completion zsh)"     in ~/.zshrc, after compinit
      fish   certcast completion fish | source     in ~/.config/fish/config.fish
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"this version of Click completes nothing in {shell}: update it")
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, PROGRAM, VARIABLE).source())
    return Exit.DONE


def upload_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - Click's signature
    """The names of uploads that begin so, where the account answers quickly; none where anything is wrong."""
    if not _PLAIN.match(incomplete or "a"):
        return []
    with suppress(Exception):  # a completion that says what is wrong would write into the person's line
        return asyncio.run(_names(context.params, incomplete))
    return []


async def _names(options: dict[str, object], begun: str) -> list[str]:
    names: list[str] = []
    url = options.get("url")
    with suppress(TimeoutError):
        async with asyncio.timeout(ANSWERED_IN_S):
            async for name in _of_api(str(url)) if url else _of_storage(options, begun):
                if name.startswith(begun) and _PLAIN.match(name):
                    names.append(name)
                if len(names) == NAMES_AT_MOST:
                    break
    return names


async def _of_storage(options: dict[str, object], begun: str) -> AsyncIterator[str]:
    """Uploads from the container, from the first name on that begins so."""
    from operator_cli.storage import opened  # noqa: PLC0415 - the SDK is slow to import, and options need it not
    from shared.state.keys import upload_key  # noqa: PLC0415

    partition, first = upload_key(begun or "0")
    # Ordered as the keys are, in which no letter comes after "~": all names before those that begin so are passed over.
    before = f"{first[:-1]}{chr(ord(first[-1]) - 1)}~" if begun else ""
    async with opened(_access(options)) as storage:
        rows = storage.tables.uploads.all(partition, after=(partition, before), page=NAMES_AT_MOST)
        async with aclosing(rows):
            async for known in rows:
                if not known.value.name.startswith(begun):
                    return
                yield known.value.name


def _access(options: dict[str, object]) -> StorageAccess:
    from operator_cli.account_choice import choose_storage, is_storage_set  # noqa: PLC0415 - as above
    from shared.config import EMULATOR_SHORTHAND, StorageAccess  # noqa: PLC0415

    file, account = options.get("connection_string_file"), options.get("account")
    if file or account or is_storage_set(os.environ):
        return choose_storage(Path(str(file)) if file else None, str(account) if account else None)
    return StorageAccess.from_env({}, default=EMULATOR_SHORTHAND)  # without a word about it


async def _of_api(url: str) -> AsyncIterator[str]:
    """Uploads of the status API's first page."""
    from operator_cli.status_api import api_at  # noqa: PLC0415 - as above

    async with api_at(url, os.environ) as api:
        for upload in (await api.get("certificates?limit=1000")).get("uploads", []):
            yield str(upload["name"])
