"""The ways up from a leaf through the certificates of a file: who issued whom, at a bounded cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from shared.bundle import MAX_INTERMEDIATES
from shared.bundle.link import Link
from shared.bundle.outline import Outline
from shared.validation.openssl import signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cryptography.x509 import Certificate, Name


_MAX_SIGNATURE_CHECKS = 500

CanonicalName = tuple[frozenset[tuple[str, str | bytes]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way up from a leaf.

    Attributes:
        intermediates: Leaf-to-root order, without the root.
        root: The root it ends in, where that was at hand.
        trusted: Whether it ends in a certificate that is trusted.
        whole: Whether it was followed to its end, and not cut off for its length.
    """

    intermediates: tuple[Link, ...]
    root: Link | None
    trusted: bool = False
    whole: bool = True

    @property
    def above(self) -> tuple[Link, ...]:
        """Every certificate above the leaf, the root included."""
        return self.intermediates if self.root is None else (*self.intermediates, self.root)


def canonical(name: Name) -> CanonicalName:
    """What names are compared by (RFC 5280 section 7.1): letter case, spaces and the kind of string do not count."""
    return tuple(
        frozenset(
            (
                attribute.oid.dotted_string,
                " ".join(attribute.value.lower().split()) if isinstance(attribute.value, str) else attribute.value,
            )
            for attribute in relative
        )
        for relative in name.rdns
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    subject: CanonicalName
    issuer: CanonicalName
    key: bytes

    @classmethod
    def of(cls, link: Link) -> _Identity:
        key = Outline.read(link.der).key
        return cls(subject=canonical(link.view.subject), issuer=canonical(link.view.issuer), key=key)

    @property
    def authority(self) -> tuple[CanonicalName, bytes]:
        return self.subject, self.key


@dataclass(slots=True)
class Search:
    """A depth-first search whose cost is bounded: all names and keys in a file may be its sender's invention.

    Attributes:
        leaf: Where to begin.
        trusted: Where a path ends; they need not be among the candidates.
        checks_left: Signatures that may still be verified.
    """

    leaf: Link
    trusted: frozenset[Link]
    checks_left: int = _MAX_SIGNATURE_CHECKS
    _named: dict[CanonicalName, list[Link]] = field(default_factory=lambda: defaultdict(list))
    _known: dict[Link, _Identity] = field(default_factory=dict)
    _issuers: dict[Link, list[Link]] = field(default_factory=dict)

    @classmethod
    def among(cls, leaf: Link, candidates: Sequence[Link], trusted: Sequence[Link]) -> Search:
        """Look for issuers among these.

        Args:
            leaf: Where to begin.
            candidates: Certificates in any order, roots and strangers among them.
            trusted: Where a path may end. They are tried before the others; of these, those first that are nearest to
                one by their names, so that a short path is found before the bounds are reached, then earlier ones.
        """
        search = cls(leaf, frozenset(trusted))
        links = [link for link in dict.fromkeys((*trusted, *candidates)) if link != leaf]
        for link in search._nearest_first(links):
            search._named[search._of(link).subject].append(link)
        return search

    def _nearest_first(self, links: Sequence[Link]) -> Iterable[Link]:
        below = defaultdict(list)
        for link in links:
            if link not in self.trusted:
                below[self._of(link).issuer].append(link)
        reached = [link for link in links if link in self.trusted]
        for link in reached:  # which grows meanwhile, level by level
            reached += below.pop(self._of(link).subject, ())
        return dict.fromkeys((*reached, *links))

    def paths(self, sound: Callable[[tuple[Link, ...]], bool] = lambda _: True) -> Iterator[Path]:
        """Every path that goes on as far as it can, and whose every part is sound.

        Args:
            sound: Whether a part, from the leaf on, may be gone on with.
        """
        yield from self._beyond((self.leaf,), sound)

    def namesakes(self, link: Link) -> list[Link]:
        """The candidates that have the name of its issuer, whether or not their key signed it."""
        return self._named.get(self._of(link).issuer, [])

    def _beyond(self, so_far: tuple[Link, ...], sound: Callable[[tuple[Link, ...]], bool]) -> Iterator[Path]:
        top = so_far[-1]
        if top in self.trusted or (len(so_far) > 1 and self._is_root(top)):
            below = so_far[1:-1] if self._is_root(top) else so_far[1:]
            root = top if self._is_root(top) else None
            yield Path(intermediates=below, root=root, trusted=top in self.trusted)
            return
        # The same authority twice is a circle of authorities that signed each other (RFC 4158 section 2.4.2).
        known = {self._of(link).authority for link in so_far[1:]}
        issuers = [issuer for issuer in self.issuers(top) if issuer != top and self._of(issuer).authority not in known]
        if not issuers:
            yield Path(intermediates=so_far[1:], root=None)
        elif len(so_far) > MAX_INTERMEDIATES and not any(self._ends(issuer) for issuer in issuers):
            yield Path(intermediates=so_far[1:], root=None, whole=False)
        else:
            for issuer in issuers:
                further = (*so_far, issuer)
                if (len(so_far) <= MAX_INTERMEDIATES or self._ends(issuer)) and sound(further):
                    yield from self._beyond(further, sound)

    def issuers(self, link: Link) -> list[Link]:
        """The candidates whose name and key are those that signed it, itself included where it is self-signed."""
        if link not in self._issuers:
            named = self.namesakes(link)[: self.checks_left]
            self.checks_left -= len(named)
            self._issuers[link] = [issuer for issuer in named if issued(issuer, link)]
        return self._issuers[link]

    def _ends(self, link: Link) -> bool:
        return link in self.trusted or self._is_root(link)

    def _is_root(self, link: Link) -> bool:
        if self._of(link).subject != self._of(link).issuer:
            return False
        # A root's own signature may be too old for anybody to check (MD2), and is not needed.
        above = self.issuers(link)
        return link in above or not above or (link == self.leaf and issued(link, link))

    def _of(self, link: Link) -> _Identity:
        if link not in self._known:
            self._known[link] = _Identity.of(link)
        return self._known[link]


def issued(issuer: Link, link: Link) -> bool:
    """Whether the issuer's key signed the other; their names are not looked at."""
    if issuer.certificate is None or link.certificate is None:
        return signed(issuer, link)
    try:
        _verify(issuer.certificate, link.certificate)
    except (UnsupportedAlgorithm, TypeError):  # the latter where the key is not of the signature's kind
        return signed(issuer, link)
    except (InvalidSignature, ValueError):
        return False
    return True


def _verify(issuer: Certificate, certificate: Certificate) -> None:
    key = issuer.public_key()
    signature, content = certificate.signature, certificate.tbs_certificate_bytes
    match key:
        case rsa.RSAPublicKey():
            key.verify(
                signature,
                content,
                certificate.signature_algorithm_parameters,  # type: ignore[arg-type]  # a TypeError where it does not fit
                certificate.signature_hash_algorithm,  # type: ignore[arg-type]
            )
        case ec.EllipticCurvePublicKey():
            key.verify(signature, content, certificate.signature_algorithm_parameters)  # type: ignore[arg-type]
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            key.verify(signature, content)
        case dsa.DSAPublicKey():
            key.verify(signature, content, certificate.signature_hash_algorithm)  # type: ignore[arg-type]
        case _:
            raise UnsupportedAlgorithm("no certificate is signed by such a key")
