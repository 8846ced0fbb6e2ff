"""Choosing the path that a leaf is served with, where time, trust and names are known; and why there is no good one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from shared.bundle.link import Link
from shared.phrasing import shown
from shared.validation.assembling import MAX_CERTIFICATE_BYTES
from shared.validation.browsers import NOT_VALID, Browsers, unlike_the_web
from shared.validation.chain import Path, Search, issued
from shared.validation.faults import TOO_LONG, TOO_MANY, Fault, malformed
from shared.validation.leaf import WEAK_HASHES
from shared.validation.malformed import faults as flaws_of
from shared.validation.openssl import Verifier
from shared.validation.public_keys import MIN_RSA_BITS
from shared.validation.refusals import fault
from shared.verdict import Caution, VerdictCode, Violation, WarningCode

if TYPE_CHECKING:
    from datetime import datetime


_MAX_PATHS = 100
_MAX_VERIFIED = 500
"""Signatures that verifying parts of paths may cost; each part costs one for each certificate above its leaf."""


@dataclass(slots=True)
class Choice:
    """The paths of one leaf, each verified no further than it is sound.

    Attributes:
        search: Finds them.
        verifier: OpenSSL's word on a part of one.
        browsers: Those of browsers; None where they are not asked.
        anything: Whether any path will do that the file has, as no root is trusted more than another.
    """

    search: Search
    verifier: Verifier
    browsers: Browsers | None
    anything: bool
    _left: int = _MAX_VERIFIED
    _faults: dict[tuple[Link, ...], Fault | None] = field(default_factory=dict)

    def good(self) -> Path | None:
        """The best path of those that verify; None where none does.

        One that outlives the leaf is preferred, then the longest: a cross-signed certificate is in a file for clients
        that lack the newer root (RFC 4158 section 3.5).
        """
        found = (path for path in self.search.paths(self._sound) if path.trusted or self.anything)
        return max(islice(found, _MAX_PATHS), key=self._rank, default=None)

    def likeliest(self) -> Path:
        """The path that was most likely meant, by who signed whom alone."""
        return max(islice(self.search.paths(), _MAX_PATHS), key=self._rank)

    def furthest(self) -> Fault:
        """What stops the path to a trusted root that comes furthest."""
        found = (self._first_fault(path) for path in islice(self.search.paths(), _MAX_PATHS) if path.trusted)
        return max(found, key=lambda known: known[0])[1]

    def _first_fault(self, path: Path) -> tuple[int, Fault]:
        whole = (self.search.leaf, *path.above)
        for length in range(2, len(whole) + 1):
            if (found := self._fault(whole[:length])) is not None:
                return length, found
        return 0, TOO_MANY

    def _sound(self, part: tuple[Link, ...]) -> bool:
        return self._fault(part) is None

    def _fault(self, part: tuple[Link, ...]) -> Fault | None:
        if part not in self._faults:
            if self._left < len(part) - 1:
                return TOO_MANY
            self._left -= len(part) - 1
            self._faults[part] = self._verified(part)
        return self._faults[part]

    def _verified(self, part: tuple[Link, ...]) -> Fault | None:
        refusal = self.verifier.refusal(part)
        if refusal is not None:
            return fault(part, refusal)
        if self.browsers is None:
            return None
        for depth, link in enumerate(part[1:], start=1):  # the leaf's are told elsewhere
            if flaws := flaws_of(link.der):
                return malformed(part, depth, flaws)
        if any(link.view.public_bytes(Encoding.DER) != link.der for link in part):
            return None  # browsers read what the library does not
        said = self.browsers.objection(part)
        if said is None or (self.verifier.moment is None and NOT_VALID in said):
            return None
        return unlike_the_web(part, said)

    def _rank(self, path: Path) -> tuple[bool, bool, bool, bool, datetime, int]:
        served = (self.search.leaf, *path.intermediates)
        return (
            path.trusted,
            sum(len(link.der) for link in served) <= MAX_CERTIFICATE_BYTES,
            not any(map(_weak, path.intermediates)),
            path.root is not None,
            min(link.view.not_valid_after_utc for link in served),
            len(path.intermediates),
        )


def _weak(link: Link) -> bool:
    """Whether clients refuse its signature or its key."""
    try:
        algorithm, key = link.view.signature_hash_algorithm, link.view.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return True
    return (algorithm is not None and algorithm.name in WEAK_HASHES) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS
    )


def weak_authorities(path: Path) -> tuple[Caution, ...]:
    """Tell of authorities whose keys OpenSSL's word on the path does not mind, and its own TLS clients do.

    They refuse RSA keys of less than 2048 bits since 3.2, whose default security level is 2 (OpenSSL's CHANGES.md).
    """
    found = []
    for link in path.above:
        try:
            key = link.view.public_key()
        except (UnsupportedAlgorithm, ValueError):
            continue
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
            detail = (
                f"The authority '{shown(link.subject)}' has an RSA key of {key.key_size} bits. OpenSSL verifies the "
                "chain, but TLS clients that ask for 2048 bits or more, as OpenSSL's do since 3.2, refuse it: have the "
                "certificate issued by an authority with a longer key."
            )
            found.append(Caution(code=WarningCode.WEAK_AUTHORITY, detail=detail))
    return tuple(found)


def unanchored(path: Path, search: Search, trust: str) -> Violation:
    """Why no trusted root is reached: it is another, or a certificate between is missing.

    Args:
        path: The path that was most likely meant.
        search: What else there was.
        trust: The setting, for people.
    """
    if not path.whole:
        return Violation(
            code=VerdictCode.UNTRUSTED_CHAIN, detail=f"The chain of '{shown(search.leaf.subject)}' {TOO_LONG}"
        )
    top = (search.leaf, *path.above)[-1]
    issuer = shown(top.view.issuer.rfc4514_string())
    namesakes = search.namesakes(top)
    if top == search.leaf and issued(top, top):
        detail = (
            f"'{issuer}' is signed by itself and no root that CERTCAST_TRUST={trust} trusts: have it issued by an "
            "authority that is, or add it to the trusted roots."
        )
        return Violation(code=VerdictCode.UNTRUSTED_CHAIN, detail=detail)
    if path.root is not None or not search.trusted.isdisjoint(namesakes):
        detail = (
            f"The chain ends in '{issuer}', whose key is not that of a root that CERTCAST_TRUST={trust} trusts: have "
            "the certificate issued by an authority that is, or add this one to the trusted roots."
        )
        return Violation(code=VerdictCode.UNTRUSTED_CHAIN, detail=detail)
    cure = "add it with `openssl pkcs12 -export -certfile intermediates.pem`"
    where = f"is neither in the file nor a root that CERTCAST_TRUST={trust} trusts"
    if search.issuers(top):
        where = "is in the file only with a certificate that the other issued in turn"
        cure = "add one that an authority above both issued, with `openssl pkcs12 -export -certfile intermediates.pem`"
    elif namesakes:
        where = "is not in the file: the certificate of that name there has another key than the one that signed it"
    detail = f"'{issuer}', which issued '{shown(top.subject)}', {where}: {cure}."
    return Violation(code=VerdictCode.INCOMPLETE_CHAIN, detail=detail)
