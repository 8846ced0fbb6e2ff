"""Passwords that are only referred to: Key Vault secrets, from the vaults that the settings name and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError

from shared.azure.errors import error_code, has_no_token, translated
from shared.azure.patience import VAULT_TIMEOUTS, Patience
from shared.azure.vault_url import VaultObject
from shared.errors import SecretUnavailableError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.core.credentials_async import AsyncTokenCredential
    from azure.keyvault.secrets.aio import SecretClient

# The SDK's own patience is longer than Event Grid waits for an answer; the upload is looked at again instead.
_RETRIES = 2


class SecretClients:
    """Clients of vaults, each made when it is first asked for.

    Args:
        credential: Makes the identity when the first client is; most deployments never need one.
        retries: How often a client asks again.
    """

    def __init__(self, credential: Callable[[], AsyncTokenCredential], *, retries: int) -> None:
        self._credential = credential
        self._retries = retries
        self._clients: dict[str, SecretClient] = {}

    def of(self, host: str) -> SecretClient:
        """The client of the vault with this host name."""
        from azure.keyvault.secrets.aio import SecretClient  # noqa: PLC0415 - slow to import, and needed only here

        if host not in self._clients:
            self._clients[host] = SecretClient(
                f"https://{host}",
                self._credential(),
                retry_policy=Patience(retry_total=self._retries),
                **VAULT_TIMEOUTS,
            )
        return self._clients[host]

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()


class VaultSecrets:
    """Key Vault secrets, as `shared.ports.Secrets`.

    Args:
        vaults: Host names of the vaults that may be read.
        credential: Makes the identity when the first secret is asked for.
    """

    def __init__(self, vaults: frozenset[str], credential: Callable[[], AsyncTokenCredential]) -> None:
        self._vaults = vaults
        self._clients = SecretClients(credential, retries=_RETRIES)
        self.close = self._clients.close

    async def resolve(self, reference: str) -> str:
        """Read the secret behind a secret URI (`https://<vault>.vault.azure.net/secrets/<name>[/<version>]`)."""
        wanted = self._allowed(reference)
        host, name = wanted.vault, wanted.name
        try:
            secret = await self._clients.of(host).get_secret(name, wanted.version or None)
        except AzureError as error:
            reason = translated(error, f"reading secret {name} of {host}")
            # An identity without a token is no fault of the upload's.
            if isinstance(reason, UnavailableError) or has_no_token(error):
                raise reason from None
            if error_code(error) == "SecretDisabled":
                raise SecretUnavailableError(str(reason)) from None
            raise SecretUnavailableError(
                f"{reason}; check that the secret exists and that the Function's identity has the role "
                f"'Key Vault Secrets User' on {host}"
            ) from None
        if secret.value is None:
            raise SecretUnavailableError(f"secret {name} of {host} has no value")
        return secret.value

    def _allowed(self, reference: str) -> VaultObject:
        found = VaultObject.of(reference.strip(), "secrets")
        if found is None:
            raise SecretUnavailableError(
                "the password's reference is not a Key Vault secret URI "
                "(https://<vault>.vault.azure.net/secrets/<name>)"
            )
        if found.vault not in self._vaults:
            raise SecretUnavailableError(
                f"the password refers to vault {found.vault}, which CERTCAST_KEY_VAULTS does not name; "
                "ask the platform's operator to add it, or use a vault that is named"
            )
        return found
