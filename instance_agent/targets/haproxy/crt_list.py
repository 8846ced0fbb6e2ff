"""One crt-list on the disk: which files it names, what their lines leave out, and how lines come and go."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.haproxy.reading import excepted_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

Signature = tuple[int, int, int]

_WORTH_STRIKING_BYTES = 65536
_TWICE = -1


class CrtList:
    """A crt-list, read again only when something else wrote it: a change costs the same however long it is.

    Lines are appended; in a long list those that go are struck out where they are, by a `#` in place of their first
    slash, and the whole list is written again once as many are struck as are left.

    Args:
        path: The list; one that is missing is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.can_append = False
        self._lines: dict[str, int] = {}
        self._excepted: dict[str, frozenset[str]] = {}
        self._struck = 0
        self._signature: Signature | None = None

    @property
    def files(self) -> AbstractSet[str]:
        """The files that its lines name."""
        return self._lines.keys()

    def excepted(self, file: str) -> frozenset[str] | None:
        """The hosts that a file's line leaves out; None for one that is there twice, or not at all."""
        if self._lines.get(file, _TWICE) == _TWICE:
            return None
        return self._excepted.get(file, frozenset())

    def has(self, file: str, line: str) -> bool:
        """Whether a file has one line, which leaves out what another line for it leaves out."""
        return file in self.files and self.excepted(file) == excepted_in(line.split())

    def refresh(self) -> None:
        """Read it if it is not as we left it.

        Raises:
            OSError: It cannot be read.
        """
        signature = _signature(self.path)
        if signature is not None and signature == self._signature:
            return
        content, at = self._content(), 0
        self._lines, self._excepted, self._struck = {}, {}, 0
        for line in content.splitlines(keepends=True):
            if file := _file(line):
                self._take(file, _TWICE if file in self._lines else at, line.decode("utf-8", "replace"))
            self._struck += self._is_struck(line)
            at += len(line)
        self.can_append = signature is not None and (not content or content.endswith(b"\n"))
        self._signature = signature

    def without(self, gone: AbstractSet[str], new: Mapping[str, str]) -> bytes:
        """The whole content with some files' lines and all struck ones gone, and new lines at the end."""
        lines = self._content().splitlines()
        kept = [line for line in lines if _file(line) not in gone and not self._is_struck(line)]
        return b"".join(line + b"\n" for line in (*kept, *(line.encode() for line in new.values())))

    def can_strike(self, gone: AbstractSet[str]) -> bool:
        """Whether some files' lines are better struck than the whole list written again."""
        there = gone & self.files
        return (
            self._signature is not None
            and self._signature[1] >= _WORTH_STRIKING_BYTES
            and self._struck + len(there) <= len(self._lines)
            and all(self._lines[file] != _TWICE for file in there)
        )

    def strike(self, gone: AbstractSet[str]) -> Callable[[], None]:
        """Strike some files' lines, all of them or none.

        Returns:
            What makes them count again.

        Raises:
            ServerUnavailableError: The disk did not take it, or something else writes the list.
        """
        there = {file: self._lines[file] for file in gone & self.files}
        restore = partial(self._unstrike, list(there.values()))
        try:
            descriptor = os.open(self.path, os.O_RDWR)
            try:
                if any(os.pread(descriptor, len(file), at) != file.encode() for file, at in there.items()):
                    raise ServerUnavailableError(f"{self.path} was changed by another program at the same moment")
                for at in there.values():
                    os.pwrite(descriptor, b"#", at)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            restore()
            raise ServerUnavailableError(f"{self.path} cannot be written: {error.strerror}") from error
        for file in there:
            del self._lines[file]
            self._excepted.pop(file, None)
        self._struck += len(there)
        self._signature = _signature(self.path)
        return restore

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
            cut = partial(self._cut, size)
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
        for file, line in lines.items():
            self._take(file, size, line)
            size += len(line.encode()) + 1
        self._signature = _signature(self.path)
        return cut

    def _take(self, file: str, at: int, line: str) -> None:
        self._lines[file] = at
        self._excepted.pop(file, None)
        if "!" in line:
            self._excepted[file] = excepted_in(line.split())

    def _cut(self, size: int) -> None:
        os.truncate(self.path, size)
        self._signature = None

    def _unstrike(self, places: Sequence[int]) -> None:
        self._signature = None
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            for at in places:
                os.pwrite(descriptor, b"/", at)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _is_struck(self, line: bytes) -> bool:
        """Whether it named a file of ours; an administrator's comments look otherwise."""
        return line.startswith(f"#{self.path.with_suffix('')}/".replace("#/", "#", 1).encode())

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""


def _file(line: bytes) -> str:
    """The file that a line names; empty for a comment."""
    words = line.split(maxsplit=1)
    return words[0].decode("utf-8", "replace") if words and not words[0].startswith(b"#") else ""


def _signature(path: Path) -> Signature | None:
    try:
        told = path.stat()
    except FileNotFoundError:
        return None
    return (told.st_mtime_ns, told.st_size, told.st_ino)
