"""The container `bundles` through azure-storage-blob: key and chain, encrypted on the client."""

from __future__ import annotations

import asyncio
import secrets
from hmac import compare_digest
from typing import TYPE_CHECKING, TypeVar

from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from shared.azure.blobs import first_bytes, unquoted
from shared.azure.envelope import SEALING_BYTES, Envelope, sealed
from shared.azure.errors import UNCHANGED, azure_errors, error_code
from shared.azure.key_encryption import FILE_PREFIX
from shared.bundle import MAX_BUNDLE_BYTES
from shared.errors import BrokenBundleError, CertcastError, MissingError
from shared.phrasing import shown
from shared.ports import StoredBundle
from shared.upload import keeps_its_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import ThreadPoolExecutor

    from azure.storage.blob.aio import BlobClient, ContainerClient

    from shared.azure.key_ring import KeyRing

T = TypeVar("T")

BUNDLES_CONTAINER = "bundles"

_LARGEST = MAX_BUNDLE_BYTES + SEALING_BYTES

_TRIED_BYTES = 40
"""Of the value that a key is tried with: as long as what it wraps of a bundle."""
_NOT_OURS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, InvalidUnwrap, InvalidTag)
"""What decrypting something ends in that was sealed under another key or was tampered with."""


class SealedBundles:
    """The container of key and chain, encrypted on the client, as `shared.ports.BundleVault`.

    Each blob has a content key of its own, wrapped by the key-encryption key; no content key is kept.

    Args:
        container: The container.
        keys: The one to seal with, and those to open with.
        threads: Where a vault is asked, which blocks.
    """

    def __init__(self, container: ContainerClient, keys: KeyRing, threads: ThreadPoolExecutor) -> None:
        self._container = container
        self._keys = keys
        self._threads = threads

    async def seal(self, bundle_id: str, pem: bytes) -> None:
        blob = self._blob(bundle_id)
        envelope, content = await self._in_thread(lambda: sealed(pem, self._keys.for_sealing()))
        with azure_errors(f"sealing bundle {bundle_id}"):
            await blob.upload_blob(content, metadata=envelope.metadata(), overwrite=True)

    async def open(self, bundle_id: str) -> bytes:
        blob = self._blob(bundle_id)
        with azure_errors(f"opening bundle {bundle_id}"):
            properties, content = await first_bytes(blob, most=_LARGEST)
        if properties.size > _LARGEST:
            raise BrokenBundleError(
                f"bundle {bundle_id} is larger than any that certcast seals ({properties.size} bytes): another program "
                "wrote it; upload the certificate again"
            )
        envelope = Envelope.of(properties.metadata)
        if envelope is None:
            raise CertcastError(_not_opened(bundle_id, "as nothing is sealed here"))
        try:
            return envelope.opened(content, await self._unwrapped(envelope))
        except CertcastError as error:
            # The key-encryption key itself could not be used.
            raise type(error)(f"bundle {bundle_id} cannot be opened: {error}") from None
        except _NOT_OURS:
            # Their texts may describe key material; which key is asked for says what a person needs.
            raise CertcastError(_not_opened(bundle_id, f"with key {shown(envelope.key_id)}")) from None

    async def delete(self, bundle: StoredBundle) -> None:
        blob = self._blob(bundle.bundle_id)
        with azure_errors(f"deleting bundle {bundle.bundle_id}"):
            try:
                await blob.delete_blob(etag=f'"{bundle.etag}"', match_condition=UNCHANGED)
            except (ResourceNotFoundError, ResourceModifiedError) as error:
                if error_code(error) == "ContainerNotFound" or await blob.exists():
                    raise

    async def each(self) -> AsyncIterator[StoredBundle]:
        with azure_errors("listing bundles"):
            async for properties in self._container.list_blobs():
                yield StoredBundle(
                    bundle_id=str(properties.name).removesuffix(".pem"),
                    stored_at=properties.last_modified,
                    etag=unquoted(str(properties.etag)),
                )

    @property
    def key_is_file(self) -> bool:
        """Whether they are sealed under a key file, and not under a key in a vault."""
        return self._keys.seals_by_file

    def try_key(self) -> str:
        """Wrap a value and unwrap it again, as sealing and opening do; blocks. Answers the key's name.

        Raises:
            CertcastError: The key cannot be used; the text says why.
        """
        key, value = self._keys.for_sealing(), secrets.token_bytes(_TRIED_BYTES)
        name = key.get_kid()
        unwrapped = self._keys.named(name).unwrap_key(key.wrap_key(value), key.get_key_wrap_algorithm())
        if not compare_digest(unwrapped, value):
            raise CertcastError(f"key {name} unwraps something else than it wrapped: nothing can be sealed under it")
        return name

    async def envelopes(self, most: int) -> dict[str, list[tuple[str, Envelope]]]:
        """The first bundles' ids and envelopes, by the keys that they were sealed under; none is opened."""
        found: dict[str, list[tuple[str, Envelope]]] = {}
        seen = 0
        with azure_errors("listing bundles"):
            async for properties in self._container.list_blobs(include=["metadata"]):
                envelope = Envelope.of(properties.metadata or {})
                if envelope is not None:
                    found.setdefault(envelope.key_id, []).append((str(properties.name).removesuffix(".pem"), envelope))
                seen += 1
                if seen == most:
                    break
        return found

    def try_envelope(self, bundle_id: str, envelope: Envelope) -> None:
        """Unwrap a bundle's content key, which goes nowhere; blocks.

        Raises:
            CertcastError: It cannot be opened; the text says why.
        """
        try:
            self._keys.named(envelope.key_id).unwrap_key(envelope.wrapped_key, envelope.algorithm)
        except CertcastError as error:
            raise type(error)(f"bundle {bundle_id} cannot be opened: {error}") from None
        except _NOT_OURS:
            raise CertcastError(_not_opened(bundle_id, f"with key {shown(envelope.key_id)}")) from None

    def _blob(self, bundle_id: str) -> BlobClient:
        if not keeps_its_place(bundle_id):
            raise MissingError(f"no bundle is named '{shown(bundle_id)}'")
        return self._container.get_blob_client(f"{bundle_id}.pem")

    async def _unwrapped(self, envelope: Envelope) -> bytes:
        def unwrap() -> bytes:
            return self._keys.named(envelope.key_id).unwrap_key(envelope.wrapped_key, envelope.algorithm)

        return unwrap() if envelope.key_id.startswith(FILE_PREFIX) else await self._in_thread(unwrap)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _not_opened(bundle_id: str, how: str) -> str:
    return (
        f"bundle {bundle_id} cannot be opened {how}: it was sealed under another key or is damaged; set "
        "CERTCAST_KEY_ENCRYPTION_KEY to the Function's value, or upload again"
    )
