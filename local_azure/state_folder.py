"""The local cloud's data folder, for its owner alone, and the environment of child processes, which names it."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from shared.azure.key_encryption import FILE_PREFIX, make_key_file
from shared.config import STORAGE_SETTING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGS, STORAGE, HOST_KEYS = "logs", "storage", "functions-keys.json"
_KEY_FILE = "key-encryption.key"


@contextmanager
def state_folder(chosen: Path | None) -> Iterator[Path]:
    """The folder with what belongs in it, made where it is missing; a temporary one where none was chosen."""
    with ExitStack() as stack:
        if chosen is None:
            path = Path(stack.enter_context(TemporaryDirectory(prefix="certcast-", ignore_cleanup_errors=True)))
        else:
            path = chosen.resolve()
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (LOGS, STORAGE):
            (path / folder).mkdir(mode=0o700, exist_ok=True)
        make_key_file(path / _KEY_FILE)
        yield path


def child_environment(state: Path, connection_string: str) -> dict[str, str]:
    """This process's own environment with the local cloud's storage account and key in place of others."""
    # Azurite's own, not the relay's: what Function and agents write makes no event that anyone wants.
    elsewhere = (STORAGE_SETTING, f"AzureWebJobs{STORAGE_SETTING}")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(elsewhere)}
    return {
        "CERTCAST_TRUST": "off",
        **inherited,
        STORAGE_SETTING: connection_string,
        "CERTCAST_KEY_ENCRYPTION_KEY": f"{FILE_PREFIX}{state / _KEY_FILE}",
        "PYTHONUNBUFFERED": "1",
    }
