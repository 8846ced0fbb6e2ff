"""The host names that a certificate speaks for, and those of its names that no client matches."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from service_identity.hazmat import DNS_ID, DNSPattern

from shared.bundle.outline import Outline
from shared.bundle.view import ALTERNATIVE_NAMES, names_of
from shared.hostnames import covering, normalise_host, unmatched
from shared.phrasing import listed, shown
from shared.verdict import Caution, WarningCode

if TYPE_CHECKING:
    from shared.bundle import CertificateBundle

_TEXTS = {0x81: "an e-mail address", 0x86: "a URI"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafNames:
    """The host names a certificate speaks for: its dNSNames and never its common name (RFC 9525 section 2).

    Attributes:
        written: All, in lower case, distinct, in the certificate's order.
        usable: Those that are hosts.
        unusable: The others, each quoted, with a clause that says why.
        common: The common name, quoted, which clients ignore; empty where there is none.
        refused: Clauses about entries for which Chrome refuses the whole certificate.
    """

    written: tuple[str, ...]
    usable: tuple[str, ...]
    unusable: tuple[str, ...]
    common: str
    refused: tuple[str, ...] = ()

    @classmethod
    def of(cls, bundle: CertificateBundle) -> LeafNames:
        """Read them from a bundle's leaf."""
        written = tuple(dict.fromkeys(bundle.dns_names))
        reasons = {name: unmatched(name) for name in written}
        common = [shown(str(name.value)) for name in bundle.view.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        return cls(
            written=written,
            usable=tuple(name for name, reason in reasons.items() if reason is None),
            unusable=tuple(f"'{shown(name)}'{reason}" for name, reason in reasons.items() if reason is not None),
            common=f"'{listed(common)}'" if common else "",
            refused=(*(_international(name) for name in written if not name.isascii()), *_other_texts(bundle)),
        )

    @property
    def said(self) -> str:
        """A clause that tells a person what names there are."""
        unusable = f"the certificate has {listed(list(self.unusable), '; ')}" if self.unusable else ""
        if self.usable:
            usable = f"its names are {listed(list(self.usable))}"
            return f"{usable}; {unusable}" if unusable else usable
        ignored = f" (browsers ignore its common name {self.common})" if self.common else ""
        return unusable or f"the certificate has no subjectAltName with a host name{ignored}"

    def cautions(self, *, all_served: bool) -> list[Caution]:
        """What its uploader should know of the names.

        Args:
            all_served: Whether the hosts to serve are the certificate's own, as none were asked for.
        """
        found = []
        if all_served and self.usable and self.unusable:
            found.append(
                f"The certificate has {listed(list(self.unusable), '; ')}: it is served for its other names alone. "
                "Have it issued again if these were meant."
            )
        if self.refused:
            found.append(
                f"Chrome refuses a certificate whose names have other letters than ASCII, whatever the host: this one "
                f"has {listed(list(self.refused), '; ')}. Have it issued again."
            )
        return [Caution(code=WarningCode.UNUSABLE_NAME, detail=detail) for detail in found]

    def cover(self, host: str) -> bool:
        """Whether the certificate answers for a normalised host; a wildcard host needs the very same name."""
        name = covering(host, self.written)
        if name is None or name == host:
            return name is not None
        label, _, parent = host.partition(".")
        # The library lets no wildcard stand for an A-label. Browsers and RFC 9525 do: only parts of one are barred.
        asked = f"a.{parent}" if label.startswith("xn--") else host
        return DNS_ID(asked).verify(DNSPattern.from_bytes(name.encode()))


def _international(name: str) -> str:
    try:
        return f"'{shown(name)}', which is written {normalise_host(name)} in a certificate"
    except ValueError:
        return f"'{shown(name)}'"


def _other_texts(bundle: CertificateBundle) -> list[str]:
    """Entries that are no host names and have other letters than ASCII (general_names.cc in pki/ of BoringSSL)."""
    found = []
    with suppress(ValueError):
        for value in Outline.read(bundle.leaf.public_bytes(Encoding.DER)).values(ALTERNATIVE_NAMES):
            for name in names_of(value):
                text = name.content.decode("utf-8", "replace")
                found += [f"{_TEXTS[name.tag]} '{shown(text)}'"] if name.tag in _TEXTS and not text.isascii() else []
    return found
