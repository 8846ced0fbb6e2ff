"""Hands a key and its chain to OpenSSL, which reads files only, without leaving a key on the disk."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from shared.bundle import CertificateBundle


def load_through_memory_file(context: ssl.SSLContext, bundle: CertificateBundle) -> None:
    """Hand key and chain to OpenSSL, which reads files only, in a file that exists in memory alone (Linux)."""
    descriptor = os.memfd_create("certcast", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(bundle.to_pem())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def load_through_encrypted_file(context: ssl.SSLContext, bundle: CertificateBundle) -> None:
    """Hand key and chain to OpenSSL in a file of mode 0600 whose key is encrypted under a password used once."""
    password = secrets.token_bytes(32).hex().encode()
    key = bundle.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    descriptor, path = tempfile.mkstemp(prefix="certcast-")  # 0600 from its first byte
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + bundle.chain_pem())
        context.load_cert_chain(path, password=password)
    finally:
        Path(path).unlink()


load_bundle: Callable[[ssl.SSLContext, CertificateBundle], None] = (
    load_through_memory_file
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()
    else load_through_encrypted_file
)
"""The way this platform offers."""
