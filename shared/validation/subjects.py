"""Distinguished names as people write them, compared with a certificate's subject."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509

# RFC 4514 section 3 and RFC 4519, with the short forms that Windows and OpenSSL write.
_OIDS = {
    "CN": NameOID.COMMON_NAME,
    "COMMONNAME": NameOID.COMMON_NAME,
    "C": NameOID.COUNTRY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "S": NameOID.STATE_OR_PROVINCE_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "POSTALCODE": NameOID.POSTAL_CODE,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "E": NameOID.EMAIL_ADDRESS,
    "EMAIL": NameOID.EMAIL_ADDRESS,
    "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
    "SN": NameOID.SURNAME,
    "G": NameOID.GIVEN_NAME,
    "GN": NameOID.GIVEN_NAME,
    "T": NameOID.TITLE,
    "TITLE": NameOID.TITLE,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    "BUSINESSCATEGORY": NameOID.BUSINESS_CATEGORY,
    "ORGANIZATIONIDENTIFIER": NameOID.ORGANIZATION_IDENTIFIER,
    "JURISDICTIONC": NameOID.JURISDICTION_COUNTRY_NAME,
    "JURISDICTIONST": NameOID.JURISDICTION_STATE_OR_PROVINCE_NAME,
    "JURISDICTIONL": NameOID.JURISDICTION_LOCALITY_NAME,
}
_DOTTED = re.compile(r"(?:OID\.)?(\d+(?:\.\d+)+)\Z", re.IGNORECASE)
_ESCAPED = re.compile(r"((?:\\[0-9a-fA-F]{2})+)|\\(.)", re.DOTALL)
_HEX_VALUE = re.compile(r"#((?:[0-9a-fA-F]{2})+)\Z")
# Up to the next separator outside quotes and escapes. Semicolons are RFC 2253's, plus signs join one RDN's attributes.
_ATTRIBUTE = re.compile(r'\s*((?:[^\\",;+]|\\.|"(?:[^"\\]|\\.)*")*)([,;+]|\Z)', re.DOTALL)

Attribute = tuple[str, str]


def mismatches(expected: str, subject: x509.Name) -> tuple[str, ...]:
    """The expected attributes that a subject lacks; empty when it has them all.

    Order, case, spacing and further attributes of the subject do not matter (RFC 4518 section 2): the name is there to
    catch a wrong file, and certificate authorities add attributes as they please. A bare `www.example.com` is a common
    name.

    Args:
        expected: A distinguished name, RFC 4514 or as Windows shows it.
        subject: The certificate's.

    Raises:
        ValueError: The text is no distinguished name; the message is a clause that says why.
    """
    found = {(attribute.oid.dotted_string, _folded(attribute.value)) for attribute in subject}
    return tuple(text for text, attribute in _attributes(expected) if attribute not in found)


def _attributes(text: str) -> Iterator[tuple[str, Attribute]]:
    """Each attribute as written and as compared."""
    if "=" not in text:
        name = text.strip()
        if not name:
            raise ValueError("it is empty")
        yield f"CN={name}", (NameOID.COMMON_NAME.dotted_string, _folded(name))
        return
    position = 0
    while position < len(text):
        part = _ATTRIBUTE.match(text, position)
        if part is None:
            raise ValueError("a quotation mark or backslash in it has no partner")
        kind, equals, value = part.group(1).partition("=")
        if not equals:
            raise ValueError("an attribute in it has no value, as in CN=www.example.com")
        yield part.group(1).strip(), (_oid(kind.strip()), _folded(_value(value)))
        position = part.end()


def _oid(kind: str) -> str:
    if dotted := _DOTTED.match(kind):
        return dotted.group(1)
    try:
        return _OIDS[kind.upper()].dotted_string
    except KeyError:
        raise ValueError(
            "an attribute in it has a type that is not known; CN, O, OU, L, ST, C and the like are"
        ) from None


def _value(text: str) -> str:
    """Undo quotes, escapes and the hexadecimal form (RFC 4514 section 2.4)."""
    trimmed = text.strip()
    if len(trimmed) > 1 and trimmed[0] == trimmed[-1] == '"':
        return _unescaped(trimmed[1:-1].replace('""', '"'))
    if hexadecimal := _HEX_VALUE.match(trimmed):
        # BER of a string: identifier and length octets, then the text.
        return bytes.fromhex(hexadecimal.group(1))[2:].decode(errors="replace")
    return _unescaped(text)


def _unescaped(text: str) -> str:
    def plain(escape: re.Match[str]) -> str:
        octets = escape.group(1)
        return bytes.fromhex(octets.replace("\\", "")).decode(errors="replace") if octets else escape.group(2)

    return _ESCAPED.sub(plain, text)


def _folded(value: str | bytes) -> str:
    """Case and runs of spaces do not count (RFC 4518 sections 2.2 and 2.6.1)."""
    text = value if isinstance(value, str) else value.decode("latin-1")
    return " ".join(text.casefold().split())
