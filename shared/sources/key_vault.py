"""Certificates kept in Key Vault as a certificate source: the PFX is the secret's value, its tags are the metadata."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError

from shared.azure.errors import translated
from shared.azure.secrets import SecretClients
from shared.errors import MissingError
from shared.ports import BlobContent, BlobVersion
from shared.upload import KEY_VAULT_SCHEME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from azure.core.credentials_async import AsyncTokenCredential
    from azure.keyvault.secrets import SecretProperties

# The SDK's ten would take minutes; the next sweep asks again.
_RETRIES = 3

# learn.microsoft.com, "About Azure Key Vault certificates": a certificate's secret has this content type; its PFX has
# no password.
PFX_CONTENT_TYPE = "application/x-pkcs12"


# learn.microsoft.com, "About keys, secrets, and certificates": the names of a vault's objects.
_OBJECT_NAME = re.compile(r"[0-9A-Za-z-]{1,127}\Z")


def _upload_name(vault: str, name: str) -> str:
    """Name a vault's certificate as an upload: `keyvault://<vault>/<name>`."""
    return f"{KEY_VAULT_SCHEME}://{vault.lower()}/{name.lower()}"


# learn.microsoft.com, "Azure Key Vault as Event Grid source". A certificate's new version raises both; whichever comes
# second finds its work done.
NEW_VERSION = frozenset(
    {"Microsoft.KeyVault.CertificateNewVersionCreated", "Microsoft.KeyVault.SecretNewVersionCreated"}
)


def vault_upload(event_type: str, data: Mapping[str, object]) -> str | None:
    """Name the upload that a vault's event is about; None for any other event, and for one that names none."""
    vault, name = data.get("VaultName"), data.get("ObjectName")
    if event_type not in NEW_VERSION or not isinstance(vault, str) or not isinstance(name, str):
        return None
    return _upload_name(vault, name) if _OBJECT_NAME.match(vault) and _OBJECT_NAME.match(name) else None


class KeyVaultCertificates:
    """The certificates of the vaults that `CERTCAST_KEY_VAULTS` names, as `shared.ports.CertificateSource`.

    A certificate is taken up when it carries at least one of certcast's metadata keys as a tag (`HostHeader` is the
    usual one), so that a vault's other certificates are not put on the platform by being there.

    Args:
        vaults: Host names of the vaults.
        credential: Makes the identity; it needs the role "Key Vault Secrets User".
    """

    def __init__(self, vaults: frozenset[str], credential: Callable[[], AsyncTokenCredential]) -> None:
        self._vaults = vaults
        self._clients = SecretClients(credential, retries=_RETRIES)
        self.close = self._clients.close

    async def version(self, name: str) -> BlobVersion | None:
        found = await self.read(name, max_bytes=0)
        return None if found is None else found.version

    async def read(self, name: str, *, max_bytes: int) -> BlobContent | None:
        vault, _, secret_name = name.removeprefix(f"{KEY_VAULT_SCHEME}://").partition("/")
        host = self._host_of(vault)
        # One spelling is one upload; and no name of an object becomes another path in the vault.
        if host is None or name != _upload_name(vault, secret_name) or not _OBJECT_NAME.match(secret_name):
            return None
        try:
            secret = await self._clients.of(host).get_secret(secret_name)
        except AzureError as error:
            reason = translated(error, f"reading certificate {secret_name} of {host}")
            if isinstance(reason, MissingError):
                return None
            raise reason from None
        version = _version(vault, secret.properties)
        if version is None:
            return None
        try:
            content = base64.b64decode(secret.value or "", validate=True)
        except (binascii.Error, ValueError):
            content = b""  # not a PFX: judged like any other unreadable upload
        return BlobContent(version=version, content=content[:max_bytes])

    async def each(self) -> AsyncIterator[BlobVersion]:
        for host in sorted(self._vaults):
            vault = host.partition(".")[0]
            try:
                async for properties in self._clients.of(host).list_properties_of_secrets():
                    version = _version(vault, properties)
                    if version is not None:
                        yield version
            except AzureError as error:
                raise translated(error, f"listing the certificates of {host}") from None

    def _host_of(self, vault: str) -> str | None:
        return next((host for host in self._vaults if host.partition(".")[0] == vault.lower()), None)


def _version(vault: str, properties: SecretProperties) -> BlobVersion | None:
    tags = {str(key): str(value) for key, value in (properties.tags or {}).items()}
    if properties.content_type != PFX_CONTENT_TYPE or properties.enabled is False or not _is_tagged(tags):
        return None
    updated = properties.updated_on or properties.created_on
    if updated is None or properties.created_on is None:
        return None
    # The listing names no version; a new version, and an edited tag, change the time of the last update.
    return BlobVersion(
        name=_upload_name(vault, str(properties.name)),
        etag=f"{updated.timestamp():.0f}",
        size=0,
        last_modified=updated,
        created=properties.created_on,
        metadata=tags,
    )


_METADATA_KEYS = frozenset({"hostheader", "portnumber", "certificatesubject", "sitename", "role"})


def _is_tagged(tags: dict[str, str]) -> bool:
    return any(key.lower() in _METADATA_KEYS for key in tags)
