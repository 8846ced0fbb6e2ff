"""A certificate with its key and chain: what a server needs, and the text it is sealed as."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from shared.errors import BrokenBundleError

if TYPE_CHECKING:
    from datetime import datetime

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey
)
"""What a PFX may hold; validation lets only RSA and the NIST curves of EC pass."""

BUNDLE_ID = re.compile(r"^[0-9a-f]{64}/[0-9a-f]{64}\Z")
"""The form of `bundle_id`, to be checked before an id from outside becomes part of a path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateBundle:
    """What a server needs to serve one certificate.

    Attributes:
        leaf: The server certificate.
        chain: Its intermediates in leaf-to-root order, without the root and without strangers.
        key: The private key of the leaf.
    """

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False, compare=False)  # the leaf determines it, and key objects have no equality

    @property
    def fingerprint_sha256(self) -> str:
        """Lower-case hex SHA-256 of the leaf's DER."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()

    @property
    def thumbprint_sha1(self) -> str:
        """Upper-case hex SHA-1 of the leaf's DER: the name Windows and IIS know the certificate by."""
        return self.leaf.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - a name, not a protection

    @property
    def not_before(self) -> datetime:
        """Start of the leaf's validity, UTC."""
        return self.leaf.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """End of the leaf's validity, UTC."""
        return self.leaf.not_valid_after_utc

    @property
    def subject(self) -> str:
        """The leaf's subject as an RFC 4514 string."""
        return self.leaf.subject.rfc4514_string()

    @property
    def issuer(self) -> str:
        """The leaf's issuer as an RFC 4514 string."""
        return self.leaf.issuer.rfc4514_string()

    @property
    def dns_names(self) -> tuple[str, ...]:
        """The leaf's subjectAltName dNSNames, lower case, in the certificate's order; empty without the extension."""
        try:
            names = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (x509.ExtensionNotFound, ValueError):
            return ()
        return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))

    def key_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def chain_pem(self) -> bytes:
        """The leaf and its intermediates as PEM, without the key."""
        return b"".join(
            certificate.public_bytes(serialization.Encoding.PEM) for certificate in (self.leaf, *self.chain)
        )

    def to_pem(self) -> bytes:
        """The sealed form: PKCS#8 key, leaf, intermediates."""
        return self.key_pem() + self.chain_pem()

    @classmethod
    def from_pem(cls, pem: bytes) -> CertificateBundle:
        """Read back what `to_pem` wrote.

        Raises:
            BrokenBundleError: The text is damaged, or the key is not the leaf's.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
            leaf, *chain = x509.load_pem_x509_certificates(pem)
            matches = leaf.public_key() == key.public_key()
        except (ValueError, TypeError):
            raise BrokenBundleError(
                "a sealed bundle is damaged: it is not a PEM key followed by certificates"
            ) from None
        if not matches or not isinstance(key, PrivateKey):
            raise BrokenBundleError("a sealed bundle is damaged: its key does not belong to its certificate")
        return cls(leaf=leaf, chain=tuple(chain), key=key)

    def check_is(self, bundle_id: str) -> None:
        """See that this is the bundle that an id names: who can write blobs can copy one over another's id.

        Raises:
            BrokenBundleError: It holds another certificate.
        """
        if not bundle_id.startswith(f"{self.fingerprint_sha256}/"):
            raise BrokenBundleError(
                f"bundle {bundle_id} holds another certificate, whose SHA-256 is {self.fingerprint_sha256}: somebody "
                "wrote over it; upload the PFX again, and see who may write the container bundles"
            )


def bundle_id(bundle: CertificateBundle, content: bytes) -> str:
    """The name a bundle is sealed under: the leaf's SHA-256, then the uploaded content's, in hex."""
    return bundle_id_of(bundle.fingerprint_sha256, content)


def bundle_id_of(fingerprint_sha256: str, content: bytes) -> str:
    """The same, where only the leaf's SHA-256 is at hand."""
    return f"{fingerprint_sha256}/{hashlib.sha256(content).hexdigest()}"
