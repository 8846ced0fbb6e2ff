"""ASN.1 values as trees that are changed inside and written back with lengths that fit, to get past DER."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Self

_CONSTRUCTED = 0x20
_WRAPPERS = (0x03, 0x04)
"""Bit and octet strings, which often hold ASN.1 themselves."""
_DEEPEST = 48
_TAGS = (
    *(0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0C, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1C, 0x1E, 0x1F),
    *(0x24, 0x30, 0x31, 0x80, 0x81, 0x82, 0x84, 0x86, 0x87, 0x88, 0xA0, 0xA1, 0xA3, 0xA4),
)
_NUMBERS = (0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 1000, 65537, 2**31 - 1, 2**31, 2**63, 2**64 - 1, -(2**63), 2**2048)
_TEXTS = (
    *(b"", b"*", b"*.example.com", b"www.example.com", b"xn--", b"xn--zckzah.example", b"a." * 130, b"\0www\0", b"."),
    *(b"\xc3\xa9.example", b"\xff\xfe", b"\xed\xa0\x80", b"\xd8\x00\xdc", b"1.2.3.4", b"x" * 300, b"[::1]", b"a@b"),
    *(b"00000101000000Z", b"99991231235959Z", b"500101000000Z", b"20200230000000Z", b"http://x/", b"DE", b"\x7f\0\0\1"),
)


@dataclass(slots=True)
class Node:
    """One value.

    Attributes:
        tag: Its identifier octet.
        content: Its octets, where nothing is inside.
        inside: The values inside; None for a simple value.
        before: Octets before the values inside, such as a bit string's count of unused bits.
        form: How its length is written: "short" as DER has it, "long" with octets to spare, "open" without one,
            "wrong" with another.
    """

    tag: int
    content: bytes = b""
    inside: list[Self] | None = None
    before: bytes = b""
    form: str = field(default="short")

    def encoded(self) -> bytes:
        """Write it."""
        inside = self.content if self.inside is None else self.before + b"".join(n.encoded() for n in self.inside)
        size = len(inside)
        match self.form:
            case "open":
                return bytes([self.tag | _CONSTRUCTED, 0x80]) + inside + b"\0\0"
            case "long":
                return bytes([self.tag, 0x84]) + size.to_bytes(4) + inside
            case "wrong":
                size = size + 1 if size % 2 else max(0, size - 1)
        if size < 0x80:
            return bytes([self.tag, size]) + inside
        octets = size.to_bytes((size.bit_length() + 7) // 8)
        return bytes([self.tag, 0x80 | len(octets)]) + octets + inside

    def copy(self) -> Node:
        """The same, to be changed apart from it."""
        inside = None if self.inside is None else [node.copy() for node in self.inside]
        return Node(self.tag, self.content, inside, self.before, self.form)

    def walk(self) -> Iterator[Node]:
        """It and all that is inside."""
        yield self
        for node in self.inside or ():
            yield from node.walk()


def parsed(data: bytes) -> Node | None:
    """The value that fills these octets; None where they are no such thing."""
    nodes = _run_of(data, 0)
    return nodes[0] if nodes is not None and len(nodes) == 1 else None


def _run_of(data: bytes, depth: int) -> list[Node] | None:
    nodes = []
    offset = 0
    while offset < len(data):
        header = _header(data, offset)
        if header is None:
            return None
        tag, start, end = header
        nodes.append(_node(tag, data[start:end], depth))
        offset = end
    return nodes


def _node(tag: int, content: bytes, depth: int) -> Node:
    before = content[:1] if tag == _WRAPPERS[0] else b""
    if depth < _DEEPEST and content and (tag & _CONSTRUCTED or tag in _WRAPPERS):
        inside = _run_of(content[len(before) :], depth + 1)
        if inside:
            return Node(tag, b"", inside, before)
    return Node(tag, content)


def _header(data: bytes, offset: int) -> tuple[int, int, int] | None:
    if offset + 2 > len(data):
        return None
    length, start = data[offset + 1], offset + 2
    if length >= 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4:
            return None
        length = int.from_bytes(data[start : start + octets])
        start += octets
    return (data[offset], start, start + length) if start + length <= len(data) else None


def changed(root: Node, random: Random, scrambled: Callable[[bytes], bytes]) -> None:
    """Change a tree in one place.

    Args:
        root: The tree.
        random: Decides.
        scrambled: Changes octets that have no structure.
    """
    nodes = list(root.walk())
    node = random.choice(nodes)
    match random.randrange(12):
        case 0 | 1 | 2 | 3:
            leaf = random.choice([each for each in nodes if each.inside is None] or [root])
            _change_leaf(leaf, nodes, random, scrambled)
        case 4:
            node.tag = random.choice(_TAGS) if random.random() < 0.8 else random.randrange(256)
        case 5:
            node.form = random.choice(("short", "long", "open", "wrong"))
        case 6:
            for _ in range(random.choice((1, 1, 2, 5, 40, 200))):
                inner = Node(node.tag, node.content, node.inside, node.before)
                node.tag, node.content, node.inside, node.before = random.choice((0x30, 0x31, 0xA0)), b"", [inner], b""
        case _:
            _change_order(random.choice([each for each in nodes if each.inside] or [root]), nodes, random)


def _change_leaf(leaf: Node, nodes: list[Node], random: Random, scrambled: Callable[[bytes], bytes]) -> None:
    if leaf.inside is not None:
        return
    chance = random.randrange(6)
    if chance == 0:
        # As with object identifiers, algorithms and keys of another kind.
        leaf.content = random.choice([each.content for each in nodes if each.tag == leaf.tag and each.inside is None])
    elif chance == 1:
        number = random.choice(_NUMBERS)
        leaf.content = number.to_bytes(number.bit_length() // 8 + 1, signed=True)
    elif chance == 2:
        leaf.content = random.choice(_TEXTS)
    elif chance == 3:
        leaf.content = leaf.content[: random.randrange(len(leaf.content) + 1)]
    else:
        leaf.content = scrambled(leaf.content)


def _change_order(parent: Node, nodes: list[Node], random: Random) -> None:
    inside = parent.inside
    if not inside:
        return
    place = random.randrange(len(inside))
    match random.randrange(6):
        case 0:
            del inside[place]
        case 1:
            inside[place:place] = [inside[place].copy() for _ in range(random.choice((1, 1, 2, 20)))]
        case 2:
            other = random.randrange(len(inside))
            inside[place], inside[other] = inside[other], inside[place]
        case 3:
            inside[place] = random.choice(nodes).copy()
        case 4:
            inside.insert(place, random.choice(nodes).copy())
        case _:
            alike = [node for node in nodes if node.tag == inside[place].tag]
            inside[place] = random.choice(alike).copy()
