"""The certificate that answers where no binding does and none was named; no server is known here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from shared.bundle import CertificateBundle

_FALLBACK_NAME = "fallback.certcast.invalid"  # RFC 2606: `.invalid` can be nobody's host
_FALLBACK_VALIDITY = timedelta(days=3650)
_CLOCK_SKEW = timedelta(days=1)


def self_made_fallback(now: datetime) -> CertificateBundle:
    """A self-signed certificate for a name that is nobody's, served where no binding answers."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _FALLBACK_NAME)])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _CLOCK_SKEW)
        .not_valid_after(now.astimezone(UTC) + _FALLBACK_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_FALLBACK_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return CertificateBundle(leaf=leaf, chain=(), key=key)
