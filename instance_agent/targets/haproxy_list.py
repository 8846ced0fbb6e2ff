"""One crt-list on the disk: which files it names and how lines come and go; whose they are is known elsewhere."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

Signature = tuple[int, int, int]


class CrtList:
    """A crt-list, read again only when somebody else wrote it: appending costs the same however long it is.

    Args:
        path: The list; one that is missing is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: set[str] = set()
        self.can_append = False
        self._signature: Signature | None = None

    def refresh(self) -> None:
        """Read it if it is not as we left it.

        Raises:
            OSError: It cannot be read.
        """
        signature = _signature(self.path)
        if signature is not None and signature == self._signature:
            return
        text = self._text()
        self.files = {file for line in text.splitlines() if (file := _file(line))}
        self.can_append = signature is not None and (not text or text.endswith("\n"))
        self._signature = signature

    def without(self, gone: AbstractSet[str], new: Mapping[str, str]) -> bytes:
        """The whole content with some files' lines gone and new lines at the end."""
        kept = [line for line in self._text().splitlines() if _file(line) not in gone]
        return "".join(f"{line}\n" for line in (*kept, *new.values())).encode()

    def was_written(self, gone: AbstractSet[str], new: Mapping[str, str]) -> None:
        """Take up that the file now has what `without` gave for the same arguments, and need not be read for it."""
        self.files -= gone
        self.files |= new.keys()
        self.can_append = True
        self._signature = _signature(self.path)

    def append(self, lines: Mapping[str, str]) -> Callable[[], None]:
        """Add lines, all of them or none.

        Args:
            lines: By the file that each names.

        Returns:
            What takes them off again.

        Raises:
            ServerUnavailableError: The disk did not take them.
        """
        content = "".join(f"{line}\n" for line in lines.values()).encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            try:
                whole = os.write(descriptor, content) == len(content)
                os.fsync(descriptor)
            except OSError as error:
                os.ftruncate(descriptor, size)
                raise ServerUnavailableError(f"{self.path} cannot be written: {error.strerror}") from error
            if not whole:
                os.ftruncate(descriptor, size)
                raise ServerUnavailableError(f"{self.path} cannot be written: the disk is full")
        finally:
            os.close(descriptor)
        self.files |= lines.keys()
        self._signature = _signature(self.path)
        return partial(self._cut, size)

    def _cut(self, size: int) -> None:
        os.truncate(self.path, size)
        self._signature = None

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""


def _file(line: str) -> str:
    """The file that a line names; empty for a comment."""
    words = line.split(maxsplit=1)
    return words[0] if words and not words[0].startswith("#") else ""


def _signature(path: Path) -> Signature | None:
    try:
        told = path.stat()
    except FileNotFoundError:
        return None
    return (told.st_mtime_ns, told.st_size, told.st_ino)
