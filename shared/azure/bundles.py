"""The container `bundles` through azure-storage-blob: key and chain, encrypted on the client."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from shared.azure.blobs import READ_TRIES, unquoted
from shared.azure.errors import UNCHANGED, azure_errors
from shared.bundle import MAX_BUNDLE_BYTES
from shared.errors import BrokenBundleError, CertcastError, MissingError
from shared.phrasing import shown
from shared.ports import StoredBundle
from shared.upload import keeps_its_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from azure.core.pipeline import PipelineResponse
    from azure.storage.blob import BlobClient, ContainerClient

    from shared.azure.key_encryption import KeyEncryptionKey
    from shared.azure.key_ring import KeyRing

T = TypeVar("T")
Args = TypeVarTuple("Args")

BUNDLES_CONTAINER = "bundles"

_SEALING_BYTES = 28
"""Nonce and tag of AES-GCM around each 4 MiB of content (learn.microsoft.com, "Client-side encryption for blobs")."""

_NOT_OURS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, InvalidUnwrap, InvalidTag)
"""What decrypting something ends in that was sealed under another key, was tampered with or was never sealed.

The SDK counts with what the blob's metadata say, whatever that is.
"""


class _NotSealedError(CertcastError):
    """Its encryption metadata is missing, or changed while it was read."""


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
        await self._in_thread(self._seal, bundle_id, pem)

    async def open(self, bundle_id: str) -> bytes:
        return await self._in_thread(self._open, bundle_id)

    async def delete(self, bundle: StoredBundle) -> None:
        await self._in_thread(self._delete, bundle)

    async def each(self) -> AsyncIterator[StoredBundle]:
        for item in await self._in_thread(self._each):
            yield item

    async def _in_thread(self, call: Callable[[*Args], T], *args: *Args) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def _blob(self, bundle_id: str) -> BlobClient:
        if not keeps_its_place(bundle_id):
            raise MissingError(f"no bundle is named '{shown(bundle_id)}'")
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
            for _ in range(READ_TRIES - 1):
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
            return bytes(blob.download_blob(raw_response_hook=partial(_refuse_large, bundle_id)).readall())
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
            sealed = f"with key {shown(str(named[-1]))}" if named else "as nothing is sealed here"
            raise (CertcastError if named else _NotSealedError)(
                f"bundle {bundle_id} cannot be opened {sealed}: it was sealed under another key or is damaged; set "
                "CERTCAST_KEY_ENCRYPTION_KEY to the Function's value, or upload again"
            ) from None

    def _delete(self, bundle: StoredBundle) -> None:
        blob = self._blob(bundle.bundle_id)
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
                    etag=unquoted(str(properties.etag)),
                )
                for properties in self._container.list_blobs()
            ]


def _refuse_large(bundle_id: str, response: PipelineResponse[Any, Any]) -> None:
    """End a download before its content comes: the SDK takes as much at once as the blob's own metadata says."""
    headers = response.http_response.headers
    size = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "0")
    if int(size) > MAX_BUNDLE_BYTES + _SEALING_BYTES:
        raise BrokenBundleError(
            f"bundle {bundle_id} is larger than any that certcast seals ({size} bytes): another program wrote it; "
            "upload the certificate again"
        )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
