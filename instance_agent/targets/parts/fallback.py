"""The certificate that answers where no binding does: the administrator's, or one made by us and kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from instance_agent.targets.parts.file_batch import FileBatch, grant
from shared.bundle import CertificateBundle
from shared.errors import BrokenMessageError, ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from instance_agent.targets.parts.file_batch import Access

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


def fallback_file(named: Path | None, own: Path, *, access: Access, staging: Path, setting: str) -> Path:
    """The path of the fallback; one of our own is made where it is needed and missing.

    Args:
        named: What the administrator named; None for nothing.
        own: Where our own is kept.
        access: Who reads our own.
        staging: A folder for writing it.
        setting: The setting that names one.

    Raises:
        ConfigurationError: What was named holds no certificate with its key.
        OSError: It cannot be read or written.
    """
    if named is not None:
        try:
            CertificateBundle.from_pem(named.read_bytes())
        except BrokenMessageError:
            raise ConfigurationError(
                f"{setting}: {named} must hold a PEM private key, its certificate and the intermediates"
            ) from None
        return named
    if not own.exists():
        batch = FileBatch(staging)
        batch.write(own, self_made_fallback(datetime.now(UTC)).to_pem(), access)
        batch.commit()
        batch.close()
    grant(own, access)
    return own
