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
from shared.pkcs12.keys import load_private_key
from shared.validation.chain import best_path
from shared.validation.pairing import LoadedKeys, damaged
from shared.verdict import Caution, VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.bundle import PrivateKey
    from shared.pkcs12.opening import Contents

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
        bundle: What is served.
        root: The root the chain ends in, where the file had it or it is a trusted one.
        others: Every certificate of the file but the leaf whose names can be read, in its order.
        warnings: What its uploader should know.
    """

    bundle: CertificateBundle
    root: x509.Certificate | None
    others: tuple[Link, ...] = ()
    warnings: tuple[Caution, ...] = ()


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


def assemble(contents: Contents, roots: Sequence[x509.Certificate], max_checked_rsa_bits: int) -> OpenedPfx | Unopened:
    """Load the parts of an opened file and put them together.

    Args:
        contents: Keys and certificates, untrusted.
        roots: Trusted roots, which decide between cross-signed alternatives.
        max_checked_rsa_bits: A private RSA key with more is not checked.

    Raises:
        SlowKeyError: The key is one of these.
    """
    if against := _missing(contents) or _oversized(contents):
        return Unopened(violations=tuple(against))
    certificates = [sound for der in dict.fromkeys(contents.certificates) if (sound := _sound(der)) is not None]
    found = _pair(contents, certificates, max_checked_rsa_bits)
    if isinstance(found, list):
        return Unopened(violations=tuple(found))
    leaf, key, warnings = found
    others = tuple(link for link in _links(contents.certificates) if link.view != leaf)
    path = best_path(leaf, [link.view for link in others], roots)
    of = {link.view: link for link in others}
    bundle = CertificateBundle(
        leaf=leaf, chain=tuple(of.get(view) or Link.of(view) for view in path.intermediates), key=key
    )
    if against := _too_long(bundle):
        return Unopened(violations=tuple(against))
    return OpenedPfx(bundle=bundle, root=path.root, others=others, warnings=tuple(warnings))


def _links(certificates: Sequence[bytes]) -> Iterator[Link]:
    for der in dict.fromkeys(certificates):
        with suppress(ValueError):
            yield Link.read(der)


def _pair(
    contents: Contents, certificates: Sequence[x509.Certificate], max_checked_rsa_bits: int
) -> tuple[x509.Certificate, PrivateKey, Sequence[Caution]] | list[Violation]:
    """The one certificate whose key is there, that key, and what is to be told of others; or why there is none."""
    if not certificates:
        return [damaged("none of the certificates in it can be read")]
    keys = LoadedKeys.of(contents)
    owned = [(leaf, der) for leaf in certificates for der, key in keys.usable.items() if _belongs(key, leaf)]
    leaves = list(dict.fromkeys(leaf for leaf, _ in owned))
    if len(leaves) != 1:
        return [_ambiguous(leaves)] if leaves else keys.objections(_mismatch(certificates))
    leaf, der = owned[0]
    unchecked = keys.usable[der]
    if isinstance(unchecked, rsa.RSAPrivateKey) and unchecked.key_size > max_checked_rsa_bits:
        raise SlowKeyError(unchecked.key_size)
    try:
        return leaf, load_private_key(der), keys.ignored(der)
    except ValueError as problem:
        return [damaged(f"a private key in it {problem}")]


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


def _too_long(bundle: CertificateBundle) -> list[Violation]:
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
