"""Mutating DER so that it stays DER: one value deep inside is changed, and the lengths around it are written again."""

import random

import atheris

_CONSTRUCTED = 0x20
_OCTET_STRING = 0x04
_MAX_DEPTH = 12


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Change one value; where the data is no DER, any byte of it."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    found = _places(data, 0, len(data), 0) if chance.random() < 0.9 else []
    if not found:
        return bytes(atheris.Mutate(data, max_size))
    path = chance.choice(found)
    start, end = path[-1][1], path[-1][2]
    changed = bytes(atheris.Mutate(data[start:end] or b"\0", max(1, end - start + 64)))
    for header, begin, finish in reversed(path):
        changed = data[header : header + 1] + _length(len(changed)) + changed
        if header == path[0][0]:
            return (data[:header] + changed + data[finish:])[:max_size]
        outer = path[path.index((header, begin, finish)) - 1]
        changed = data[outer[1] : header] + changed + data[finish : outer[2]]
    return changed


Place = tuple[int, int, int]
"""Where a value's tag is, and where its content begins and ends."""


def _places(data: bytes, start: int, end: int, depth: int) -> list[tuple[Place, ...]]:
    """The way to every value: from the outermost one to it."""
    found: list[tuple[Place, ...]] = []
    at = start
    while at < end:
        place = _value(data, at, end)
        if place is None:
            return found if depth == 0 else []
        found.append((place,))
        if (data[at] & _CONSTRUCTED or data[at] == _OCTET_STRING) and depth < _MAX_DEPTH:
            found += [(place, *inner) for inner in _places(data, place[1], place[2], depth + 1)]
        at = place[2]
    return found


def _value(data: bytes, at: int, end: int) -> Place | None:
    if at + 2 > end:
        return None
    size, begin = data[at + 1], at + 2
    if size >= 0x80:
        count = size & 0x7F
        if not 1 <= count <= 3 or begin + count > end:
            return None
        size, begin = int.from_bytes(data[begin : begin + count]), begin + count
    return (at, begin, begin + size) if begin + size <= end else None


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([0x80 | len(octets)]) + octets
