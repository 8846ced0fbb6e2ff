"""Loading the keys and certificates of an opened file, and putting leaf, key and chain together."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from shared.bundle import CertificateBundle
from shared.bundle.link import Link
from shared.phrasing import day, listed, shown
from shared.pkcs12.keys import UnfitKeyError, load_private_key
from shared.verdict import Caution, VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.bundle import PrivateKey
    from shared.pkcs12.file import Contents

MAX_CERTIFICATE_BYTES = 65_536
"""Of one certificate, and of leaf and intermediates together.

A leaf for 250 hosts has 10,000 bytes. Merely writing out a name of a megabyte takes seconds. OpenSSL breaks off
a handshake in which more than 100 KiB of certificates are sent (SSL_CTX_set_max_cert_list(3)), so that no instance
could prove them, and each batch with one among it would wait for its probe in vain.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPfx:
    """A bundle and what only its file told.

    Attributes:
        bundle: What is served, but for its chain: that is chosen from the others.
        others: Every certificate of the file but the leaf whose names can be read, in its order.
        warnings: What its uploader should know.
        violations: What is malformed in the leaf. In its bundle a stand-in takes its place then, so that it can be told
            what else is wrong with it; it is not for serving.
    """

    bundle: CertificateBundle
    others: tuple[Link, ...] = ()
    warnings: tuple[Caution, ...] = ()
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unopened:
    """Why there is no bundle.

    Attributes:
        violations: Every reason.
        warnings: What its uploader should know besides.
    """

    violations: tuple[Violation, ...]
    warnings: tuple[Caution, ...] = ()


class SlowKeyError(Exception):
    """A private RSA key has more bits than are checked; the text is their number."""


def assemble(contents: Contents, max_checked_rsa_bits: int) -> OpenedPfx | Unopened:
    """Load the parts of an opened file and put them together.

    Args:
        contents: Keys and certificates, untrusted.
        max_checked_rsa_bits: A private RSA key with more is not checked.

    Raises:
        SlowKeyError: The key is one of these.
    """
    if against := _missing(contents) or _oversized(contents):
        return Unopened(violations=tuple(against))
    certificates = [sound for der in dict.fromkeys(contents.certificates) if (sound := _sound(der)) is not None]
    found = _pair(contents, certificates, max_checked_rsa_bits)
    if isinstance(found, Violation):
        return Unopened(violations=(found,))
    leaf, key = found
    others = tuple(link for link in _links(contents.certificates) if link.view != leaf)
    return OpenedPfx(bundle=CertificateBundle(leaf=leaf, chain=(), key=key), others=others)


def _links(certificates: Sequence[bytes]) -> Iterator[Link]:
    for der in dict.fromkeys(certificates):
        with suppress(ValueError):
            yield Link.read(der)


def _pair(
    contents: Contents, certificates: Sequence[x509.Certificate], max_checked_rsa_bits: int
) -> tuple[x509.Certificate, PrivateKey] | Violation:
    """The one certificate whose key is there, and that key; or why there is none."""
    if not certificates:
        return damaged("none of the certificates in it can be read")
    try:
        keys = {der: load_private_key(der, check=False) for der in contents.keys}
        owners = {leaf: der for leaf in certificates for der, key in keys.items() if _belongs(key, leaf)}
        if len(owners) != 1:
            return _ambiguous(list(owners)) if owners else _mismatch(certificates)
        [(leaf, der)] = owners.items()
        unchecked = keys[der]
        if isinstance(unchecked, rsa.RSAPrivateKey) and unchecked.key_size > max_checked_rsa_bits:
            raise SlowKeyError(unchecked.key_size)
        return leaf, load_private_key(der)
    except UnfitKeyError as problem:
        detail = f"The private key {problem}: use RSA with 2048 bits or more, or EC on P-256, P-384 or P-521."
        return Violation(code=VerdictCode.WEAK_KEY, detail=detail)
    except ValueError as problem:
        return damaged(str(problem))


def damaged(reason: str, cure: str = "Export it again, and upload the whole file as it is.") -> Violation:
    """Say of a file that it is no PFX, or a broken one.

    Args:
        reason: A clause.
        cure: Sentences that say what to do.
    """
    detail = f"The file is not a PKCS#12 (PFX) file that can be read: {reason}. {cure}"
    return Violation(code=VerdictCode.UNREADABLE_BUNDLE, detail=detail)


def _missing(contents: Contents) -> list[Violation]:
    missing = []
    if not contents.keys:
        detail = "The file has no private key: export the certificate again, together with its private key."
        missing.append(Violation(code=VerdictCode.NO_PRIVATE_KEY, detail=detail))
    if not contents.certificates:
        detail = "The file has no certificate: export the private key again, together with its certificate."
        missing.append(Violation(code=VerdictCode.NO_CERTIFICATE, detail=detail))
    return missing


def _oversized(contents: Contents) -> list[Violation]:
    largest = max(map(len, contents.certificates))
    if largest <= MAX_CERTIFICATE_BYTES:
        return []
    detail = (
        f"A certificate in the file has {largest} bytes, and {MAX_CERTIFICATE_BYTES} are the most that are read: have "
        "it issued again with shorter names, or leave it out if it belongs to another."
    )
    return [Violation(code=VerdictCode.TOO_LARGE, detail=detail)]


def too_long(bundle: CertificateBundle) -> list[Violation]:
    """Whether clients would refuse a bundle for its length."""
    length = sum(map(len, (bundle.leaf.public_bytes(Encoding.DER), *(link.der for link in bundle.chain))))
    if length <= MAX_CERTIFICATE_BYTES:
        return []
    detail = (
        f"The certificate and its chain have {length} bytes together, and {MAX_CERTIFICATE_BYTES} are the most that "
        "are served, as TLS clients refuse more: have it issued with shorter names, or by another authority."
    )
    return [Violation(code=VerdictCode.TOO_LARGE, detail=detail)]


_BROKEN_EXTENSIONS = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


def _sound(der: bytes) -> x509.Certificate | None:
    """The certificate, if all that is asked of it later can be read; None for one that is broken inside."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        for name in (certificate.subject, certificate.issuer):
            name.rfc4514_string()
        list(certificate.extensions)
    except (ValueError, TypeError, UnsupportedAlgorithm, *_BROKEN_EXTENSIONS):
        return None
    return certificate


def _belongs(key: PrivateKey, certificate: x509.Certificate) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False


def _mismatch(certificates: Sequence[x509.Certificate]) -> Violation:
    subjects = listed([f"'{shown(certificate.subject.rfc4514_string())}'" for certificate in certificates])
    detail = (
        f"The private key belongs to none of the certificates in the file ({subjects}): export the certificate again "
        "from where its key was made."
    )
    return Violation(code=VerdictCode.KEY_MISMATCH, detail=detail)


def _ambiguous(leaves: Sequence[x509.Certificate]) -> Violation:
    found = listed(
        [f"'{shown(leaf.subject.rfc4514_string())}' until {day(leaf.not_valid_after_utc)}" for leaf in leaves]
    )
    detail = f"The file has {len(leaves)} certificates with their keys ({found}): export the one to be served alone."
    return Violation(code=VerdictCode.AMBIGUOUS_LEAF, detail=detail)
