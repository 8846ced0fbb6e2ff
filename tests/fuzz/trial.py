"""What a fuzzing process tries, in a file that outlives it, and the exit codes and ceilings that both sides know."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FAULT = 76
"""Exit code of a process in which an input raised."""
BROKEN = 75
"""The same where the fuzzing itself raised."""
CPU_S = 5
"""Processor time for one input."""
MEMORY_BYTES = 256 * 1024 * 1024
"""Address space that one input may take beyond what the process had before."""
MAX_INPUT_BYTES = 131_072
"""Twice the size of the largest certificate that is looked at."""

_HEADER = struct.Struct("<QI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was tried last.

    Attributes:
        count: How many inputs were begun.
        data: The last one.
    """

    count: int
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what the process noted there; a process that began none has left it empty."""
        noted = path.read_bytes()
        if len(noted) < _HEADER.size:
            return cls(count=0, data=b"")
        count, size = _HEADER.unpack_from(noted)
        return cls(count=count, data=noted[_HEADER.size : _HEADER.size + size])


class Notes:
    """The file, as the process that fuzzes writes it: in shared memory, so that no way to end loses anything."""

    def __init__(self, path: Path) -> None:
        with path.open("w+b") as file:
            file.truncate(_HEADER.size + MAX_INPUT_BYTES)
            self._memory = mmap.mmap(file.fileno(), 0)
        self._count = 0

    def put(self, data: bytes) -> None:
        """Note that an input is begun."""
        self._count += 1
        self._memory[: _HEADER.size + len(data)] = _HEADER.pack(self._count, len(data)) + data
