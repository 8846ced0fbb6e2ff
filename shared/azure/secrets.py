"""Passwords that are only referred to: Key Vault secrets, from the vaults that the settings name and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError
from azure.keyvault.secrets.aio import SecretClient

from shared.azure.errors import translated
from shared.errors import SecretUnavailableError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.core.credentials_async import AsyncTokenCredential

_WITH_VERSION = 3
_HTTPS_PORT = 443
# The SDK's own patience is longer than Event Grid waits for an answer; who asked is asked to ask again.
_RETRIES = 2


class VaultSecrets:
    """Key Vault secrets, as `shared.ports.Secrets`.

    Args:
        vaults: Host names of the vaults that may be read.
        credential: Makes the identity when the first secret is asked for; most deployments never ask.
    """

    def __init__(self, vaults: frozenset[str], credential: Callable[[], AsyncTokenCredential]) -> None:
        self._vaults = vaults
        self._credential = credential
        self._clients: dict[str, SecretClient] = {}

    async def resolve(self, reference: str) -> str:
        """Read the secret behind a secret URI (`https://<vault>.vault.azure.net/secrets/<name>[/<version>]`)."""
        host, name, version = self._allowed(reference)
        if host not in self._clients:
            self._clients[host] = SecretClient(f"https://{host}", self._credential(), retry_total=_RETRIES)
        try:
            secret = await self._clients[host].get_secret(name, version)
        except AzureError as error:
            reason = translated(error, f"reading secret {name} of {host}")
            if isinstance(reason, UnavailableError):
                raise reason from None
            raise SecretUnavailableError(
                f"{reason}; check that the secret exists and that the Function's identity has the role "
                f"'Key Vault Secrets User' on {host}"
            ) from None
        if secret.value is None:
            raise SecretUnavailableError(f"secret {name} of {host} has no value")
        return secret.value

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()

    def _allowed(self, reference: str) -> tuple[str, str, str | None]:
        try:
            parts = urlsplit(reference.strip())
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        path = parts.path.strip("/").split("/")
        host = (parts.hostname or "").lower()
        usual = parts.scheme == "https" and port in {None, _HTTPS_PORT}
        if not usual or len(path) not in {2, _WITH_VERSION} or path[0] != "secrets" or not path[1]:
            raise SecretUnavailableError(
                "the password's reference is not a Key Vault secret URI "
                "(https://<vault>.vault.azure.net/secrets/<name>)"
            )
        if host not in self._vaults:
            raise SecretUnavailableError(
                f"the password refers to vault {host}, which CERTCAST_KEY_VAULTS does not name; "
                "ask the platform's operator to add it, or use a vault that is named"
            )
        return host, path[1], path[2] if len(path) == _WITH_VERSION else None
