"""One certificate of an opened file, before it is known what it is there for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from shared.bundle.outline import Outline, leading
from shared.bundle.view import parsed, view_of
from shared.validation.leaf import malformed, weak_key
from shared.validation.malformed import faults

if TYPE_CHECKING:
    from shared.bundle import PrivateKey
    from shared.verdict import Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A certificate as far as it can be read.

    Attributes:
        der: The certificate, without octets behind it.
        view: What can be read of it (`view_of`); None where not even its names can.
    """

    der: bytes
    view: x509.Certificate | None = field(compare=False)

    @classmethod
    def of(cls, content: bytes) -> Held:
        """Read an untrusted one, whatever it is."""
        try:
            der = leading(content)
            return cls(der=der, view=view_of(der))
        except ValueError:
            return cls(der=content, view=None)

    @property
    def subject(self) -> str | None:
        """As RFC 4514 text; None where it cannot be read."""
        return None if self.view is None else self.view.subject.rfc4514_string()

    @property
    def readable(self) -> x509.Certificate:
        """The view, where there is one."""
        if self.view is None:
            raise LookupError("a certificate that cannot be read")
        return self.view

    @property
    def served(self) -> x509.Certificate:
        """The certificate itself, where nothing in it is malformed."""
        return parsed(self.der) or self.readable

    @property
    def is_authority(self) -> bool:
        """Whether it says so."""
        if self.view is None:
            return False
        found = [one.value for one in self.view.extensions if isinstance(one.value, x509.BasicConstraints)]
        return any(constraints.ca for constraints in found)

    @property
    def has_readable_key(self) -> bool:
        """Whether it can be told which private key is its own."""
        try:
            return self.view is not None and self.view.public_key() is not None
        except (ValueError, UnsupportedAlgorithm):
            return False

    def has(self, key: PrivateKey) -> bool:
        """Whether this private key is its own."""
        return self.has_readable_key and self.readable.public_key() == key.public_key()

    @property
    def violations(self) -> list[Violation]:
        """What keeps it from being served whatever it is for: how it is encoded, and a key of an unreadable kind."""
        found = faults(self.der)
        against = [malformed(self.subject, found)] if found else []
        if self.view is not None and not self.has_readable_key:
            weak = weak_key(str(self.subject), Outline.read(self.der).key)
            return [*against, *weak] or [malformed(self.subject, ["subjectPublicKeyInfo: it cannot be read"])]
        return against
