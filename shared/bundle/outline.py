"""A certificate's outermost parts, also of one that the library cannot parse."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

SEQUENCE = 0x30
_VERSION = 0xA0
_EXTENSIONS = 0xA3
_SHORT_LENGTH = 0x7F
_MAX_ELEMENTS = 10_000


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
        if len(found) == _MAX_ELEMENTS:
            raise ValueError("more DER values than any certificate has")
        found.append(_element_at(data, at))
        at += len(found[-1].whole)
    return found


def inside(data: bytes) -> list[Element]:
    """The values within the one DER value that the data is.

    Raises:
        ValueError: It is not one, or they are none.
    """
    [whole] = elements(data)
    return elements(whole.content)


def leading(data: bytes) -> bytes:
    """The DER value at the start of the data, without what follows.

    Raises:
        ValueError: There is none.
    """
    return _element_at(data, 0).whole


def _element_at(data: bytes, at: int) -> Element:
    start, length = at + 2, int.from_bytes(data[at + 1 : at + 2])
    if length > _SHORT_LENGTH:
        octets = data[start : start + length - _SHORT_LENGTH - 1]
        start += len(octets)
        length = int.from_bytes(octets) if octets else len(data)  # BER's indefinite form has none
    if start + length > len(data):
        raise ValueError("not a run of DER values")
    return Element(data[at], data[start : start + length], data[at : start + length])


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
        algorithm, issuer, validity, subject, key: These fields, as DER: the signature's algorithm as it is signed, and
            the subjectPublicKeyInfo.
        extensions: Each by itself, as DER.
    """

    algorithm: bytes
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
        _serial, algorithm, issuer, validity, subject, key, *others = fields
        if {one.tag for one in (certificate, signed, algorithm, issuer, validity, subject, key)} != {SEQUENCE}:
            raise ValueError("not a certificate")
        extensions = [
            extension.whole
            for other in others
            if other.tag == _EXTENSIONS
            for sequence in elements(other.content)
            for extension in elements(sequence.content)
        ]
        return cls(
            algorithm=algorithm.whole,
            issuer=issuer.whole,
            validity=validity.whole,
            subject=subject.whole,
            key=key.whole,
            extensions=tuple(extensions),
        )

    def values(self, identifier: bytes) -> list[bytes]:
        """What the extensions with an identifier hold: one, where the certificate is sound.

        Args:
            identifier: The content of the object identifier, as DER.
        """
        found = []
        for extension in self.extensions:
            with suppress(ValueError):
                kind, *_critical, value = inside(extension)
                found += [value.content] if kind.content == identifier else []
        return found
