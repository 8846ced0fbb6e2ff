"""What in a certificate breaks the rules of its encoding, so that strict clients refuse it: the field, and the rule.

The yardstick is what browsers and OpenSSL do. A fault is what any of these refuses, whoever issued the certificate:
Chrome's reader, parsed_certificate.cc and parse_certificate.cc in pki/ of https://boringssl.googlesource.com/boringssl,
or OpenSSL, ossl_x509v3_cache_extensions in crypto/x509/v3_purp.c. What all of these take is none, whatever the library
says of it: cA written out as FALSE, a pathLenConstraint without cA, ediPartyName and x400Address, a serial number that
is negative or long, TeletexString in Latin-1, extensions that neither reads.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL.crypto import FILETYPE_ASN1, Error, load_certificate

from shared.bundle.outline import SEQUENCE, Outline, elements, inside
from shared.bundle.view import (
    ALTERNATIVE_NAMES,
    BASIC_CONSTRAINTS,
    MAX_EXTENSIONS,
    TEXT,
    legible,
    names_of,
    parsed,
    plain_name,
    view_of,
)
from shared.phrasing import shown
from shared.pkcs12.asn1 import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.bundle.outline import Element

_BOOLEAN = 0x01
_TELETEX = 0x14
_OID = 0x06
_VERSION = 0xA0
_FALSE, _TRUE = b"\x00", b"\xff"
_VERSION_1, _VERSION_3 = b"\x02\x01\x00", b"\x02\x01\x02"
_FIELD = re.compile(r'"TbsCertificate::(\w+)"')
_FIELDS = {"spki": "subjectPublicKeyInfo"}  # what the library calls otherwise than RFC 5280 section 4.1
_TIMES = {0x17: re.compile(rb"\d{12}Z\Z"), 0x18: re.compile(rb"\d{14}Z\Z")}
_IP_ADDRESS = 0x87
_IP_OCTETS = {4, 16}
_GENERAL_NAMES = {0xA0, 0x81, 0x82, 0xA3, 0xA4, 0xA5, 0x86, _IP_ADDRESS, 0x88}
_STRINGS = {0x0C: "UTF8String", 0x13: "PrintableString", 0x16: "IA5String", 0x1C: "UniversalString", 0x1E: "BMPString"}
_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*\Z")
_POLICIES = bytes.fromhex("551d20")
_KEY_USAGE = bytes.fromhex("551d0f")
_AUTHORITY_ACCESS = bytes.fromhex("2b06010505070101")
_NO_VALUE = "its value is not what RFC 5280 section 4.2 has"
# Extensions whose values Chrome or OpenSSL reads in every certificate.
_READ = {
    BASIC_CONSTRAINTS: "basicConstraints",
    ALTERNATIVE_NAMES: "subjectAltName",
    _POLICIES: "certificatePolicies",
    bytes.fromhex("551d0e"): "subjectKeyIdentifier",
    _KEY_USAGE: "keyUsage",
    bytes.fromhex("551d1e"): "nameConstraints",
    bytes.fromhex("551d1f"): "cRLDistributionPoints",
    bytes.fromhex("551d21"): "policyMappings",
    bytes.fromhex("551d23"): "authorityKeyIdentifier",
    bytes.fromhex("551d24"): "policyConstraints",
    bytes.fromhex("551d25"): "extendedKeyUsage",
    bytes.fromhex("551d36"): "inhibitAnyPolicy",
    _AUTHORITY_ACCESS: "authorityInfoAccess",
}
# ECDSA with SHA-1 and SHA-2 (RFC 5758 section 3.2), Ed25519 and Ed448 (RFC 8410 section 3).
_WITHOUT_PARAMETERS = {
    bytes.fromhex("2a8648ce3d0401"),
    *(bytes.fromhex(f"2a8648ce3d04030{last}") for last in (1, 2, 3, 4)),
    bytes.fromhex("2b6570"),
    bytes.fromhex("2b6571"),
}


def faults(der: bytes) -> list[str]:
    """What is malformed in an untrusted certificate.

    Returns:
        Clauses that name the field first: "extension keyUsage: critical is written out as FALSE, which ...".
    """
    try:
        outline = Outline.read(der)
        [certificate] = elements(der)
        found = [*_envelope(certificate, outline), *_name("issuer", outline.issuer), *_name("subject", outline.subject)]
        found += _extensions(outline)
    except ValueError:
        if der[1:2] == b"\x80":
            return ["it is written in BER, with lengths left open, where DER states them (X.690 section 10.1)"]
        return ["it is not written in DER (X.690 section 10) with the parts of a certificate (RFC 5280 section 4.1)"]
    return found or _unforeseen(der)


def _envelope(certificate: Element, outline: Outline) -> Iterator[str]:
    signed, algorithm, signature = elements(certificate.content)
    fields = elements(signed.content)
    version = fields[0].content if fields[0].tag == _VERSION else None
    if version == _VERSION_1:
        yield "version: 1 is written out, which DER leaves out (X.690 section 11.5)"
    elif outline.extensions and version != _VERSION_3:
        yield "version: it has extensions, which version 3 alone may have (RFC 5280 section 4.1.2.9)"
    if algorithm.whole != outline.algorithm:
        yield "signatureAlgorithm: it is not the one inside what is signed (RFC 5280 section 4.1.1.2)"
    for one in dict.fromkeys((algorithm.whole, outline.algorithm)):
        kind, *parameters = inside(one)
        if parameters and kind.content in _WITHOUT_PARAMETERS:
            yield (
                "signatureAlgorithm: it has parameters, which this one must not have (RFC 5758 section 3.2, RFC 8410 "
                "section 3)"
            )
    if signature.content[:1] != b"\0":
        yield "signatureValue: it is no whole number of octets"
    for field, time in zip(("notBefore", "notAfter"), inside(outline.validity), strict=False):
        if time.tag not in _TIMES or not _TIMES[time.tag].match(time.content):
            yield (
                f"{field}: '{shown(_text(time))}' is no time as RFC 5280 section 4.1.2.5 has it, to the second and in "
                "UTC"
            )


def _name(field: str, name: bytes) -> Iterator[str]:
    """Objections to a name; TeletexString is let pass, as RFC 5280 section 8 and browsers compare it octet by octet."""
    for one in inside(name):
        attributes = elements(one.content)
        if not attributes:
            yield f"{field}: a relative distinguished name in it is empty (RFC 5280 section 4.1.2.4)"
        for attribute in attributes:
            _kind, value = elements(attribute.content)
            if value.tag in _STRINGS and not _fits(value):
                yield f"{field}: '{shown(_text(value))}' in it is no {_STRINGS[value.tag]} (X.680 section 41)"


def _fits(value: Element) -> bool:
    try:
        text = value.content.decode(TEXT[value.tag])
    except ValueError:
        return False
    return _STRINGS[value.tag] != "PrintableString" or _PRINTABLE.match(text) is not None


def _text(value: Element) -> str:
    return value.content.decode("latin-1")


def _extensions(outline: Outline) -> Iterator[str]:
    seen: set[bytes] = set()
    for extension in outline.extensions[:MAX_EXTENSIONS]:
        kind, *critical, value = inside(extension)
        named = f"extension {_READ.get(kind.content) or read(kind.whole).oid()}"
        if kind.content in seen:
            yield f"{named}: it is there twice (RFC 5280 section 4.2)"
        seen.add(kind.content)
        for flag in critical:
            if flag.content == _FALSE:
                yield f"{named}: critical is written out as FALSE, which DER leaves out (X.690 section 11.5)"
            elif flag.content != _TRUE:
                yield f"{named}: critical is {_hex(flag)}, and DER writes TRUE as FF (X.690 section 11.1)"
        if kind.content in _READ:
            try:
                found = list(_value(kind.content, value.content, extension))
            except ValueError:
                found = [_NO_VALUE]
            yield from (f"{named}: {fault}" for fault in found)


def _hex(flag: Element) -> str:
    return f"written as {flag.content[:4].hex().upper()}" if flag.content else "empty"


def _value(kind: bytes, value: bytes, extension: bytes) -> Iterator[str]:
    """Objections to the value of an extension that clients read."""
    if kind == _POLICIES:
        if not _are_policies(value):
            yield "it has no policies as RFC 5280 section 4.2.1.4 has them"
        return
    if kind == BASIC_CONSTRAINTS:
        yield from _constraints(value)
    elif kind == ALTERNATIVE_NAMES:
        yield from _alternative_names(value)
    if legible(extension) is None:
        yield _NO_VALUE
    elif kind == _KEY_USAGE and not any(any(bits.content[1:]) for bits in elements(value)):
        yield "none of its bits is set, where one at least must be (RFC 5280 section 4.2.1.3)"
    elif kind == _AUTHORITY_ACCESS and not inside(value):
        yield "it is empty, where one access description at least must be (RFC 5280 section 4.2.2.1)"


def _constraints(value: bytes) -> Iterator[str]:
    for flag in inside(value):
        if flag.tag == _BOOLEAN and flag.content not in {_FALSE, _TRUE}:
            yield f"cA is {_hex(flag)}, and DER writes TRUE as FF and leaves FALSE out (X.690 section 11)"


def _alternative_names(value: bytes) -> Iterator[str]:
    for name in names_of(value):
        if name.tag not in _GENERAL_NAMES:
            yield f"it has an entry of an unknown kind ({name.tag:#04x})"
        elif name.tag == _IP_ADDRESS and len(name.content) not in _IP_OCTETS:
            yield f"its iPAddress has {len(name.content)} octets, where 4 or 16 belong (RFC 5280 section 4.2.1.6)"


def _are_policies(value: bytes) -> bool:
    """Whether there are policies in it, whatever their qualifiers say: of these, Chrome reads the identifiers alone."""
    policies = inside(value)
    return bool(policies) and all(
        policy.tag == SEQUENCE and (parts := elements(policy.content)) and parts[0].tag == _OID for policy in policies
    )


def _unforeseen(der: bytes) -> list[str]:
    """What only the library or OpenSSL itself finds."""
    outline = Outline.read(der)
    for field, name in (("issuer", outline.issuer), ("subject", outline.subject)):
        try:
            plain_name(name, frozenset({_TELETEX}))
        except ValueError:
            return [f"{field}: it is no name (RFC 5280 section 4.1.2.4)"]
    if parsed(der) is None:
        return [f"{_unparsed(der)}: it is not what RFC 5280 section 4.1 has"]
    return [] if is_served(der) else ["OpenSSL, with which TLS servers read it, cannot"]


def is_served(der: bytes) -> bool:
    """Whether TLS servers can read a certificate from their files, of which OpenSSL asks less than clients do."""
    try:
        if view_of(der).public_bytes(Encoding.DER) == der:
            return True  # the library, which has read all of it, is the stricter one
        load_certificate(FILETYPE_ASN1, der)
    except (Error, ValueError):
        return False
    return True


def _unparsed(der: bytes) -> str:
    """The field that the library could not parse, where its error tells."""
    try:
        x509.load_der_x509_certificate(der)
    except Exception as problem:  # noqa: BLE001 - cryptography raises several kinds that have nothing in common
        fields = _FIELD.findall(str(problem))
        return _FIELDS.get(fields[0], fields[0]) if fields else "a part of it"
    return "a part of it"
