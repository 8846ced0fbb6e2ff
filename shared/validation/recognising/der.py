"""DER files that are no PFX: certificates, keys, requests and other messages, told apart by their outer form."""

from __future__ import annotations

from shared.pkcs12.asn1 import CONSTRUCTED, CONTEXT_0, INTEGER, OCTET_STRING, OID, SEQUENCE, Asn1Error, Element, read
from shared.validation.recognising.guise import NEITHER, NO_CERTIFICATE, NO_KEY, REQUESTED, Guise, export

_BIT_STRING = 0x03
_TIMES = frozenset({0x17, 0x18})
_EXPLICIT_0 = CONTEXT_0 | CONSTRUCTED
_CMS = "1.2.840.113549.1.7."

_CERTIFICATE = Guise(what="it is a certificate in DER", cure=NO_KEY.format(export(certificate="FILE")))
_REQUEST = Guise(what="it is a signing request in DER", cure=REQUESTED.format(export()))
_PUBLIC_KEY = Guise(what="it is a public key in DER", cure=NEITHER)
_REVOCATION_LIST = Guise(what="it is a revocation list in DER", cure=NEITHER)
_PKCS7 = Guise(
    what="it is a PKCS#7 message in DER (p7b), which holds certificates and no private key",
    cure=NO_KEY.format(
        "openssl pkcs7 -inform DER -in FILE -print_certs | openssl pkcs12 -export -inkey key.pem -out cert.pfx"
    ),
)
_OTHER_MESSAGE = Guise(what="it is a PKCS#7 message in DER that holds no certificates", cure=NEITHER)


def _private_key(form: str) -> Guise:
    command = f"openssl pkey -inform DER -in FILE -out key.pem && {export()}"
    return Guise(what=f"it is a private key in DER ({form})", cure=NO_CERTIFICATE.format(command))


_FORMS = {
    (OID, _EXPLICIT_0): _PKCS7,
    (INTEGER, SEQUENCE, OCTET_STRING): _private_key("PKCS#8"),
    (INTEGER, OCTET_STRING): _private_key("SEC 1"),
    (INTEGER,) * 9: _private_key("PKCS#1"),  # RFC 8017 appendix A.1.2: nine numbers
    (SEQUENCE, OCTET_STRING): _private_key("PKCS#8, encrypted"),
    (SEQUENCE, _BIT_STRING): _PUBLIC_KEY,
    (INTEGER, INTEGER): _PUBLIC_KEY,
}
"""By the types of the first parts inside, the longest form that fits."""


def der_of(content: bytes) -> Guise | None:
    """What a DER file is; None where it is none, or of no kind that is known."""
    try:
        parts = read(content).expect(SEQUENCE).children()
        return _kind(parts)
    except Asn1Error:
        return None


def _kind(parts: list[Element]) -> Guise | None:
    tags = tuple(part.tag for part in parts)
    if tags == (SEQUENCE, SEQUENCE, _BIT_STRING):
        return _signed(parts[0].children())
    for form, guise in sorted(_FORMS.items(), key=lambda item: -len(item[0])):
        # Attributes may follow what a private key must have, and nothing may follow in the others.
        if tags == form or (form[0] == INTEGER and tags[: len(form)] == form and {*tags[len(form) :]}.isdisjoint(form)):
            return _message(parts[0].oid()) if guise is _PKCS7 else guise
    return None


def _signed(parts: list[Element]) -> Guise | None:
    """A certificate, a request or a revocation list, by what is signed (RFC 5280 section 4.1 and 5.1, RFC 2986)."""
    tags = [part.tag for part in parts]
    if tags == [INTEGER, SEQUENCE, SEQUENCE, _EXPLICIT_0]:
        return _REQUEST
    if _TIMES & set(tags[2:4]):
        return _REVOCATION_LIST
    # Algorithm, issuer, validity, subject and public key.
    return _CERTIFICATE if tags.count(SEQUENCE) == 5 else None  # noqa: PLR2004


def _message(oid: str) -> Guise | None:
    if not oid.startswith(_CMS):
        return None
    return _PKCS7 if oid == f"{_CMS}2" else _OTHER_MESSAGE
