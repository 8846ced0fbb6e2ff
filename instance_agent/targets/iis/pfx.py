"""Certificates made ready for the machine's stores: the one-shot PFX, tags, intermediates."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from instance_agent.targets.base import ApplyError
from instance_agent.targets.iis.stores import NewCertificate
from shared.phrasing import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from instance_agent.targets.base import Install
    from instance_agent.targets.iis.tag import Tag
    from shared.bundle import CertificateBundle

_KDF_ROUNDS = 2000
"""As Windows itself writes; what protects the file is its password."""


def pfx_for_windows(bundle: CertificateBundle, password: str, *, chain: bool) -> bytes:
    """The bundle as PKCS#12 with SHA-1 and 3DES, the only encryption that Windows before Server 2019 can read.

    https://learn.microsoft.com/en-us/powershell/module/pki/export-pfxcertificate, CryptoAlgorithmOption

    Args:
        bundle: Key, leaf and intermediates.
        password: Password of the file.
        chain: Whether the intermediates go into the file.

    Raises:
        ApplyError: Windows could not serve the certificate with this key.
    """
    if not isinstance(bundle.key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ApplyError(
            f"the certificate {shown(bundle.subject)} has neither an RSA nor an EC key, and IIS serves no other"
        )
    if bundle.key.public_key() != bundle.leaf.public_key():
        raise ApplyError(f"the private key does not belong to the certificate {shown(bundle.subject)}")
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_KDF_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - what old Windows reads; the file's strength is its random password
        .build(password.encode())
    )
    return pkcs12.serialize_key_and_certificates(
        None, bundle.key, bundle.leaf, intermediates(bundle.chain) if chain else None, encryption
    )


def new_certificate(install: Install, tag: Tag) -> NewCertificate:
    """The leaf and its key for import, under a random password that exists for this one import only."""
    password = secrets.token_urlsafe(32)
    return NewCertificate(
        thumbprint=install.bundle.thumbprint_sha1,
        friendly_name=str(tag),
        pfx=pfx_for_windows(install.bundle, password, chain=False),
        password=password,
    )


def intermediates(chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The certificates of a chain that are not their own issuer: whom to trust is not ours to say.

    Intermediates and roots in each other's stores make IIS refuse client certificates (Microsoft KB 2802568). Schannel
    takes the chain it sends from these stores: https://learn.microsoft.com/windows/win32/secauthn/certificate-stores
    """
    return [certificate for certificate in chain if certificate.issuer != certificate.subject]


def der_of(certificates: Sequence[x509.Certificate]) -> list[bytes]:
    """Each certificate once, as DER."""
    return list(dict.fromkeys(certificate.public_bytes(serialization.Encoding.DER) for certificate in certificates))
