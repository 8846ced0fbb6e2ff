"""Who may read what is written: files and folders that are private from their first moment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may read what is written besides its owner.

    Attributes:
        group: Numeric id of the one group that may; None for no group.
    """

    group: int | None = None

    @property
    def file_mode(self) -> int:
        """Permissions of a file."""
        return 0o600 if self.group is None else 0o640

    @property
    def folder_mode(self) -> int:
        """Permissions of a folder."""
        return 0o700 if self.group is None else 0o750


PRIVATE = Access()


def make_folder(path: Path, access: Access = PRIVATE) -> None:
    """Make a folder that only those may enter, and those above it that are missing; one that is there gets the same."""
    if not path.parent.is_dir():
        make_folder(path.parent, access)
    path.mkdir(mode=0o700, exist_ok=True)
    _give(path, access.folder_mode, access)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file, its owner's alone from its first byte, and wait until the disk has it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def grant(path: Path, access: Access) -> None:
    """Give a file that is there the permissions it would be written with."""
    _give(path, access.file_mode, access)


def _give(path: Path, mode: int, access: Access) -> None:
    there = path.stat()
    if access.group is not None and there.st_gid != access.group:
        os.chown(path, -1, access.group)
    if there.st_mode & 0o777 != mode:
        path.chmod(mode)
