"""Which storage account is meant, and whose certificates are accepted there; no Azure SDK is imported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from operator_cli.terminal import say
from shared.config import EMULATOR_SHORTHAND, STORAGE_SETTING, StorageAccess
from shared.errors import ConfigurationError
from shared.validation.trust import OFF, PUBLIC

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TRUST_SETTING = "CERTCAST_TRUST"


def choose_storage(
    connection_string_file: Path | None, account: str | None, env: Mapping[str, str] | None = None
) -> StorageAccess:
    """Take the account that the options name, else the environment's, else the local emulator, saying so.

    Raises:
        ConfigurationError: What was named cannot be used; the text says what to write instead.
    """
    env = os.environ if env is None else env
    if connection_string_file is not None and account is not None:
        raise ConfigurationError("--connection-string-file and --account name two accounts: give one of them")
    if connection_string_file is not None:
        return _from_file(connection_string_file)
    if account is not None:
        if not account.isascii() or not account.isalnum():
            raise ConfigurationError(
                f"--account takes the name of a storage account, letters and digits, not {account!r}"
            )
        return StorageAccess.from_env({f"{STORAGE_SETTING}__accountName": account})
    if not is_storage_set(env):
        say(f"{STORAGE_SETTING} is not set: using the local emulator (start it with `certcast up`)")
    return StorageAccess.from_env(env, default=EMULATOR_SHORTHAND)


def is_storage_set(env: Mapping[str, str]) -> bool:
    """Whether the environment names a storage account."""
    return any(name.split("__")[0] == STORAGE_SETTING and value.strip() for name, value in env.items())


def default_trust(env: Mapping[str, str], access: StorageAccess | None) -> str:
    """Whose certificates are accepted when no option says so: any issuer's on the emulator, public CAs' elsewhere.

    Args:
        env: The environment.
        access: The account in use; None takes what the environment names.
    """
    if chosen := env.get(TRUST_SETTING, "").strip():
        return chosen
    try:
        access = access or StorageAccess.from_env(env, default=EMULATOR_SHORTHAND)
    except ConfigurationError:
        return PUBLIC  # whatever account is meant, it is not the emulator
    return OFF if access.is_emulator else PUBLIC


def _from_file(path: Path) -> StorageAccess:
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise ConfigurationError(
            f"--connection-string-file {path} cannot be read ({error.strerror}): name a file that holds the connection "
            "string alone"
        ) from None
    except ValueError:
        raise ConfigurationError(f"--connection-string-file {path} is not a text file") from None
    if not text:
        raise ConfigurationError(
            f"--connection-string-file {path} is empty: copy the string from the portal (Access keys)"
        )
    try:
        return StorageAccess.from_env({STORAGE_SETTING: text})
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {str(error).replace(STORAGE_SETTING, 'the file')}") from None
