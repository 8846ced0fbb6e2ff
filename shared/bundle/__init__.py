"""A certificate with its key and chain: what a server needs, and the text it is sealed as."""

from __future__ import annotations

import hashlib
import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from shared.bundle.link import Link
from shared.bundle.view import dns_names_of, parsed, view_of
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


MAX_BUNDLE_BYTES = 2_097_152
"""Of a sealed bundle: room for everything that a PFX of the greatest size can hold, as PEM."""
MAX_BUNDLE_CERTIFICATES = 16
MAX_INTERMEDIATES = 8
"""As deep as `cryptography` verifies; public chains have one to three."""
MAX_BUNDLE_KEY_BYTES = 7_000
"""An RSA key of 8,192 bits, the longest that is accepted, takes 6,400 as PEM."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateBundle:
    """What a server needs to serve one certificate.

    Attributes:
        leaf: The server certificate.
        chain: Its intermediates in leaf-to-root order, without the root and without strangers.
        key: The private key of the leaf.
    """

    leaf: x509.Certificate
    chain: tuple[Link, ...]
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
    def view(self) -> x509.Certificate:
        """The leaf as far as the library can read it (`view_of`), while `leaf` itself may raise when asked."""
        return view_of(self.leaf.public_bytes(serialization.Encoding.DER))

    @property
    def subject(self) -> str:
        """The leaf's subject as an RFC 4514 string."""
        return self.view.subject.rfc4514_string()

    @property
    def issuer(self) -> str:
        """The leaf's issuer as an RFC 4514 string."""
        return self.view.issuer.rfc4514_string()

    @property
    def chain_subjects(self) -> tuple[str, ...]:
        """Subjects of what is served as RFC 4514 strings, the leaf's first."""
        return (self.subject, *(link.subject for link in self.chain))

    @property
    def dns_names(self) -> tuple[str, ...]:
        """The leaf's subjectAltName dNSNames as `dns_names_of` has them; empty without the extension."""
        return dns_names_of(self.leaf.public_bytes(serialization.Encoding.DER))

    def key_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def chain_pem(self) -> bytes:
        """The leaf and its intermediates as PEM, without the key."""
        leaf = self.leaf.public_bytes(serialization.Encoding.PEM)
        return leaf + b"".join(ssl.DER_cert_to_PEM_cert(link.der).encode() for link in self.chain)

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
            # Without OpenSSL's tests of primes, which take seconds: a product that is the leaf's modulus has no others.
            key = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
            der, *above = [ssl.PEM_cert_to_DER_cert(block.decode()) for block in _CERTIFICATE.findall(pem)]
            leaf, chain = parsed(der), tuple(map(Link.read, above))
            matches = leaf is not None and leaf.public_key() == key.public_key() and _is_whole(key)
        except Exception:  # noqa: BLE001 - cryptography raises several kinds that have nothing in common
            raise BrokenBundleError(
                "a sealed bundle is damaged: it is not a PEM key followed by certificates"
            ) from None
        if leaf is None or not matches or not isinstance(key, PrivateKey):
            raise BrokenBundleError("a sealed bundle is damaged: its key does not belong to its certificate")
        return cls(leaf=leaf, chain=chain, key=key)

    @classmethod
    def from_sealed(cls, pem: bytes, bundle_id: str) -> CertificateBundle:
        """Read what was sealed under an id, which whoever can write the container may have put there.

        Nothing is parsed that is larger than what `to_pem` can have written.

        Raises:
            BrokenBundleError: It is damaged, too large, or holds another certificate than the id names.
        """
        certificates = _CERTIFICATE.findall(pem) if len(pem) <= MAX_BUNDLE_BYTES else []
        rest = len(pem) - sum(map(len, certificates))
        if len(pem) > MAX_BUNDLE_BYTES or len(certificates) > MAX_BUNDLE_CERTIFICATES or rest > MAX_BUNDLE_KEY_BYTES:
            raise BrokenBundleError(
                f"bundle {bundle_id} is larger than any that certcast seals ({len(pem)} bytes, {len(certificates)} "
                "certificates): another program wrote it; upload the certificate again"
            )
        bundle = cls.from_pem(pem)
        if bundle.fingerprint_sha256 != bundle_id.partition("/")[0]:
            raise BrokenBundleError(
                f"bundle {bundle_id} holds the certificate {bundle.fingerprint_sha256}, which is another one: it was "
                "copied there; upload the certificate again"
            )
        return bundle


def _is_whole(key: object) -> bool:
    """Whether the numbers of an RSA key belong together; keys of other kinds were checked as they were read."""
    if not isinstance(key, rsa.RSAPrivateKey):
        return True
    own = key.private_numbers()
    p, q, n, e = own.p, own.q, own.public_numbers.n, own.public_numbers.e
    return (
        p * q == n
        and (own.d * e - 1) % (p - 1) == (own.d * e - 1) % (q - 1) == 0
        and (own.dmp1, own.dmq1, own.iqmp * q % p) == (own.d % (p - 1), own.d % (q - 1), 1)
    )


def bundle_id(bundle: CertificateBundle, content: bytes) -> str:
    """The name a bundle is sealed under: the leaf's SHA-256, then the uploaded content's, in hex."""
    return bundle_id_of(bundle.fingerprint_sha256, content)


def bundle_id_of(fingerprint_sha256: str, content: bytes) -> str:
    """The same, where only the leaf's SHA-256 is at hand."""
    return f"{fingerprint_sha256}/{hashlib.sha256(content).hexdigest()}"
