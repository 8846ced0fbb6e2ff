"""A certificate's outermost parts, for those that the library cannot parse, and a stand-in to read in their place."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEQUENCE = 0x30
_VERSION = 0xA0
_EXTENSIONS = 0xA3
_SHORT_LENGTH = 0x7F
_MAX_ELEMENTS = 10_000
# Parts of a stand-in: version and serial number, ecdsa-with-SHA256, no signature, 1970 to 9999, a key of no known kind.
_V3 = bytes.fromhex("a003020102 020101")
_ALGORITHM = bytes.fromhex("300a 06082a8648ce3d040302")
_EMPTY = bytes.fromhex("030100")
_ALL_TIME = b"\x30\x20\x17\x0d700101000000Z\x18\x0f99991231235959Z"
_NO_KEY = bytes.fromhex("3008 3003 06012a 030100")


class Element(NamedTuple):
    """One DER value: its identifier octet, its content, and all of it."""

    tag: int
    content: bytes
    whole: bytes


def elements(data: bytes) -> list[Element]:
    """A run of DER values, one level of them.

    Raises:
        ValueError: It is none, or has far more than any certificate.
    """
    found: list[Element] = []
    at = 0
    while at < len(data):
        start, length = at + 2, int.from_bytes(data[at + 1 : at + 2])
        if length > _SHORT_LENGTH:
            octets = data[start : start + length - _SHORT_LENGTH - 1]
            start += len(octets)
            length = int.from_bytes(octets) if octets else len(data)  # BER's indefinite form has none
        if start + length > len(data) or len(found) == _MAX_ELEMENTS:
            raise ValueError("not a run of DER values")
        found.append(Element(data[at], data[start : start + length], data[at : start + length]))
        at = start + length
    return found


def element(tag: int, *parts: bytes) -> bytes:
    """One DER value, written."""
    content = b"".join(parts)
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8) if size > _SHORT_LENGTH else b""
    return bytes([tag, (len(octets) + _SHORT_LENGTH + 1) if octets else size]) + octets + content


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A certificate taken apart (RFC 5280 section 4.1) without a look into its parts, which may break any rule.

    Attributes:
        issuer, validity, subject, key: These fields, as DER; `key` is the subjectPublicKeyInfo.
        extensions: Each by itself, as DER.
    """

    issuer: bytes
    validity: bytes
    subject: bytes
    key: bytes
    extensions: tuple[bytes, ...]

    @classmethod
    def read(cls, der: bytes) -> Outline:
        """Take an untrusted one apart.

        Raises:
            ValueError: It does not have these parts.
        """
        [certificate] = elements(der)
        signed, _algorithm, _signature = elements(certificate.content)
        fields = [one for one in elements(signed.content) if one.tag != _VERSION]
        _serial, _signed_with, issuer, validity, subject, key, *others = fields
        if {one.tag for one in (certificate, signed, issuer, validity, subject, key)} != {_SEQUENCE}:
            raise ValueError("not a certificate")
        extensions = [
            extension.whole
            for other in others
            if other.tag == _EXTENSIONS
            for sequence in elements(other.content)
            for extension in elements(sequence.content)
        ]
        return cls(
            issuer=issuer.whole,
            validity=validity.whole,
            subject=subject.whole,
            key=key.whole,
            extensions=tuple(extensions),
        )


def stand_in(outline: Outline, extensions: Sequence[bytes] = ()) -> x509.Certificate:
    """A certificate of the same names, dates and key, to be read in place of one that the library cannot parse.

    Its signature is empty. Dates that cannot be read are all time, and a key that cannot is of no known kind.

    Args:
        outline: Of the other.
        extensions: What it has of them.

    Raises:
        ValueError: The names or these extensions cannot be read either.
    """
    more = element(_EXTENSIONS, element(_SEQUENCE, *extensions)) if extensions else b""
    for validity in (outline.validity, _ALL_TIME):
        for key in (outline.key, _NO_KEY):
            signed = element(_SEQUENCE, _V3, _ALGORITHM, outline.issuer, validity, outline.subject, key, more)
            with suppress(Exception):  # cryptography raises several kinds that have nothing in common
                found = x509.load_der_x509_certificate(element(_SEQUENCE, signed, _ALGORITHM, _EMPTY))
                list(found.extensions)
                return found
    raise ValueError("not a certificate")
