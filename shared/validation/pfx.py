"""Opening an uploaded PFX: its leaf, key and ordered chain, or every reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from shared.bundle import CertificateBundle
from shared.phrasing import day, listed, shown
from shared.pkcs12.asn1 import Asn1Error
from shared.pkcs12.file import Contents, Pkcs12, TooExpensiveError
from shared.pkcs12.keys import MAX_RSA_BITS, UnfitKeyError, load_private_key
from shared.pkcs12.pbe import WrongPasswordError
from shared.validation.chain import best_path
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.bundle import PrivateKey

MAX_PFX_BYTES = 1_048_576
MAX_CERTIFICATE_BYTES = 65_536
"""Of one certificate, and of leaf and intermediates together.

A leaf for 250 hosts has 10,000 bytes. Merely writing out a name of a megabyte takes seconds. OpenSSL breaks off
a handshake in which more than 100 KiB of certificates are sent (SSL_CTX_set_max_cert_list(3)), so that no instance
could prove them, and each batch with one among it would wait for its probe in vain.
"""
MAX_KDF_ITERATIONS = 2_000_000
"""In steps of PKCS#12's own derivation (`shared.pkcs12.kdf`), about a second of one processor.

OpenSSL's and Windows' files take 600,000 iterations at the most today: 1,200,000 steps for MAC, certificates and key.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPfx:
    """A bundle and what only its file told.

    Attributes:
        bundle: What is served.
        root: The root the chain ends in, where the file had it or it is a trusted one.
    """

    bundle: CertificateBundle
    root: x509.Certificate | None


def open_pfx(
    content: bytes,
    passwords: Sequence[bytes | None],
    *,
    max_bytes: int = MAX_PFX_BYTES,
    max_kdf_iterations: int = MAX_KDF_ITERATIONS,
    max_checked_rsa_bits: int = MAX_RSA_BITS,
    roots: Sequence[x509.Certificate] = (),
) -> OpenedPfx | tuple[Violation, ...]:
    """Open an uploaded PFX, find its leaf and put its chain in order. Whatever the bytes are, nothing is raised.

    Args:
        content: The file, untrusted.
        passwords: Those to try, UTF-8; None is no password.
        max_bytes: Larger files are not looked at.
        max_kdf_iterations: Key derivation allowed in total, over all layers and passwords, in steps.
        max_checked_rsa_bits: A private RSA key with more is not checked, and the file too expensive.
        roots: Trusted roots, which decide between cross-signed alternatives.

    Returns:
        The bundle and its root, or every reason why there is none.
    """
    if len(content) > max_bytes:
        detail = f"The file has {len(content)} bytes and {max_bytes} are the most that are read: upload the PFX alone."
        return (Violation(code=VerdictCode.TOO_LARGE, detail=detail),)
    try:
        contents = Pkcs12.parse(content).open(passwords, max_cost=max_kdf_iterations)
        return _assemble(contents, roots, max_checked_rsa_bits)
    except _SlowKeyError as problem:
        detail = (
            f"Checking an RSA key of {problem} bits takes too long: use one of 2048 to {max_checked_rsa_bits} bits."
        )
        return (Violation(code=VerdictCode.KDF_TOO_EXPENSIVE, detail=detail),)
    except TooExpensiveError as problem:
        return (_too_expensive(problem.cost, max_kdf_iterations),)
    except WrongPasswordError:
        return (_unopened(passwords),)
    except Asn1Error as problem:
        return (_unreadable(content, problem),)


class _SlowKeyError(Exception):
    """A private RSA key has more bits than are checked; the text is their number."""


def _assemble(
    contents: Contents, roots: Sequence[x509.Certificate], max_checked_rsa_bits: int
) -> OpenedPfx | tuple[Violation, ...]:
    """Load the parts of an opened file and put them together."""
    if missing := _missing(contents) or _oversized(contents):
        return missing
    certificates = [sound for der in dict.fromkeys(contents.certificates) if (sound := _sound(der)) is not None]
    if not certificates:
        return (_damaged("none of the certificates in it can be read"),)
    try:
        keys = {der: load_private_key(der, check=False) for der in contents.keys}
        owners = {leaf: der for leaf in certificates for der, key in keys.items() if _belongs(key, leaf)}
        if len(owners) != 1:
            return (_ambiguous(list(owners)) if owners else _mismatch(certificates),)
        [(leaf, der)] = owners.items()
        unchecked = keys[der]
        if isinstance(unchecked, rsa.RSAPrivateKey) and unchecked.key_size > max_checked_rsa_bits:
            raise _SlowKeyError(unchecked.key_size)
        key = load_private_key(der)
    except UnfitKeyError as problem:
        detail = f"The private key {problem}: use RSA with 2048 bits or more, or EC on P-256, P-384 or P-521."
        return (Violation(code=VerdictCode.WEAK_KEY, detail=detail),)
    except ValueError as problem:
        return (_damaged(str(problem)),)
    path = best_path(leaf, certificates, roots)
    bundle = CertificateBundle(leaf=leaf, chain=path.intermediates, key=key)
    return _too_long(bundle) or OpenedPfx(bundle=bundle, root=path.root)


def _missing(contents: Contents) -> tuple[Violation, ...]:
    missing = []
    if not contents.keys:
        detail = "The file has no private key: export the certificate again, together with its private key."
        missing.append(Violation(code=VerdictCode.NO_PRIVATE_KEY, detail=detail))
    if not contents.certificates:
        detail = "The file has no certificate: export the private key again, together with its certificate."
        missing.append(Violation(code=VerdictCode.NO_CERTIFICATE, detail=detail))
    return tuple(missing)


def _oversized(contents: Contents) -> tuple[Violation, ...]:
    largest = max(map(len, contents.certificates))
    if largest <= MAX_CERTIFICATE_BYTES:
        return ()
    detail = (
        f"A certificate in the file has {largest} bytes, and {MAX_CERTIFICATE_BYTES} are the most that are read: have "
        "it issued again with shorter names, or leave it out if it belongs to another."
    )
    return (Violation(code=VerdictCode.TOO_LARGE, detail=detail),)


def _too_long(bundle: CertificateBundle) -> tuple[Violation, ...]:
    length = sum(len(each.public_bytes(Encoding.DER)) for each in (bundle.leaf, *bundle.chain))
    if length <= MAX_CERTIFICATE_BYTES:
        return ()
    detail = (
        f"The certificate and its chain have {length} bytes together, and {MAX_CERTIFICATE_BYTES} are the most that "
        "are served, as TLS clients refuse more: have it issued with shorter names, or by another authority."
    )
    return (Violation(code=VerdictCode.TOO_LARGE, detail=detail),)


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


def _too_expensive(cost: int, limit: int) -> Violation:
    detail = (
        f"Opening the file takes key derivation (or RC2 decryption) worth {cost} iterations of SHA-1 or more, and "
        f"{limit} are the most that are done: export it again with fewer iterations, for example with "
        "`openssl pkcs12 -export -iter 10000`."
    )
    return Violation(code=VerdictCode.KDF_TOO_EXPENSIVE, detail=detail)


def _unopened(passwords: Sequence[bytes | None]) -> Violation:
    tried = "the password given" if any(passwords) else "no password"
    detail = (
        f"The file does not open with {tried}: the password is wrong or the file is damaged, which PKCS#12 cannot tell "
        "apart. Check CertificatePassword with `openssl pkcs12 -info -noout -in FILE`, then upload again."
    )
    return Violation(code=VerdictCode.UNREADABLE_BUNDLE, detail=detail)


def _unreadable(content: bytes, problem: Asn1Error) -> Violation:
    if content.lstrip().startswith(b"-----BEGIN "):
        return _damaged(
            "it is PEM text", "Make a PFX of it: `openssl pkcs12 -export -in cert.pem -inkey key.pem -out cert.pfx`."
        )
    if content.startswith(b"MII"):
        return _damaged("it looks like base64 text", "Decode it: `openssl base64 -d -A -in FILE -out cert.pfx`.")
    return _damaged(str(problem))


def _damaged(reason: str, cure: str = "Export it again, and upload the whole file as it is.") -> Violation:
    detail = f"The file is not a PKCS#12 (PFX) file that can be read: {reason}. {cure}"
    return Violation(code=VerdictCode.UNREADABLE_BUNDLE, detail=detail)


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
