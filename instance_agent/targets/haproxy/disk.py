"""What HAProxy reads when it starts: a folder and a crt-list for each PortNumber; nothing here talks to HAProxy.

    FOLDER/443.list                     named by the bind line; ours and an administrator's entries
    FOLDER/443/shop.example.com.pem     key, leaf, intermediates, tagged as ours

and what `default` describes. Everything blocks on the disk: call it on a thread.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, Install
from instance_agent.targets.haproxy import default
from instance_agent.targets.haproxy.crt_list import CrtList
from instance_agent.targets.haproxy.own_files import OwnFiles, path_of
from instance_agent.targets.haproxy.runtime import entry_line
from instance_agent.targets.parts.own_folder import OwnFolder
from instance_agent.targets.parts.pem_file import is_tagged, not_ours, tagged_pem
from shared.hostnames import DEFAULT_HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from instance_agent.targets.base import BindingChange, Key
    from instance_agent.targets.haproxy.own_files import Stored
    from instance_agent.targets.parts.file_batch import FileBatch

_LIST = re.compile(r"([1-9]\d{0,4})\.list\Z")
_NOTHING_LEFT_OUT: Mapping[Key, frozenset[str]] = MappingProxyType({})


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
        self._lists: dict[int, CrtList] = {}
        self._files = OwnFiles(folder)

    def pem(self, host: str, port: int) -> str:
        """Where a host's key and chain lie, which is also what HAProxy calls them."""
        return path_of(self.folder, host, port)

    def crt_list(self, port: int) -> str:
        """Where a port's list lies."""
        return str(self.folder / f"{port}.list")

    def port_of(self, crt_list: str) -> int | None:
        """The PortNumber that a list is for; None for a list that is not ours."""
        path = Path(crt_list)
        found = _LIST.match(path.name)
        return int(found[1]) if found and path.parent == self.folder else None

    def default(self, port: int) -> bytes:
        """What a port's default holds now."""
        return Path(self.pem(DEFAULT_HOST, port)).read_bytes()

    def default_list(self, port: int) -> str:
        """Where the list of a port's default lies."""
        return str(default.list_of(self.folder, port))

    def default_port_of(self, crt_list: str) -> int | None:
        """The PortNumber whose default a list is for; None for a list that is none of ours."""
        return default.port_of(self.folder, crt_list)

    def is_for(self, file: str, host: str, port: int) -> bool:
        """Whether a file has the name that we would give a host's."""
        try:
            return self.pem(host, port) == file
        except ValueError:
            return False

    def listed(self, ports: Iterable[int], defaults: Iterable[int]) -> dict[str, frozenset[str]]:
        """The files that the lists of some ports name once, and what their lines leave out.

        Args:
            ports: Of lists of hosts.
            defaults: Of lists of a default.

        Raises:
            OSError: One cannot be read.
        """
        every = [self._list(port) for port in ports]
        found = {
            file: excepted
            for crt_list in every
            for file in crt_list.files
            if (excepted := crt_list.excepted(file)) is not None
        }
        pems = {port: Path(self.pem(DEFAULT_HOST, port)) for port in defaults}
        named = [pem for port, pem in pems.items() if default.is_named(pem, default.list_of(self.folder, port))]
        return found | {str(pem): frozenset() for pem in named}

    def stored(self) -> dict[str, Stored]:
        """Every file of ours, by its path.

        Raises:
            OSError: The folder cannot be read.
        """
        return self._files.read()

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
                is_ours = is_tagged(content) or str(path) in self._files.ours or change.host == DEFAULT_HOST
                if not is_ours:
                    raise ApplyError(not_ours(path), culprit=change.key)
        return found

    def write(
        self, changes: Sequence[BindingChange], plan: Mapping[Key, frozenset[str]] = _NOTHING_LEFT_OUT
    ) -> Written:
        """Bring files and lists to where they should be after the changes.

        Args:
            changes: What is to be served, and no longer.
            plan: What the lines of some bindings leave out then, of those that are changed and of others.

        Raises:
            ServerUnavailableError: The disk did not take it; nothing was changed.
            ApplyError: The fallback could not come back once a default is removed.
        """
        self.own.clear()
        files = self.own.batch()
        dropped: dict[int, set[str]] = {}
        for change in changes:
            name = self.pem(*change.key)
            if change.host == DEFAULT_HOST:
                default.enter(change, self.folder, files, known=self._files.ours)
            elif isinstance(change, Install):
                files.write(Path(name), tagged_pem(change))
            else:
                dropped.setdefault(change.port, set()).add(name)
        lines = self._lines(changes, plan)
        appends: list[tuple[CrtList, dict[str, str]]] = []
        strikes: list[tuple[CrtList, set[str]]] = []
        for port in sorted(lines.keys() | dropped.keys()):
            crt_list = self._list(port)
            gone = dropped.get(port, set()) & crt_list.files
            new = {file: line for file, line in lines.get(port, {}).items() if not crt_list.has(file, line)}
            # A line that is to leave out others is written with its whole list: at no moment is it there twice or not.
            gone |= (otherwise := new.keys() & crt_list.files)
            if not otherwise and crt_list.can_append and (not gone or crt_list.can_strike(gone)):
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
            restoring.callback(self._files.note(changes))
            return Written(files, restoring.pop_all())

    def _lines(self, changes: Iterable[BindingChange], plan: Mapping[Key, frozenset[str]]) -> dict[int, dict[str, str]]:
        """The lines that lists have after the changes for what is changed or planned, by port and file."""
        installed = {each.key for each in changes if isinstance(each, Install) and each.host != DEFAULT_HOST}
        listed = {key for key in plan if self.pem(*key) in self._list(key[1]).files}
        lines: dict[int, dict[str, str]] = {}
        for host, port in installed | listed:
            name = self.pem(host, port)
            lines.setdefault(port, {})[name] = entry_line(name, host, plan.get((host, port), frozenset()))
        return lines

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
