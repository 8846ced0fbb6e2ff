"""The machine's certificate stores as the IIS target uses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KNOWN_STORES = ("My", "WebHosting")
"""The LocalMachine stores that IIS binds server certificates from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCertificate:
    """A certificate in one of the `KNOWN_STORES`.

    Attributes:
        store: Name of the store.
        thumbprint: Upper-case hex SHA-1.
        friendly_name: As shown by Windows; our tag if it is ours.
        has_private_key: Whether Windows links a private key to it.
    """

    store: str
    thumbprint: str
    friendly_name: str
    has_private_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCertificate:
    """A leaf and its key on their way into a store.

    Attributes:
        thumbprint: The leaf's upper-case hex SHA-1; what the import must yield.
        friendly_name: Our tag.
        pfx: PKCS#12 with leaf and key, under a password of its own.
        password: That password, made for this one import.
    """

    thumbprint: str
    friendly_name: str
    pfx: bytes = field(repr=False)
    password: str = field(repr=False)


class CertificateStores(Protocol):
    """The machine's certificate stores. Blocking: called in a worker thread."""

    def listing(self) -> Sequence[StoredCertificate]:
        """Every certificate in the `KNOWN_STORES`."""

    def fingerprints(self, certificates: Iterable[StoredCertificate]) -> Mapping[str, str]:
        """Lower-case hex SHA-256 of their DER, by thumbprint; those no longer there are left out."""

    def add(self, store: str, certificate: NewCertificate) -> None:
        """Import a leaf with its key. Raises `GatewayError`."""

    def rename(self, certificate: StoredCertificate, friendly_name: str) -> None:
        """Change the friendly name. Raises `GatewayError`."""

    def key_problems(self, store: str, thumbprints: Iterable[str]) -> Mapping[str, str]:
        """Open the store again and say, by thumbprint, what is missing: the certificate or a usable private key."""

    def add_intermediates(self, certificates: Sequence[bytes]) -> None:
        """Put DER certificates that are not there yet into the store `CA`. Raises `GatewayError`."""

    def remove(self, certificate: StoredCertificate) -> None:
        """Delete the certificate and its private key. Raises `GatewayError`."""
