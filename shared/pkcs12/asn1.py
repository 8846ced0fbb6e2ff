"""A bounded reader of BER and DER, as much of it as PKCS#12 needs.

The library's own parsers start key derivations while they read, so the counts must be read before they see the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

INTEGER = 0x02
OCTET_STRING = 0x04
OID = 0x06
SEQUENCE = 0x30
CONSTRUCTED = 0x20
CONTEXT_0 = 0x80

_HIGH_TAG = 0x1F
_LONG_LENGTH = 0x80
_MAX_LENGTH_OCTETS = 4
_MAX_NESTED = 32
_MAX_ELEMENTS = 10_000
"""Elements looked at in one container; far above any PFX, and small enough that hostile ones cost milliseconds."""
_INTEGER_OCTETS = 8
_OID_OCTETS = 64
SATURATED = 2**63 - 1
"""What `Element.count` answers for any larger number."""


class Asn1Error(ValueError):
    """The bytes are not the expected ASN.1; the text is a clause such as "it ends in the middle of a value"."""


@dataclass(frozen=True, slots=True)
class Element:
    """One value: its identifier octet and its content octets, without any end-of-contents mark."""

    tag: int
    content: bytes = field(repr=False)

    def expect(self, tag: int) -> Element:
        """This element, if it has the tag.

        Raises:
            Asn1Error: It has another.
        """
        if self.tag != tag:
            raise Asn1Error(f"it has a value of type {self.tag:#04x} where {tag:#04x} belongs")
        return self

    def children(self, *tags: int) -> list[Element]:
        """The elements inside.

        Args:
            tags: What the first ones must be; there may be more, which are read but not checked.

        Raises:
            Asn1Error: The content is not a run of elements, or the first are not these.
        """
        found: list[Element] = []
        offset = 0
        while offset < len(self.content):
            if len(found) == _MAX_ELEMENTS:
                raise Asn1Error(f"it has more than {_MAX_ELEMENTS} values in one place")
            element, offset = _read(self.content, offset)
            found.append(element)
        if len(found) < len(tags):
            raise Asn1Error("a value is missing")
        for element, tag in zip(found, tags, strict=False):
            element.expect(tag)
        return found

    def octets(self, tag: int = OCTET_STRING) -> bytes:
        """The octets of an OCTET STRING, which BER may have cut into pieces.

        Args:
            tag: Its primitive tag, where it is tagged implicitly.

        Raises:
            Asn1Error: It is no OCTET STRING.
        """
        if self.tag == tag | CONSTRUCTED:
            return b"".join(piece.expect(OCTET_STRING).content for piece in self.children())
        return self.expect(tag).content

    def count(self) -> int:
        """A positive INTEGER, at most `SATURATED`: nothing that is counted here is larger, nor may it cost to look at.

        Raises:
            Asn1Error: It is no INTEGER, or not positive.
        """
        content = self.expect(INTEGER).content
        value = int.from_bytes(content[: _INTEGER_OCTETS + 1], "big", signed=True)
        if value <= 0:
            raise Asn1Error("it has a count that is not positive")
        return SATURATED if len(content) > _INTEGER_OCTETS else value

    def oid(self) -> str:
        """An OBJECT IDENTIFIER in dotted form.

        Raises:
            Asn1Error: It is none, or ends in the middle.
        """
        arcs: list[int] = []
        arc = 0
        content = self.expect(OID).content
        if not content or content[-1] & 0x80 or len(content) > _OID_OCTETS:
            raise Asn1Error("it has a broken object identifier")
        for octet in content:
            arc = arc << 7 | octet & 0x7F
            if not octet & 0x80:
                arcs.append(arc)
                arc = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def read(data: bytes) -> Element:
    """The element at the start of the data; what follows it is ignored, as OpenSSL and Windows do.

    Raises:
        Asn1Error: There is none.
    """
    element, _ = _read(data, 0)
    return element


def _read(data: bytes, offset: int) -> tuple[Element, int]:
    tag, start, length = _header(data, offset)
    if length is not None:
        return Element(tag, data[start : start + length]), start + length
    end = _end_of_indefinite(data, start)
    return Element(tag, data[start:end]), end + 2


def _header(data: bytes, offset: int) -> tuple[int, int, int | None]:
    """Identifier octet, where the content starts, and its length; None for BER's indefinite form."""
    if offset + 2 > len(data):
        raise Asn1Error("it ends in the middle of a value")
    tag, length = data[offset], data[offset + 1]
    start = offset + 2
    if tag & _HIGH_TAG == _HIGH_TAG:
        raise Asn1Error("it has a value of an unknown type")
    if length == _LONG_LENGTH:
        if not tag & CONSTRUCTED:
            raise Asn1Error("it has a simple value without a length")
        return tag, start, None
    if length > _LONG_LENGTH:
        octets = length - _LONG_LENGTH
        if octets > _MAX_LENGTH_OCTETS:
            raise Asn1Error("it has a value of absurd length")
        length = int.from_bytes(data[start : start + octets], "big")
        start += octets
    if start + length > len(data):
        raise Asn1Error("it ends in the middle of a value")
    return tag, start, length


def _end_of_indefinite(data: bytes, offset: int) -> int:
    """Where the end-of-contents mark is that closes the indefinite value whose content starts here.

    A walk with a counter rather than recursion: nesting is the sender's choice, our stack is not.
    """
    depth = 1
    for _ in range(_MAX_ELEMENTS):
        tag, start, length = _header(data, offset)
        if length is None:
            depth += 1
            if depth > _MAX_NESTED:
                raise Asn1Error("its values are nested too deeply")
            offset = start
        elif (tag, length) == (0, 0):
            depth -= 1
            if not depth:
                return offset
            offset = start
        else:
            offset = start + length
    raise Asn1Error(f"it has more than {_MAX_ELEMENTS} values in one place")
