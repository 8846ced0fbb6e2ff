"""Loading the keys and certificates of an opened file, and putting leaf, key and chain together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from shared.bundle import CertificateBundle
from shared.bundle.link import Link
from shared.phrasing import day, listed, shown
from shared.pkcs12.keys import load_private_key
from shared.validation.held import Held
from shared.validation.malformed import faults, is_served
from shared.validation.pairing import LoadedKeys, damaged
from shared.verdict import Caution, VerdictCode, Violation, WarningCode

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        bundle: What is served, but for its chain: that is chosen from the others.
        leaf: The leaf as it is in the file.
        others: Every certificate of the file but the leaf whose names can be read, in its order.
        warnings: What its uploader should know.
        violations: What is malformed in the leaf. In its bundle a stand-in takes its place then, so that it can be told
            what else is wrong with it; it is not for serving.
    """

    bundle: CertificateBundle
    leaf: Link
    others: tuple[Link, ...] = ()
    warnings: tuple[Caution, ...] = ()
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unopened:
    """Why there is no bundle.

    Attributes:
        violations: Every reason.
        warnings: What its uploader should know besides.
        locked: Whether all that it lacks to be opened is a password, as none was given.
    """

    violations: tuple[Violation, ...]
    warnings: tuple[Caution, ...] = ()
    locked: bool = False


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
    held = list(dict.fromkeys(Held.of(der) for der in contents.certificates))
    found = _pair(contents, held, max_checked_rsa_bits)
    if isinstance(found, list):
        return Unopened(violations=tuple(found))
    leaf, key, warnings = found
    held.remove(leaf)
    others = [Link(der=one.der, view=one.view) for one in held if one.view is not None and is_served(one.der)]
    left_out = {one.der for one in held} - {link.der for link in others}
    warnings = (*warnings, *(_left_out(one) for one in held if one.der in left_out))
    violations = tuple(leaf.violations)
    bundle = CertificateBundle(leaf=leaf.readable if violations else leaf.served, chain=(), key=key)
    itself = Link(der=leaf.der, view=leaf.readable)
    return OpenedPfx(bundle=bundle, leaf=itself, others=tuple(others), warnings=warnings, violations=violations)


def _pair(
    contents: Contents, held: Sequence[Held], max_checked_rsa_bits: int
) -> tuple[Held, PrivateKey, tuple[Caution, ...]] | list[Violation]:
    """The one certificate whose key is there, that key, and what is to be told of others; or why there is none."""
    keys = LoadedKeys.of(contents)
    owned = [(leaf, der) for leaf in held for der, key in keys.usable.items() if leaf.has(key)]
    leaves = list(dict.fromkeys(leaf for leaf, _ in owned))
    if len(leaves) > 1:
        return [_ambiguous(leaves)]
    if not leaves:
        return _unpaired(held, keys)
    leaf, der = owned[0]
    unchecked = keys.usable[der]
    if isinstance(unchecked, rsa.RSAPrivateKey) and unchecked.key_size > max_checked_rsa_bits:
        raise SlowKeyError(unchecked.key_size)
    try:
        return leaf, load_private_key(der), tuple(keys.ignored(der))
    except ValueError as problem:
        return [damaged(f"a private key in it {problem}")]


def _unpaired(held: Sequence[Held], keys: LoadedKeys) -> tuple[Held, PrivateKey, tuple[Caution, ...]] | list[Violation]:
    """Why no certificate has its key here: that of a leaf may be one that cannot be read, and be there all the same."""
    unread = [one for one in held if not one.has_readable_key and not one.is_authority]
    if not unread:
        return keys.objections(_mismatch(held))
    if len(unread) == 1 and unread[0].view is not None and keys.usable:
        return unread[0], next(iter(keys.usable.values())), ()
    others = [against for against in keys.objections(_mismatch(held)) if against.code is not VerdictCode.KEY_MISMATCH]
    return [*(against for one in unread for against in one.violations), *others]


def _left_out(one: Held) -> Caution:
    named = f"The certificate '{shown(one.subject)}'" if one.subject is not None else "A certificate in the file"
    detail = (
        f"{named} is left out of the chain, as TLS servers cannot read it: {listed(faults(one.der), '; ')}. If it is "
        "an intermediate, ask its authority for another one."
    )
    return Caution(code=WarningCode.MALFORMED_INTERMEDIATE, detail=detail)


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


def _mismatch(held: Sequence[Held]) -> Violation:
    subjects = listed([f"'{shown(one.subject)}'" for one in held if one.subject is not None])
    detail = (
        f"The private key belongs to none of the certificates in the file ({subjects}): export the certificate again "
        "from where its key was made."
    )
    return Violation(code=VerdictCode.KEY_MISMATCH, detail=detail)


def _ambiguous(leaves: Sequence[Held]) -> Violation:
    found = listed([f"'{shown(str(leaf.subject))}' until {day(leaf.readable.not_valid_after_utc)}" for leaf in leaves])
    detail = f"The file has {len(leaves)} certificates with their keys ({found}): export the one to be served alone."
    return Violation(code=VerdictCode.AMBIGUOUS_LEAF, detail=detail)
