"""One key-encryption key: a version of a Key Vault key, or a file on a machine of one's own."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Protocol

from azure.core.exceptions import AzureError
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from shared.azure.errors import translated
from shared.errors import AccessDeniedError, CertcastError, ConfigurationError, KeyUnusableError, MissingError

if TYPE_CHECKING:
    from pathlib import Path

    from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

_REPEATED = frozenset({"GET", "POST"})
KEY_BYTES = 32
FILE_PREFIX = "file:"


class KeyEncryptionKey(Protocol):
    """What sealing and opening a bundle ask of a key-encryption key, in the names of azure-storage-blob."""

    def wrap_key(self, key: bytes) -> bytes:
        """Encrypt a content key."""

    def unwrap_key(self, key: bytes, algorithm: str) -> bytes:
        """Decrypt a content key."""

    def get_key_wrap_algorithm(self) -> str:
        """Name the algorithm, to be stored beside the wrapped key."""

    def get_kid(self) -> str:
        """Name the key, to be stored beside the wrapped key."""


class FileKey:
    """An AES-256 key in a file of mode 0600, wrapping by RFC 3394, as `KeyEncryptionKey`."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._key = key

    def wrap_key(self, key: bytes) -> bytes:
        return aes_key_wrap(self._key, key)

    def unwrap_key(self, key: bytes, algorithm: str) -> bytes:
        if algorithm != self.get_key_wrap_algorithm():
            raise ValueError(f"the bundle's key was wrapped by {algorithm}, this key unwraps A256KW")
        return aes_key_unwrap(self._key, key)

    def get_key_wrap_algorithm(self) -> str:
        return "A256KW"

    def get_kid(self) -> str:
        return f"{FILE_PREFIX}{self._path.name}"


class VaultKey:
    """One version of an RSA key in Key Vault; unwrapping happens there, its private part never leaves it.

    Fulfils `KeyEncryptionKey`.
    """

    def __init__(self, client: CryptographyClient, url: str) -> None:
        self._client = client
        self._url = url

    def wrap_key(self, key: bytes) -> bytes:
        try:
            return self._client.wrap_key(_algorithm(self.get_key_wrap_algorithm()), key).encrypted_key
        except AzureError as error:
            raise translated_by_vault(error, f"wrapping with key {self._url}") from None

    def unwrap_key(self, key: bytes, algorithm: str) -> bytes:
        try:
            # Unwrapping again does no harm; the SDK leaves out POST where a vault is busy (429) or does not answer.
            return self._client.unwrap_key(_algorithm(algorithm), key, retry_on_methods=_REPEATED).key
        except AzureError as error:
            raise translated_by_vault(error, f"unwrapping with key {self._url}") from None

    def get_key_wrap_algorithm(self) -> str:
        return "RSA-OAEP-256"

    def get_kid(self) -> str:
        return self._url


def translated_by_vault(error: AzureError, doing: str) -> CertcastError:
    """Say what kept a key in a vault from being used, and what to do about the usual reasons."""
    told = translated(error, doing)
    if isinstance(told, AccessDeniedError | MissingError):
        return KeyUnusableError(
            f"{told}. If that version of the key was disabled or deleted, enable or recover it; else give this "
            "identity the role 'Key Vault Crypto Service Encryption User' on the key"
        )
    return told


def _algorithm(name: str) -> KeyWrapAlgorithm:
    from azure.keyvault.keys.crypto import KeyWrapAlgorithm  # noqa: PLC0415 - slow to import, and needed only here

    return KeyWrapAlgorithm(name)


def read_key_file(path: Path) -> FileKey:
    """Read a key file.

    Raises:
        ConfigurationError: It is missing, of another length, or readable by others.
    """
    try:
        key = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationError(
            f"CERTCAST_KEY_ENCRYPTION_KEY: key file {path} cannot be read ({error.strerror}); "
            f"make one with: certcast up, or: (umask 077; head -c {KEY_BYTES} /dev/urandom > {path})"
        ) from None
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"CERTCAST_KEY_ENCRYPTION_KEY: key file {path} must hold exactly {KEY_BYTES} random bytes, "
            f"it holds {len(key)}"
        )
    if os.name == "posix" and mode & 0o077:
        raise ConfigurationError(
            f"CERTCAST_KEY_ENCRYPTION_KEY: key file {path} is open to others; run: chmod 600 {path}"
        )
    return FileKey(path, key)


def make_key_file(path: Path) -> None:
    """Write a new random key file, 0600 from its first byte; one that is there is kept."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
