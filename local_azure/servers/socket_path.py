"""Where a server's unix socket lies: in its folder, or elsewhere when that path is longer than a socket's may be."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

# sun_path in unix(7) has 107 characters; HAProxy binds to this path with ".<pid>.tmp" behind it, and renames then.
_LONGEST = 96
_FOLDER = "run"


def socket_path(folder: Path, name: str) -> Path:
    """The path for a socket in a folder that is made for it here and that only its owner may enter."""
    place = folder / _FOLDER
    if len(str(place / name)) > _LONGEST:
        return Path(tempfile.mkdtemp(prefix="certcast-")) / name
    place.mkdir(mode=0o700, exist_ok=True)
    return place / name


def forget_socket_path(path: Path) -> None:
    """Delete the folder of a socket that is used no more."""
    shutil.rmtree(path.parent, ignore_errors=True)
