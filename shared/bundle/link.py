"""One certificate of a chain above the leaf."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from shared.bundle.view import parsed, view_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A certificate above the leaf, which is served as it is, whether or not the library can parse it.

    Attributes:
        der: What is served.
        view: What the library can read of it, as `view_of` says.
    """

    der: bytes = field(repr=False)
    view: x509.Certificate = field(compare=False)

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Link:
        """One that the library has parsed."""
        return cls.read(certificate.public_bytes(serialization.Encoding.DER))

    @classmethod
    def read(cls, der: bytes) -> Link:
        """Read an untrusted one.

        Raises:
            ValueError: Not even its names can be read.
        """
        return cls(der=der, view=view_of(der))

    @property
    def certificate(self) -> x509.Certificate | None:
        """The certificate as the library parses it, some of whose parts it may not read; None where it cannot."""
        return parsed(self.der)

    @property
    def subject(self) -> str:
        """Its subject as an RFC 4514 string."""
        return self.view.subject.rfc4514_string()

    @property
    def is_self_issued(self) -> bool:
        """Whether it names itself as its issuer, as roots do."""
        return self.view.issuer == self.view.subject
