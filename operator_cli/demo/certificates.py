"""The demo's private certificate authority and its PFX files; both live for one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DEMO_PASSWORD = "correct horse demo staple"  # noqa: S105 - for throw-away keys, and looked for in a whole run's traces
WRONG_PASSWORD = "not the password of that file"  # noqa: S105 - likewise

_VALID = timedelta(days=90)
_KDF_ROUNDS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoCertificate:
    """A server certificate and its PFX.

    Attributes:
        fingerprint_sha256: Hex SHA-256 of the certificate, as a TLS handshake shows it.
        pfx: The file, protected by `DEMO_PASSWORD`.
    """

    fingerprint_sha256: str
    pfx: bytes = field(repr=False)


class DemoAuthority:
    """A private certificate authority."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("certcast demo CA")
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, *hosts: str) -> DemoCertificate:
        """Issue a certificate for these hosts, with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(hosts[0]), self._name, key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        encryption = serialization.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(_KDF_ROUNDS)
        pfx = pkcs12.serialize_key_and_certificates(
            hosts[0].encode(), key, certificate, [self._certificate], encryption.build(DEMO_PASSWORD.encode())
        )
        return DemoCertificate(fingerprint_sha256=certificate.fingerprint(hashes.SHA256()).hex(), pfx=pfx)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _VALID)
    )
