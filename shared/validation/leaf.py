"""What can be said against a server certificate by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from service_identity.hazmat import DNS_ID, DNSPattern

from shared.hostnames import covering, normalise_host
from shared.phrasing import day, listed, shown
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from shared.bundle import CertificateBundle

MIN_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
WEAK_HASHES = {"md5": "MD5", "sha1": "SHA-1"}
_USAGES = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.CODE_SIGNING: "codeSigning",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "emailProtection",
    ExtendedKeyUsageOID.TIME_STAMPING: "timeStamping",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSPSigning",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "anyExtendedKeyUsage",
}


def key_strength(bundle: CertificateBundle) -> list[Violation]:
    """Keys that browsers refuse (CA/Browser Forum Baseline Requirements section 6.1.5)."""
    match bundle.key:
        case rsa.RSAPrivateKey(key_size=bits):
            found = f"an RSA key of {bits} bits" if bits < MIN_RSA_BITS else None
        case ec.EllipticCurvePrivateKey(curve=curve):
            found = None if isinstance(curve, _CURVES) else f"an EC key on the curve {curve.name}"
        case dsa.DSAPrivateKey():
            found = "a DSA key"
        case _:
            found = "an EdDSA key"
    if found is None:
        return []
    detail = (
        f"'{shown(bundle.subject)}' has {found}, which browsers refuse: use RSA with 2048 bits or more, or EC on "
        "P-256, P-384 or P-521."
    )
    return [Violation(code=VerdictCode.WEAK_KEY, detail=detail)]


def signatures(bundle: CertificateBundle) -> list[Violation]:
    """Signatures that can be forged, of the leaf and its intermediates; a root's is never checked."""
    found = []
    for certificate in (bundle.leaf, *(link.view for link in bundle.chain)):
        try:
            algorithm = certificate.signature_hash_algorithm
            weak = WEAK_HASHES.get(algorithm.name) if algorithm is not None else None
        except UnsupportedAlgorithm:
            weak = f"an algorithm that is not known ({certificate.signature_algorithm_oid.dotted_string})"
        if weak is not None:
            found.append(f"'{shown(certificate.subject.rfc4514_string())}' is signed with {weak}")
    if not found:
        return []
    detail = (
        f"Browsers refuse the signature: {listed(found)}. Have the certificate issued again with SHA-256 or better."
    )
    return [Violation(code=VerdictCode.WEAK_SIGNATURE, detail=detail)]


def dates(bundle: CertificateBundle, now: datetime) -> list[Violation]:
    """Whether it is valid now (RFC 5280 section 4.1.2.5: both ends belong to the time of validity)."""
    if now > bundle.not_after:
        detail = f"'{shown(bundle.subject)}' expired at {day(bundle.not_after)}: upload its renewal."
        return [Violation(code=VerdictCode.EXPIRED, detail=detail)]
    if now < bundle.not_before:
        detail = f"'{shown(bundle.subject)}' is valid from {day(bundle.not_before)}: it will be served from then on."
        return [Violation(code=VerdictCode.NOT_YET_VALID, detail=detail)]
    return []


def usage_names(usages: Iterable[x509.ObjectIdentifier]) -> str:
    """Uses of an extendedKeyUsage, by their names where they have one."""
    return listed([_USAGES.get(usage, usage.dotted_string) for usage in usages])


def purpose(bundle: CertificateBundle) -> list[Violation]:
    """Whether its extensions allow a TLS server to use it (RFC 5280 section 4.2.1; RFC 8446 section 4.4.2.2)."""
    objections = []
    for extension in bundle.leaf.extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                objections.append("its basicConstraints say CA:TRUE, which makes it an authority's")
            case x509.ExtendedKeyUsage() as usages if not {
                ExtendedKeyUsageOID.SERVER_AUTH,
                ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
            } & set(usages):
                objections.append(f"its extendedKeyUsage allows {usage_names(usages)} and not serverAuth")
            case x509.KeyUsage(digital_signature=False):
                objections.append("its keyUsage lacks digitalSignature, without which it cannot sign a TLS handshake")
    if not objections:
        return []
    detail = (
        f"'{shown(bundle.subject)}' is no server certificate: {'; '.join(objections)}. Order one for TLS servers, with "
        "CA:FALSE, digitalSignature and serverAuth."
    )
    return [Violation(code=VerdictCode.NOT_A_SERVER_CERTIFICATE, detail=detail)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafNames:
    """The host names a certificate speaks for: its dNSNames and never its common name (RFC 9525 section 2).

    Attributes:
        usable: Normalised and distinct, in the certificate's order; entries that are no host names are left out.
        said: A clause that tells a person what names there are.
    """

    usable: tuple[str, ...]
    said: str

    @classmethod
    def of(cls, bundle: CertificateBundle) -> LeafNames:
        """Read them from a bundle's leaf."""
        usable: dict[str, None] = {}
        unusable: list[str] = []
        for name in bundle.dns_names:
            try:
                usable[normalise_host(name)] = None
            except ValueError:
                unusable.append(shown(name))
        if usable:
            said = f"its names are {listed(list(usable))}"
        elif unusable:
            said = f"none of its names can be asked for by a browser ({listed(unusable)})"
        else:
            common = [
                shown(str(name.value)) for name in bundle.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            ]
            ignored = f" (browsers ignore its common name '{listed(common)}')" if common else ""
            said = f"the certificate has no subjectAltName with a host name{ignored}"
        return cls(usable=tuple(usable), said=said)

    def cover(self, host: str) -> bool:
        """Whether the certificate answers for a normalised host; a wildcard host needs the very same name."""
        name = covering(host, self.usable)
        if name is None or name == host:
            return name is not None
        label, _, parent = host.partition(".")
        # The library lets no wildcard stand for an A-label. Browsers and RFC 9525 do: only parts of one are barred.
        asked = f"a.{parent}" if label.startswith("xn--") else host
        return DNS_ID(asked).verify(DNSPattern.from_bytes(name.encode()))
