"""Which key-encryption key seals a bundle and which opens it: several keys, and every version of those in a vault.

A bundle names the key it was sealed under. That name comes from storage, so it chooses among the keys that the setting
names and never leads anywhere else.
"""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from shared.azure.key_encryption import FILE_PREFIX, FileKey, VaultKey, read_key_file, translated_by_vault
from shared.azure.patience import VAULT_RETRIES, VAULT_TIMEOUTS, BlockingPatience
from shared.azure.vault_url import VaultObject
from shared.errors import CertcastError, ConfigurationError, KeyUnusableError
from shared.phrasing import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from azure.core.credentials import TokenCredential
    from azure.keyvault.keys import KeyVaultKey
    from azure.keyvault.keys.crypto import CryptographyClient

    from shared.azure.key_encryption import KeyEncryptionKey

SETTING = "CERTCAST_KEY_ENCRYPTION_KEY"
CURRENT_FOR_S = 3600
"""How long a version is taken for the current one, and for enabled: the SDK wraps with the public key that it fetched
once, and would go on under a version that was disabled or replaced."""

_BETWEEN_KEYS = re.compile(rf"\s*;\s*(?={FILE_PREFIX}|https://)")


class KeyRing:
    """The keys of the setting: the first one seals, all of them open.

    Args:
        files: Key files, in the order of the setting.
        vaults: Keys in vaults, likewise.
        seals_with: The first of either.
    """

    def __init__(
        self, *, files: Sequence[FileKey], vaults: Sequence[VaultVersions], seals_with: FileKey | VaultVersions
    ) -> None:
        self._files = files
        self._vaults = vaults
        self._seals_with = seals_with

    @property
    def seals_by_file(self) -> bool:
        """Whether the key that seals is a file."""
        return isinstance(self._seals_with, FileKey)

    def for_sealing(self) -> KeyEncryptionKey:
        """The key that new bundles are sealed under, one version of it; blocks where a vault is asked.

        Raises:
            UnavailableError: The vault does not tell which version is current.
            KeyUnusableError: It refuses to, or that version may not wrap.
        """
        first = self._seals_with
        return first if isinstance(first, FileKey) else first.current()

    def close(self) -> None:
        """Close the connections to vaults."""
        for versions in self._vaults:
            versions.close()

    def named(self, key_id: str) -> KeyEncryptionKey:
        """The key that a bundle says it was sealed under.

        Raises:
            CertcastError: It is none of the setting's.
        """
        if key_id.startswith(FILE_PREFIX) and self._files:
            return _AnyFile(key_id, self._files)
        name = VaultObject.of(key_id, "keys")
        for versions in self._vaults:
            if name is not None and versions.include(name):
                return versions.version(key_id)
        raise CertcastError(
            f"it was sealed under key {shown(key_id)}, which {SETTING} does not name here: add that key behind the "
            "first, separated by a semicolon, and start again"
        )


class VaultVersions:
    """One key in a vault, with all its versions.

    Args:
        url: The key's URL; one without a version seals with whichever version is current.
        credential: Makes the identity when it is first needed.
    """

    def __init__(self, url: str, name: VaultObject, credential: Callable[[], TokenCredential]) -> None:
        self._url = url
        self._name = name
        self._credential = credential
        self._lock = threading.Lock()
        self._opened: dict[str, CryptographyClient] = {}
        self._current = ""
        self._current_until = 0.0

    def include(self, name: VaultObject) -> bool:
        """Whether that is this key, whatever version of it."""
        return (name.vault, name.name) == (self._name.vault, self._name.name)

    def current(self) -> VaultKey:
        """The version that the setting names, or the one that is current in the vault, seen to be usable; blocks."""
        with self._lock:
            if not self._current or time.monotonic() >= self._current_until:
                self._current = self._ask()
                self._current_until = time.monotonic() + CURRENT_FOR_S
            current = self._current
        return self.version(current)

    def version(self, url: str) -> VaultKey:
        """One version of the key, named by its whole URL."""
        from azure.keyvault.keys.crypto import CryptographyClient  # noqa: PLC0415 - slow to import, needed only here

        with self._lock:
            if url not in self._opened:
                self._opened[url] = CryptographyClient(url, self._credential(), **_patience())
            return VaultKey(self._opened[url], url)

    def close(self) -> None:
        """Close the connections."""
        for client in self._opened.values():
            client.close()

    def _ask(self) -> str:
        from azure.keyvault.keys import KeyClient  # noqa: PLC0415 - slow to import, and needed only here

        try:
            with KeyClient(f"https://{self._name.vault}", self._credential(), **_patience()) as client:
                key = client.get_key(self._name.name, self._name.version or None)
        except AzureError as error:
            raise translated_by_vault(error, f"asking for the current version of key {self._url}") from None
        if (why := unusable(key, datetime.now(UTC))) is not None:
            raise KeyUnusableError(
                f"nothing is sealed under key {key.id}, which {why}: change that in the vault, or make a version "
                f"that may be used the current one, or name another key first in {SETTING}"
            )
        return str(key.id)


def _patience() -> dict[str, Any]:
    """Options of a client in one of the few threads that may ask a vault: what waits for it is done later."""
    return {**VAULT_TIMEOUTS, "retry_policy": BlockingPatience(retry_total=VAULT_RETRIES)}


def unusable(key: KeyVaultKey, now: datetime) -> str | None:
    """Why a version of a key is not to be wrapped with, as a clause; None where it is.

    No agent unwraps what a disabled one wrapped (learn.microsoft.com, "About keys", attributes and operations).
    """
    state, allowed = key.properties, key.key_operations or []
    if state.enabled is False:
        return "is disabled"
    if state.expires_on is not None and state.expires_on <= now:
        return f"expired on {state.expires_on:%Y-%m-%d}"
    if state.not_before is not None and state.not_before > now:
        return f"may not be used before {state.not_before:%Y-%m-%d}"
    if allowed and "wrapKey" not in allowed:
        return "does not allow the operation wrapKey"
    return None


class _AnyFile:
    """Every key file under the name that a bundle asks for: files are renamed, and two may have one name.

    RFC 3394 detects a wrong key, so that each can be tried.
    """

    def __init__(self, key_id: str, files: Sequence[FileKey]) -> None:
        self._key_id = key_id
        self._files = files

    def wrap_key(self, key: bytes) -> bytes:
        return self._files[0].wrap_key(key)

    def unwrap_key(self, key: bytes, algorithm: str) -> bytes:
        for file in self._files[:-1]:
            try:
                return file.unwrap_key(key, algorithm)
            except InvalidUnwrap:
                continue
        return self._files[-1].unwrap_key(key, algorithm)

    def get_key_wrap_algorithm(self) -> str:
        return self._files[0].get_key_wrap_algorithm()

    def get_kid(self) -> str:
        return self._key_id


def open_keys(setting: str, credential: Callable[[], TokenCredential]) -> KeyRing:
    """Open the keys that `CERTCAST_KEY_ENCRYPTION_KEY` names: one, or several separated by semicolons.

    Args:
        setting: The setting.
        credential: Makes the identity for a vault; not called for files, nor before a vault is asked.

    Raises:
        ConfigurationError: One is neither `file:<path>` nor a Key Vault key URL, or a file is no good.
    """
    files: list[FileKey] = []
    vaults: list[VaultVersions] = []
    for part in _BETWEEN_KEYS.split(setting):
        if part.startswith(FILE_PREFIX):
            files.append(read_key_file(Path(part.removeprefix(FILE_PREFIX))))
        elif (name := VaultObject.of(part, "keys")) is not None:
            vaults.append(VaultVersions(part, name, credential))
        else:
            raise ConfigurationError(
                f"{SETTING} must be a Key Vault key URL (https://<vault>.vault.azure.net/keys/<name>) or file:<path>, "
                "or several of them separated by semicolons, of which the first one seals"
            )
    seals_with = files[0] if setting.startswith(FILE_PREFIX) else vaults[0]
    return KeyRing(files=files, vaults=vaults, seals_with=seals_with)
