"""The containers `certificates` and `bundles` through azure-storage-blob."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from shared.azure.errors import UNCHANGED, azure_errors, error_code
from shared.errors import CertcastError, ConflictError, MissingError
from shared.phrasing import shown
from shared.ports import BlobContent, BlobVersion, StoredBundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from concurrent.futures import ThreadPoolExecutor

    from azure.storage.blob import BlobClient, BlobProperties, ContainerClient
    from azure.storage.blob.aio import ContainerClient as AsyncContainerClient

    from shared.azure.key_encryption import KeyEncryptionKey
    from shared.azure.key_ring import KeyRing

T = TypeVar("T")
Args = TypeVarTuple("Args")

UPLOADS_CONTAINER = "certificates"
BUNDLES_CONTAINER = "bundles"

_NO_TAGS = {"FeatureNotYetSupportedForHierarchicalNamespaceAccounts", "BlobTagsNotSupportedForAccountType"}
_READ_TRIES = 5
_NOT_OURS = (ValueError, InvalidUnwrap, InvalidTag)
"""What decrypting something ends in that was sealed under another key, was tampered with or was never sealed."""


class _NotSealedError(CertcastError):
    """Its encryption metadata is missing, or changed while it was read."""


class AzureUploads:
    """The container that uploaders write to, as `shared.ports.UploadContainer`."""

    def __init__(self, container: AsyncContainerClient) -> None:
        self._container = container

    async def version(self, name: str) -> BlobVersion | None:
        """Look at a blob without reading it."""
        try:
            with azure_errors(f"reading the properties of blob {name}"):
                return _version(name, await self._container.get_blob_client(name).get_blob_properties())
        except MissingError:
            return None

    async def read(self, name: str, *, max_bytes: int) -> BlobContent | None:
        """Read properties, metadata and content of one and the same version of a blob."""
        blob = self._container.get_blob_client(name)
        for _ in range(_READ_TRIES):
            try:
                with azure_errors(f"reading blob {name}"):
                    properties = await blob.get_blob_properties()
                    length = min(int(properties.size), max_bytes)
                    if length == 0:
                        return BlobContent(version=_version(name, properties), content=b"")
                    stream = await blob.download_blob(
                        offset=0, length=length, etag=properties.etag, match_condition=UNCHANGED
                    )
                    return BlobContent(version=_version(name, properties), content=await stream.readall())
            except MissingError:
                return None
            except ConflictError:
                continue  # overwritten between the two requests: the newer version is the one that counts
        raise ConflictError(f"blob {name} is being overwritten again and again; try again later")

    async def write(self, name: str, content: bytes, metadata: Mapping[str, str]) -> str:
        """Upload content and metadata in one request and return the ETag."""
        with azure_errors(f"uploading blob {name}"):
            answer = await self._container.get_blob_client(name).upload_blob(
                content, metadata=dict(metadata), overwrite=True
            )
        return _unquoted(str(answer["etag"]))

    async def set_metadata(self, name: str, metadata: Mapping[str, str], *, etag: str) -> str:
        """Replace the metadata and return the new ETag."""
        with azure_errors(f"writing the metadata of blob {name}"):
            answer = await self._container.get_blob_client(name).set_blob_metadata(
                dict(metadata), etag=f'"{etag}"', match_condition=UNCHANGED
            )
        return _unquoted(str(answer["etag"]))

    async def set_tags(self, name: str, tags: Mapping[str, str]) -> bool:
        """Replace the blob's index tags; False where the account or the blob has none to set."""
        try:
            with azure_errors(f"writing the tags of blob {name}"):
                try:
                    await self._container.get_blob_client(name).set_blob_tags(dict(tags))
                except HttpResponseError as error:
                    if error_code(error) in _NO_TAGS:
                        return False
                    raise
        except MissingError:
            return False
        return True

    async def tags(self, name: str) -> dict[str, str] | None:
        """Read the blob's index tags; None where the blob is gone or the account has no tags."""
        try:
            with azure_errors(f"reading the tags of blob {name}"):
                try:
                    return dict(await self._container.get_blob_client(name).get_blob_tags())
                except HttpResponseError as error:
                    if error_code(error) in _NO_TAGS:
                        return None
                    raise
        except MissingError:
            return None

    async def delete(self, name: str) -> bool:
        """Delete a blob with its snapshots; False when there was none."""
        try:
            with azure_errors(f"deleting blob {name}"):
                await self._container.get_blob_client(name).delete_blob(delete_snapshots="include")
        except MissingError:
            return False
        return True

    async def each(self) -> AsyncIterator[BlobVersion]:
        """List every blob with its metadata."""
        with azure_errors(f"listing container {self._container.container_name}"):
            async for properties in self._container.list_blobs(include=["metadata"]):
                yield _version(str(properties.name), properties)


class SealedBundles:
    """The container of key and chain, encrypted on the client, as `shared.ports.BundleVault`.

    Client-side encryption version 2: AES-256-GCM under a content key of its own for each blob, wrapped by the
    key-encryption key (learn.microsoft.com, "Client-side encryption for blobs"). The SDK calls the key-encryption key
    synchronously, and a Key Vault one is a network request, so the synchronous client runs in threads.

    Args:
        container: The container.
        keys: The one to seal with, and those to open with.
        threads: Where requests run.
    """

    def __init__(self, container: ContainerClient, keys: KeyRing, threads: ThreadPoolExecutor) -> None:
        self._container = container
        self._keys = keys
        self._threads = threads

    async def seal(self, bundle_id: str, pem: bytes) -> None:
        """Store a bundle under its id, again if it is there already: its age protects it from the sweep."""
        await self._in_thread(self._seal, bundle_id, pem)

    async def open(self, bundle_id: str) -> bytes:
        """Read a bundle."""
        return await self._in_thread(self._open, bundle_id)

    async def delete(self, bundle: StoredBundle) -> None:
        """Delete a bundle; one that is gone already is no error."""
        await self._in_thread(self._delete, bundle)

    async def each(self) -> AsyncIterator[StoredBundle]:
        """List every bundle."""
        for item in await self._in_thread(self._each):
            yield item

    async def _in_thread(self, call: Callable[[*Args], T], *args: *Args) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def _blob(self, bundle_id: str) -> BlobClient:
        blob = self._container.get_blob_client(f"{bundle_id}.pem")
        blob.require_encryption = True
        blob.encryption_version = "2.0"
        return blob

    def _seal(self, bundle_id: str, pem: bytes) -> None:
        with azure_errors(f"sealing bundle {bundle_id}"):
            blob = self._blob(bundle_id)
            blob.key_encryption_key = self._keys.for_sealing()
            blob.upload_blob(pem, overwrite=True)

    def _open(self, bundle_id: str) -> bytes:
        with azure_errors(f"opening bundle {bundle_id}"):
            for _ in range(_READ_TRIES - 1):
                try:
                    return self._read(bundle_id)
                except _NotSealedError:
                    # The SDK asks twice, and what was sealed again in between it takes for tampering.
                    continue
            return self._read(bundle_id)

    def _read(self, bundle_id: str) -> bytes:
        named: list[str] = []

        def resolve(key_id: str) -> KeyEncryptionKey:
            named.append(key_id)
            return self._keys.named(key_id)

        blob = self._blob(bundle_id)
        blob.key_resolver_function = resolve
        try:
            return bytes(blob.download_blob().readall())
        except (HttpResponseError, *_NOT_OURS) as error:
            # The SDK tells of a failed decryption as of a broken download, in an error that has no response.
            causes = [] if isinstance(error, HttpResponseError) and error.response else list(_causes(error))
            told = next((cause for cause in causes if isinstance(cause, CertcastError)), None)
            if told is not None:
                # The key-encryption key itself could not be used.
                raise type(told)(f"bundle {bundle_id} cannot be opened: {told}") from None
            if not any(isinstance(cause, _NOT_OURS) for cause in causes):
                raise
            # The SDK's text may describe key material; which key is asked for says what a person needs.
            sealed = f"with key {shown(named[-1])}" if named else "as nothing is sealed here"
            raise (CertcastError if named else _NotSealedError)(
                f"bundle {bundle_id} cannot be opened {sealed}: it was sealed under another key or is damaged; set "
                "CERTCAST_KEY_ENCRYPTION_KEY to the Function's value, or upload again"
            ) from None

    def _delete(self, bundle: StoredBundle) -> None:
        blob = self._container.get_blob_client(f"{bundle.bundle_id}.pem")
        with azure_errors(f"deleting bundle {bundle.bundle_id}"):
            try:
                blob.delete_blob(etag=f'"{bundle.etag}"', match_condition=UNCHANGED)
            except (ResourceNotFoundError, ResourceModifiedError):
                if blob.exists():
                    raise

    def _each(self) -> list[StoredBundle]:
        with azure_errors("listing bundles"):
            return [
                StoredBundle(
                    bundle_id=str(properties.name).removesuffix(".pem"),
                    stored_at=properties.last_modified,
                    etag=_unquoted(str(properties.etag)),
                )
                for properties in self._container.list_blobs()
            ]


def _version(name: str, properties: BlobProperties) -> BlobVersion:
    return BlobVersion(
        name=name,
        etag=_unquoted(str(properties.etag)),
        size=int(properties.size),
        last_modified=properties.last_modified,
        created=properties.creation_time,
        metadata=dict(properties.metadata or {}),
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _unquoted(etag: str) -> str:
    return etag.strip('"')
