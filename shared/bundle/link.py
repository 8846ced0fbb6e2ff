"""One certificate of a chain above the leaf."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from shared.bundle.outline import Outline, stand_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A certificate above the leaf, which is served as it is, whether or not the library can parse it.

    Attributes:
        der: What is served.
        view: What the library reads of it. That is the certificate itself; or, where it cannot be parsed, a `stand_in`
            without extensions: it can tell of the certificate, and is never trusted in its place.
    """

    der: bytes = field(repr=False)
    view: x509.Certificate = field(compare=False)

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Link:
        """One that the library has parsed."""
        return cls(der=certificate.public_bytes(serialization.Encoding.DER), view=certificate)

    @classmethod
    def read(cls, der: bytes) -> Link:
        """Read an untrusted one.

        Raises:
            ValueError: Not even its names can be read; the text is a clause that says why.
        """
        try:
            view = x509.load_der_x509_certificate(der)
        except Exception:  # noqa: BLE001 - cryptography raises several kinds that have nothing in common
            view = stand_in(Outline.read(der))
        for name in (view.subject, view.issuer):
            name.rfc4514_string()
        return cls(der=der, view=view)

    @property
    def certificate(self) -> x509.Certificate | None:
        """The certificate as the library parses it; None where it cannot."""
        return self.view if self.view.public_bytes(serialization.Encoding.DER) == self.der else None

    @property
    def subject(self) -> str:
        """Its subject as an RFC 4514 string."""
        return self.view.subject.rfc4514_string()

    @property
    def is_self_issued(self) -> bool:
        """Whether it names itself as its issuer, as roots do."""
        return self.view.issuer == self.view.subject
