"""SHA256SUMS: the hash of every file of a release, in the form that `sha256sum --check` reads."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME = "SHA256SUMS"


def sha256_of(file: Path) -> str:
    """A file's SHA-256, as hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write(into: Path, files: Iterable[Path]) -> Path:
    """Write the hashes of files of one folder, sorted by name, into it, and answer the path."""
    path = into / NAME
    lines = [f"{sha256_of(file)}  {file.name}\n" for file in sorted(files)]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return path
