"""A folder of ours with a PEM file for each host and port, `<port>/<host>.pem`: reading it back, changing it.

What one file is called and holds is `pem_file`'s; what a server does with the files is unknown here.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, Install, InstalledBinding, Key
from instance_agent.targets.parts.access import PRIVATE, Access
from instance_agent.targets.parts.pem_file import (
    PEM_SUFFIX,
    decode,
    file_name,
    held,
    host_of,
    name_refusal,
    not_ours,
    tagged_pem,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.parts.file_batch import FileBatch

_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")

_FEW = 100
"""More files than these are not read one by one: going through what is known of all of them is quicker."""

_LOOK_AGAIN_S = 60.0
"""A file that was edited in its place changes no name: it is noticed by then."""

_State = tuple[int, int, int]


@dataclass(slots=True, kw_only=True)
class _Port:
    """What is known of one port's folder.

    Attributes:
        changed_ns: When names were last added to it or taken away.
        looked: When every file was last looked at.
        files: State and content of each file, by name.
    """

    changed_ns: int
    looked: float
    files: dict[str, tuple[_State, InstalledBinding | None]]


class PemFolder:
    """The folder. What was read is kept while nothing in the folder changes its name, for a minute at most.

    A file that this process wrote, or found with its tag, stays ours when another takes its place: that one is
    reported as it is, and replaced or deleted when its host is. After a restart one without a tag is a stranger's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports: dict[str, _Port] = {}
        self._ours: set[tuple[str, str]] = set()
        """Names of files by their folders'."""

    def forget(self) -> None:
        """Read every file when next asked; whose they are stays known."""
        self._ports.clear()

    def path(self, host: str, port: int) -> Path:
        """The file for a host and port.

        Raises:
            ValueError: They are none.
        """
        return self.folder / str(port) / f"{file_name(host)}{PEM_SUFFIX}"

    def read(self, keys: Collection[Key] | None = None) -> dict[Key, InstalledBinding]:
        """What is tagged as ours, of these keys or of all.

        Raises:
            OSError: The folder cannot be read.
        """
        if keys is not None and len(keys) <= _FEW:
            return {key: binding for key in keys if (binding := self.at(key)) is not None}
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        self._ports = {each.name: self._look(each) for each in folders if _PORT.match(each.name) and each.is_dir()}
        every = (binding for port in self._ports.values() for _, binding in port.files.values())
        ours = {binding.key: binding for binding in every if binding is not None}
        return ours if keys is None else {key: ours[key] for key in keys if key in ours}

    def at(self, key: Key) -> InstalledBinding | None:
        """What is tagged as ours for one host and port, read now."""
        if name_refusal(*key) is not None:
            return None
        path = self.path(*key)
        try:
            return self._parse(path)
        except (FileNotFoundError, NotADirectoryError):
            self._ours.discard(_name(path))
            return None

    def owns(self, key: Key) -> bool:
        """Whether a host's file is ours to replace and to delete; one that is not there yet is not."""
        return self.at(key) is not None or _name(self.path(*key)) in self._ours

    def enter(self, changes: Iterable[BindingChange], batch: FileBatch, access: Access = PRIVATE) -> dict[Key, bytes]:
        """Have a batch of files make the changes: a file for each install, none for a removal of what is ours.

        Returns:
            What the new files will hold.

        Raises:
            ApplyError: A certificate cannot be served, or its file is there and not ours.
        """
        contents: dict[Key, bytes] = {}
        for change in changes:
            if not isinstance(change, Install):
                if name_refusal(*change.key) is None and self.owns(change.key):
                    batch.delete(self.path(*change.key))
                continue
            path = self.path(*change.key)
            if path.exists() and not self.owns(change.key):
                raise ApplyError(not_ours(path), culprit=change.key)
            self._ours.add(_name(path))
            contents[change.key] = tagged_pem(change)
            batch.write(path, contents[change.key], access)
        return contents

    @contextmanager
    def changing(self, keys: Iterable[Key]) -> Iterator[None]:
        """Say which files are changed within, so that the others need not be looked at because of it."""
        known = {name for name, port in self._ports.items() if port.changed_ns == self._changed_ns(name)}
        yield
        for host, port in keys:
            if str(port) in known:
                path = self.path(host, port)
                self._ports[str(port)].files.pop(path.name, None)
                with suppress(FileNotFoundError):
                    self._ports[str(port)].files[path.name] = (_state(path.stat()), self._parse(path))
        for name in known:
            self._ports[name].changed_ns = self._changed_ns(name)

    def _changed_ns(self, name: str) -> int:
        try:
            return (self.folder / name).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _look(self, folder: Path) -> _Port:
        """Read one port's folder; a file's content only where its state is new."""
        known = self._ports.get(folder.name)
        now = time.monotonic()
        changed_ns = self._changed_ns(folder.name)
        if known and known.changed_ns == changed_ns and now - known.looked < _LOOK_AGAIN_S:
            return known
        before = known.files if known else {}
        files: dict[str, tuple[_State, InstalledBinding | None]] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.endswith(PEM_SUFFIX):
                    continue
                with suppress(FileNotFoundError):
                    state = _state(entry.stat())
                    same = before.get(entry.name)
                    files[entry.name] = same if same and same[0] == state else (state, self._parse(Path(entry.path)))
        return _Port(changed_ns=changed_ns, looked=now, files=files)

    def _parse(self, path: Path) -> InstalledBinding | None:
        """The binding a file tells of; None for one that is not ours or not whole."""
        content = path.read_bytes()
        binding = decode(content)
        if binding is not None and self.path(*binding.key) == path:
            self._ours.add(_name(path))
            return binding
        if _name(path) not in self._ours:
            return None
        return held(host_of(path.name.removesuffix(PEM_SUFFIX)), int(path.parent.name), content)


def _name(path: Path) -> tuple[str, str]:
    return path.parent.name, path.name


def _state(there: os.stat_result) -> _State:
    return (there.st_ino, there.st_mtime_ns, there.st_size)
