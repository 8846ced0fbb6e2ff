"""Putting the certificates of a file in order, from the leaf towards the root."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509 import Certificate

from shared.bundle import MAX_INTERMEDIATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

_MAX_SIGNATURE_CHECKS = 500
_MAX_PATHS = 100


def issued(issuer: Certificate, certificate: Certificate) -> bool:
    """Whether the issuer's name and key are those that signed the certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def is_self_signed(certificate: Certificate) -> bool:
    """Whether the certificate ends a chain."""
    return certificate.subject == certificate.issuer and issued(certificate, certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way up from a leaf.

    Attributes:
        intermediates: Leaf-to-root order, without the root.
        root: The self-signed certificate it ends in, where that was at hand.
    """

    intermediates: tuple[Certificate, ...]
    root: Certificate | None


def best_path(leaf: Certificate, others: Sequence[Certificate], roots: Sequence[Certificate] = ()) -> Path:
    """The chain to serve a leaf with, from certificates in any order, roots and strangers among them.

    Where cross-signed certificates leave a choice, a path to a trusted root is preferred, then one to any root at hand,
    then one that outlives the leaf, then the longest: a cross-signed certificate is in a file for clients that lack
    the newer root (RFC 4158 section 3.5).

    Args:
        leaf: Where to begin.
        others: The candidates.
        roots: Trusted roots; they need not be among the candidates.
    """
    trusted = set(roots)
    search = _Search([other for other in dict.fromkeys((*others, *roots)) if other != leaf])

    def rank(path: Path) -> tuple[bool, bool, datetime, int]:
        until = min(certificate.not_valid_after_utc for certificate in (leaf, *path.intermediates))
        return (path.root in trusted, path.root is not None, until, len(path.intermediates))

    if is_self_signed(leaf):
        return Path(intermediates=(), root=leaf)
    return max(islice(search.paths((leaf,)), _MAX_PATHS), key=rank)


@dataclass(slots=True)
class _Search:
    """A depth-first search whose cost is bounded: all names and keys in a file may be its sender's invention."""

    candidates: list[Certificate]
    checks_left: int = _MAX_SIGNATURE_CHECKS
    known: dict[Certificate, list[Certificate]] = field(default_factory=dict)

    def paths(self, so_far: tuple[Certificate, ...]) -> Iterator[Path]:
        """Every path that continues this one as far as it goes."""
        issuers = [issuer for issuer in self.issuers(so_far[-1]) if issuer not in so_far]
        if not issuers or len(so_far) > MAX_INTERMEDIATES:
            yield Path(intermediates=so_far[1:], root=None)
            return
        for issuer in issuers:
            above = self.issuers(issuer)
            # A root's own signature may be too old for the library to check (MD5), and is not needed.
            if issuer.subject == issuer.issuer and (issuer in above or not above):
                yield Path(intermediates=so_far[1:], root=issuer)
            else:
                yield from self.paths((*so_far, issuer))

    def issuers(self, certificate: Certificate) -> list[Certificate]:
        """The candidates that issued a certificate, itself included where it is self-signed."""
        if certificate not in self.known:
            named = [candidate for candidate in self.candidates if candidate.subject == certificate.issuer]
            named = named[: self.checks_left]
            self.checks_left -= len(named)
            self.known[certificate] = [candidate for candidate in named if issued(candidate, certificate)]
        return self.known[certificate]
