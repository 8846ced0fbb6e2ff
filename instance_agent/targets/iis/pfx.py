"""Certificates made ready for the machine's stores: the one-shot PFX, tags, intermediates."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from instance_agent.targets.base import ApplyError
from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.stores import NewCertificate
from shared.phrasing import logger, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from instance_agent.targets.base import Install
    from instance_agent.targets.iis.stores import CertificateStores
    from instance_agent.targets.iis.tag import Tag
    from shared.bundle import CertificateBundle
    from shared.bundle.link import Link

log = logger(__name__)

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
    above = _intermediates([bundle.chain]) if chain else []
    for link in above:
        if link.certificate is None:
            log.warning(
                "the intermediate %s of %s breaks the rules of its encoding and is left out of the PFX: Windows sends "
                "it if it is in the machine's store of intermediates",
                link.subject,
                bundle.subject,
            )
    parsed = [link.certificate for link in above if link.certificate is not None]
    return pkcs12.serialize_key_and_certificates(None, bundle.key, bundle.leaf, parsed, encryption)


def new_certificate(install: Install, tag: Tag) -> NewCertificate:
    """The leaf and its key for import, under a random password that exists for this one import only."""
    password = secrets.token_urlsafe(32)
    return NewCertificate(
        thumbprint=install.bundle.thumbprint_sha1,
        friendly_name=str(tag),
        pfx=pfx_for_windows(install.bundle, password, chain=False),
        password=password,
    )


def add_intermediates(stores: CertificateStores, chains: Iterable[Sequence[Link]]) -> None:
    """Put the intermediates of chains into their store; one that breaks the rules of its encoding may be refused.

    Raises:
        GatewayError: A sound one was refused.
    """
    links = _intermediates(chains)
    stores.add_intermediates([link.der for link in links if link.certificate is not None])
    for link in links:
        if link.certificate is None:
            try:
                stores.add_intermediates([link.der])
            except GatewayError as error:
                log.warning(
                    "the intermediate %s breaks the rules of its encoding and Windows does not take it (%s): clients "
                    "get the chain without it",
                    link.subject,
                    error.described,
                )


def _intermediates(chains: Iterable[Sequence[Link]]) -> list[Link]:
    """The certificates of chains, each once, that are not their own issuer: whom to trust is not ours to say.

    Intermediates and roots in each other's stores make IIS refuse client certificates (Microsoft KB 2802568). Schannel
    takes the chain it sends from these stores: https://learn.microsoft.com/windows/win32/secauthn/certificate-stores
    """
    return list(dict.fromkeys(link for chain in chains for link in chain if not link.is_self_issued))
