"""What can be said against a server certificate by itself."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.bundle.outline import Outline, inside
from shared.bundle.view import NO_KEY
from shared.phrasing import day, listed, shown
from shared.validation.malformed import faults
from shared.validation.public_keys import unfit
from shared.verdict import Caution, VerdictCode, Violation, WarningCode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from shared.bundle import CertificateBundle
    from shared.bundle.link import Link

WEAK_HASHES = {"md5": "MD5", "sha1": "SHA-1"}
_TLS_FEATURE = bytes.fromhex("2b06010505070118")
_STATUS_REQUESTS = {b"\x05", b"\x11"}
_USAGES = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.CODE_SIGNING: "codeSigning",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "emailProtection",
    ExtendedKeyUsageOID.TIME_STAMPING: "timeStamping",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSPSigning",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "anyExtendedKeyUsage",
}


def key_strength(bundle: CertificateBundle) -> list[Violation]:
    """Keys that browsers refuse or servers cannot use (CA/Browser Forum Baseline Requirements section 6.1.5)."""
    key = Outline.read(bundle.leaf.public_bytes(Encoding.DER)).key
    return [] if key == NO_KEY else weak_key(bundle.subject, key)


def hides_chain(leaf: Link) -> bool:
    """Whether its key is one for which no chain verifies, whatever else is wrong with it."""
    against = unfit(Outline.read(leaf.der).key)
    return against is not None and against.hides_chain


def weak_key(subject: str, key: bytes) -> list[Violation]:
    """What there is against a public key.

    Args:
        subject: The certificate's, as text.
        key: Its subjectPublicKeyInfo, DER.
    """
    against = unfit(key)
    if against is None:
        return []
    detail = f"'{shown(subject)}' has {against.found}, which {against.refused}: {against.cure}."
    return [Violation(code=VerdictCode.WEAK_KEY, detail=detail)]


def signatures(bundle: CertificateBundle) -> list[Violation]:
    """Signatures that can be forged, of the leaf and its intermediates; a root's is never checked."""
    found = []
    for certificate in (bundle.view, *(link.view for link in bundle.chain)):
        try:
            algorithm = certificate.signature_hash_algorithm
            weak = WEAK_HASHES.get(algorithm.name) if algorithm is not None else None
        except (UnsupportedAlgorithm, ValueError):
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
    for extension in bundle.view.extensions:
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


def malformed(subject: str | None, found: list[str]) -> Violation:
    """Say of a leaf what breaks the rules of its encoding.

    Args:
        subject: As text; None where it cannot be read.
        found: The faults.
    """
    named = f"The certificate '{shown(subject)}'" if subject is not None else "A certificate in the file"
    detail = (
        f"{named} breaks the rules of its encoding, so that not every client can read it: {listed(found, '; ')}. Have "
        "it issued again, by an authority or with a tool that writes this as it must be."
    )
    return Violation(code=VerdictCode.MALFORMED_CERTIFICATE, detail=detail)


def cautions(bundle: CertificateBundle) -> list[Caution]:
    """What its uploader should know of the leaf and its chain although they are served."""
    return [
        *(_malformed_intermediate(link.subject, found) for link in bundle.chain if (found := faults(link.der))),
        *_must_staple(bundle),
    ]


def _malformed_intermediate(subject: str, found: list[str]) -> Caution:
    detail = (
        f"The intermediate '{shown(subject)}' stays in the chain as it is, but breaks the rules of its encoding, so "
        f"that strict clients, browsers among them, refuse it: {listed(found, '; ')}. Ask its authority for another "
        "one."
    )
    return Caution(code=WarningCode.MALFORMED_INTERMEDIATE, detail=detail)


def _must_staple(bundle: CertificateBundle) -> list[Caution]:
    """The TLS features status_request and status_request_v2 (RFC 7633 section 4.2.3.1; RFC 6066, RFC 6961)."""
    features: set[bytes] = set()
    with suppress(ValueError):
        for value in Outline.read(bundle.leaf.public_bytes(Encoding.DER)).values(_TLS_FEATURE):
            features.update(feature.content for feature in inside(value))
    if features.isdisjoint(_STATUS_REQUESTS):
        return []
    detail = (
        f"'{shown(bundle.subject)}' demands a stapled OCSP answer (must-staple, RFC 7633), and certcast sets up no "
        "stapling: clients that insist, such as Firefox, refuse it where the server does not staple by its own "
        "settings. See that each server does, or have it issued without the TLS feature."
    )
    return [Caution(code=WarningCode.MUST_STAPLE, detail=detail)]
