"""A target with faults in it, which shows that faults are found: one behind four comparisons, others by their names."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from random import Random


def seeds() -> Iterator[bytes]:
    yield b"harmless"


def mutate(_data: bytes, _random: Random) -> bytes | None:
    return None


def run(data: bytes) -> None:
    # One after the other, so that coverage shows each step of the way.
    if data[:1] != b"F":
        _NAMED.get(data, _nothing)()
        return
    if data[1:2] != b"U":
        return
    if data[2:3] != b"Z":
        return
    if data[3:4] == b"Z":
        raise LookupError("the planted fault")


def _nothing() -> None:
    pass


def _endless() -> None:
    while True:
        pass


def _greedy() -> None:
    bytearray(300 * 1024 * 1024)


def _panic() -> None:
    raise BaseException("no Exception")  # noqa: TRY002 - as pyo3's PanicException is none


# Found by no comparison, which the fuzzer would see.
_NAMED: dict[bytes, Callable[[], object]] = {
    b"endless": _endless,
    b"greedy": _greedy,
    b"abort": os.abort,
    b"segfault": lambda: ctypes.string_at(0),
    b"panic": _panic,
}
