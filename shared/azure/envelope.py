"""The envelope around a sealed bundle: client-side encryption version 2 of the Blob SDKs, in the form they store.

The content is one region of AES-256-GCM: nonce, ciphertext, tag. The content key stands in the blob's metadata, wrapped
by a key-encryption key together with the version, so that no other version can be claimed for it
(learn.microsoft.com, "Client-side encryption for blobs"; azure-storage-blob, `_encryption.py`).
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.azure.key_encryption import KeyEncryptionKey

SEALING_BYTES = 28
"""What sealing adds: a nonce of 12 bytes and a tag of 16."""

_METADATA = "encryptiondata"
_PROTOCOL, _ALGORITHM = "2.0", "AES_GCM_256"
_VERSION = _PROTOCOL.encode().ljust(8, b"\0")
_NONCE_BYTES = 12
_REGION_BYTES = 4 * 1024 * 1024
_FIRST_NONCE = bytes(_NONCE_BYTES)
"""Regions are counted from zero, and the SDKs refuse another count. Each content key seals one region only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What the metadata of a sealed blob say.

    Attributes:
        key_id: The key-encryption key's name.
        algorithm: How that key wrapped the content key.
        wrapped_key: The version and the content key, wrapped.
        region_bytes: The most that one region holds.
    """

    key_id: str
    algorithm: str
    wrapped_key: bytes = field(repr=False)
    region_bytes: int = _REGION_BYTES

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Envelope | None:
        """Read it from a blob's metadata, which anyone may have written; None where none can be read there."""
        texts = [value for name, value in metadata.items() if name.lower() == _METADATA]
        try:
            match json.loads("".join(texts)):
                case {
                    "WrappedContentKey": {"KeyId": str(key_id), "EncryptedKey": str(wrapped), "Algorithm": str(how)},
                    "EncryptionAgent": {"Protocol": "2.0", "EncryptionAlgorithm": "AES_GCM_256"},
                    "EncryptedRegionInfo": {"DataLength": int(most), "NonceLength": 12},
                }:
                    wrapped_key = base64.b64decode(wrapped, validate=True)
                    return cls(key_id=key_id, algorithm=how, wrapped_key=wrapped_key, region_bytes=most)
        except (ValueError, RecursionError):
            pass
        return None

    def metadata(self) -> dict[str, str]:
        """The metadata that say this."""
        wrapped = base64.b64encode(self.wrapped_key).decode()
        told = {
            "WrappedContentKey": {"KeyId": self.key_id, "EncryptedKey": wrapped, "Algorithm": self.algorithm},
            "EncryptionAgent": {"Protocol": _PROTOCOL, "EncryptionAlgorithm": _ALGORITHM},
            "EncryptedRegionInfo": {"DataLength": self.region_bytes, "NonceLength": _NONCE_BYTES},
            "KeyWrappingMetadata": {"EncryptionLibrary": "certcast"},
            "EncryptionMode": "FullBlob",
        }
        return {_METADATA: json.dumps(told)}

    def opened(self, content: bytes, unwrapped: bytes) -> bytes:
        """Decrypt what was sealed.

        Args:
            content: The blob's.
            unwrapped: The version and the content key.

        Raises:
            ValueError: They are no version and key, or the content is more than one region.
            InvalidTag: The content was not sealed with this key, or is damaged.
        """
        if unwrapped[: len(_VERSION)] != _VERSION or len(content) > self.region_bytes + SEALING_BYTES:
            raise ValueError("this is not one region of version 2.0")
        return AESGCM(unwrapped[len(_VERSION) :]).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], None)


def sealed(plain: bytes, key: KeyEncryptionKey) -> tuple[Envelope, bytes]:
    """Encrypt at most 4 MiB under a content key of its own; a key in a vault is asked meanwhile, and blocks.

    Returns:
        The envelope, and the content that goes with it.
    """
    content_key = secrets.token_bytes(32)
    envelope = Envelope(
        key_id=key.get_kid(), algorithm=key.get_key_wrap_algorithm(), wrapped_key=key.wrap_key(_VERSION + content_key)
    )
    return envelope, _FIRST_NONCE + AESGCM(content_key).encrypt(_FIRST_NONCE, plain, None)
