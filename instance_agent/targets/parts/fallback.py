"""Self-signed certificates, such as the one that answers where no binding does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.bundle import CertificateBundle

_FALLBACK_NAME = "fallback.certcast.invalid"  # RFC 2606: no one can have a host under `.invalid`
_FALLBACK_VALIDITY = timedelta(days=3650)
_CLOCK_SKEW = timedelta(days=1)


def self_signed(host: str, now: datetime, validity: timedelta) -> CertificateBundle:
    """A certificate that is its own issuer, which no client trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _CLOCK_SKEW)
        .not_valid_after(now.astimezone(UTC) + validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return CertificateBundle(leaf=leaf, chain=(), key=key)


def self_made_fallback(now: datetime) -> CertificateBundle:
    """A self-signed certificate for a name that no one can have."""
    return self_signed(_FALLBACK_NAME, now, _FALLBACK_VALIDITY)
