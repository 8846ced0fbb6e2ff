"""The PEM files of ours that HAProxy reads when it starts: where they lie, and what each holds."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from instance_agent.targets.base import Install, InstalledBinding
from instance_agent.targets.haproxy import default
from instance_agent.targets.haproxy.reading import Leaf
from instance_agent.targets.parts.pem_file import PEM_SUFFIX, decode, file_name
from shared.hostnames import DEFAULT_HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from instance_agent.targets.base import BindingChange, Key

_PORT = re.compile(r"[1-9]\d{0,4}\Z")
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_LEAF = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_State = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file of ours.

    Attributes:
        binding: What it is for.
        leaf: By which HAProxy tells what it serves.
    """

    binding: InstalledBinding
    leaf: Leaf


class OwnFiles:
    """The files, of which only those that changed since the last time are read.

    Args:
        folder: Where they lie.

    Attributes:
        ours: Files that had our tag while we run: one whose content somebody replaced is still ours to put right.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ours: dict[str, Key] = {}
        self._read: dict[str, tuple[_State, Stored]] = {}

    def read(self) -> dict[str, Stored]:
        """Every file of ours, by its path; only those that changed since the last time are read.

        Raises:
            OSError: The folder cannot be read.
        """
        found: dict[str, tuple[_State, Stored]] = {}
        for path, state in self._pems():
            known = self._read.get(path)
            if known is not None and known[0] == state:
                found[path] = known
            elif (stored := self._stored(path)) is not None:
                found[path] = (state, stored)
        self._read = found
        self.ours = {path: stored.binding.key for path, (_, stored) in found.items()}
        return {path: stored for path, (_, stored) in found.items()}

    def _stored(self, path: str) -> Stored | None:
        """A file of ours; without a fingerprint where its content is no longer what we wrote; None for a stranger's."""
        content = Path(path).read_bytes()
        binding, leaf = decode(content), _LEAF.search(content)
        if binding is not None and leaf is not None and path == path_of(self.folder, *binding.key):
            with suppress(ValueError):
                certificate = x509.load_pem_x509_certificate(leaf[0])
                thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - a name
                intermediates = content.count(_BEGIN) - 1
                told = Leaf(serial=certificate.serial_number, thumbprint_sha1=thumbprint, intermediates=intermediates)
                return Stored(binding=binding, leaf=told)
        if (ours := self.ours.get(path)) is None:
            return None
        nothing = InstalledBinding(host=ours[0], port=ours[1], bundle_id="", fingerprint_sha256="")
        return Stored(binding=nothing, leaf=Leaf(serial=0, thumbprint_sha1=""))

    def _pems(self) -> Iterator[tuple[str, _State]]:
        """The PEM files of ports and defaults, and by what a change of them is noticed."""
        folders = [each for each in self.folder.iterdir() if _PORT.match(each.name) and each.is_dir()]
        for folder in (self.folder, *folders):
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        if entry.name.endswith(PEM_SUFFIX):
                            yield entry.path, _state(entry.stat())

    def note(self, changes: Iterable[BindingChange]) -> Callable[[], None]:
        """Know whose the files of these changes are now.

        Returns:
            What forgets it again.
        """
        names = {path_of(self.folder, *each.key): each.key if isinstance(each, Install) else None for each in changes}
        was = {name: self.ours.get(name) for name in names}

        def know(keys: Mapping[str, Key | None]) -> None:
            for name, key in keys.items():
                self.ours.pop(name, None)
                if key is not None:
                    self.ours[name] = key

        know(names)
        return partial(know, was)


@lru_cache(maxsize=65_536)  # each is asked for at every reading
def path_of(folder: Path, host: str, port: int) -> str:
    """Where a host's key and chain lie.

    Raises:
        ValueError: The host is none.
    """
    if host == DEFAULT_HOST:
        return str(default.pem_of(folder, port))
    return str(folder / str(port) / f"{file_name(host)}{PEM_SUFFIX}")


def _state(there: os.stat_result) -> _State:
    """What differs once a file was written: its contents' time can be set, its state's (ctime) cannot."""
    return (there.st_ino, there.st_mtime_ns, there.st_ctime_ns, there.st_size)
