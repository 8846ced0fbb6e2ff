"""What HAProxy reads when it starts: a folder and a crt-list for each PortNumber; nothing here talks to HAProxy.

    FOLDER/443.list                     named by the bind line; ours and an administrator's entries
    FOLDER/443/shop.example.com.pem     key, leaf, intermediates, tagged as ours

Everything blocks on the disk: call it on a thread.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from instance_agent.targets.base import ApplyError, Install, InstalledBinding
from instance_agent.targets.haproxy.crt_list import CrtList
from instance_agent.targets.haproxy.runtime import Leaf
from instance_agent.targets.parts.own_folder import OwnFolder
from instance_agent.targets.parts.pem_file import is_tagged, not_ours, tagged_pem
from instance_agent.targets.parts.pem_folder import PemFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from instance_agent.targets.base import BindingChange, Key
    from instance_agent.targets.parts.file_batch import FileBatch

_LIST = re.compile(r"([1-9]\d{0,4})\.list\Z")
_LEAF = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file of ours.

    Attributes:
        binding: What it is for.
        leaf: By which HAProxy tells what it serves.
    """

    binding: InstalledBinding
    leaf: Leaf


class Written:
    """One batch on the disk, which can be undone until it is closed."""

    def __init__(self, files: FileBatch, restoring: ExitStack) -> None:
        self._restoring = restoring
        self.close = files.close

    def undo(self) -> None:
        """Put everything back, the latest first.

        Raises:
            OSError: Some of it is not.
        """
        self._restoring.close()


class Disk:
    """The folder that the agent and HAProxy share.

    Args:
        folder: Its absolute path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own = OwnFolder(folder, "HAPROXY")
        self._pems = PemFolder(folder)
        self._lists: dict[int, CrtList] = {}

    def pem(self, host: str, port: int) -> str:
        """Where a host's key and chain lie, which is also what HAProxy calls them."""
        return str(self._pems.path(host, port))

    def crt_list(self, port: int) -> str:
        """Where a port's list lies."""
        return str(self.folder / f"{port}.list")

    def port_of(self, crt_list: str) -> int | None:
        """The PortNumber that a list is for; None for a list that is not ours."""
        path = Path(crt_list)
        found = _LIST.match(path.name)
        return int(found[1]) if found and path.parent == self.folder else None

    def is_for(self, file: str, host: str, port: int) -> bool:
        """Whether a file has the name that we would give a host's."""
        try:
            return self.pem(host, port) == file
        except ValueError:
            return False

    def listed(self, port: int) -> frozenset[str]:
        """The files that a port's list names.

        Raises:
            OSError: It cannot be read.
        """
        return frozenset(self._list(port).files)

    def stored(self) -> dict[str, Stored]:
        """Every file of ours that is whole, by its path.

        Raises:
            OSError: The folder cannot be read.
        """
        found = {}
        for key, binding in self._pems.read().items():
            path = self._pems.path(*key)
            leaf = _LEAF.search(path.read_bytes())
            if leaf is not None:
                certificate = x509.load_pem_x509_certificate(leaf[0])
                thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - a name
                told = Leaf(serial=certificate.serial_number, thumbprint_sha1=thumbprint)
                found[str(path)] = Stored(binding=binding, leaf=told)
        return found

    def made_by_hand(self, files: Iterable[str]) -> set[str]:
        """Those of the files that are there and that certcast did not write."""
        return {name for name in files if Path(name).is_file() and not is_tagged(Path(name).read_bytes())}

    def contents(self, changes: Iterable[BindingChange]) -> dict[Key, bytes]:
        """What the files of some hosts hold now; those that are not there are left out.

        Raises:
            ApplyError: One of them was made by hand.
        """
        found: dict[Key, bytes] = {}
        for change in changes:
            path = Path(self.pem(*change.key))
            if path.is_file():
                found[change.key] = content = path.read_bytes()
                if not is_tagged(content):
                    raise ApplyError(not_ours(path), culprit=change.key)
        return found

    def write(self, changes: Sequence[BindingChange]) -> Written:
        """Bring files and lists to where they should be after the changes.

        Raises:
            ServerUnavailableError: The disk did not take it; nothing was changed.
        """
        self.own.clear()
        files = self.own.batch()
        added: dict[int, dict[str, str]] = {}
        dropped: dict[int, set[str]] = {}
        for change in changes:
            name = self.pem(*change.key)
            if isinstance(change, Install):
                files.write(Path(name), tagged_pem(change))
                added.setdefault(change.port, {})[name] = f"{name} {change.host}"
            else:
                dropped.setdefault(change.port, set()).add(name)
        appends: list[tuple[CrtList, dict[str, str]]] = []
        strikes: list[tuple[CrtList, set[str]]] = []
        for port in sorted(added.keys() | dropped.keys()):
            crt_list = self._list(port)
            gone = dropped.get(port, set()) & crt_list.files
            new = {file: line for file, line in added.get(port, {}).items() if file not in crt_list.files}
            if crt_list.can_append and (not gone or crt_list.can_strike(gone)):
                strikes.append((crt_list, gone))
                appends.append((crt_list, new))
            else:
                files.write(crt_list.path, crt_list.without(gone, new))
        # Files go last, since HAProxy does not start on a list that names one which is not there, and come first.
        for name in (name for names in dropped.values() for name in names):
            files.delete(Path(name))
        with ExitStack() as restoring:
            restoring.callback(files.close)
            for crt_list, gone in filter(itemgetter(1), strikes):
                restoring.callback(crt_list.strike(gone))
            restoring.callback(files.undo)
            files.commit()
            for crt_list, new in filter(itemgetter(1), appends):
                restoring.callback(crt_list.append(new))
            return Written(files, restoring.pop_all())

    def delete(self, strays: Iterable[str]) -> None:
        """Delete files of ours that nothing needs, off the lists first.

        Raises:
            ServerUnavailableError: They are all left.
        """
        names = set(strays)
        files = self.own.batch()
        for port in {int(Path(name).parent.name) for name in names}:
            crt_list = self._list(port)
            files.write(crt_list.path, crt_list.without(names, {}))
        for name in names:
            files.delete(Path(name))
        files.commit()
        files.close()

    def _list(self, port: int) -> CrtList:
        crt_list = self._lists.setdefault(port, CrtList(Path(self.crt_list(port))))
        crt_list.refresh()
        return crt_list
