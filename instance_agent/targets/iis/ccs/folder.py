"""The files of a Centralized Certificate Store and the notes on those of ours, changed atomically; knows no IIS."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError
from instance_agent.targets.iis.ccs.notes import NOTE_SUFFIX, Content, Note, file_names
from instance_agent.targets.parts.access import write_private
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

log = logger(__name__)

NOTES_FOLDER = ".certcast"
"""Beside the certificates; IIS reads `*.pfx` of the folder itself only."""

_TEMPORARY = ".certcast-tmp"
_ASIDE = ".changed"

_FEW = 100
"""More files than these are not read one by one: one listing of the folder tells which were changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Put a certificate file in place.

    Attributes:
        note: What to note about it; `before` is filled in.
        pfx: The file.
        again: Whether to write it though it is there already.
    """

    note: Note
    again: bool = False
    pfx: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Take the certificate file of a host away, if it is ours."""

    host: str


class CentralFolder:
    """The certificate files in one folder, which may be a share that several servers write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes_folder = folder / NOTES_FOLDER
        self._cache: dict[str, tuple[tuple[int, ...], tuple[Note, Content] | None]] = {}

    def prepare(self) -> None:
        """Make the folder of notes and clear away what a crash left half-written. The caller holds the lock."""
        self.notes_folder.mkdir(exist_ok=True)
        for folder in (self.folder, self.notes_folder):
            for left in folder.glob(f"*{_TEMPORARY}"):
                left.unlink(missing_ok=True)

    def forget(self) -> None:
        """Read every file again."""
        self._cache = {}

    def ours(self, hosts: Collection[str] | None = None) -> Iterator[tuple[Note, Content]]:
        """The hosts with a note of ours, and what their files hold; nothing known where they are not as we wrote them.

        Of a listing, files that did not change since the last one are not read again.

        Args:
            hosts: The only ones that need to be among them; None for all.
        """
        if hosts is not None and len(hosts) <= _FEW:
            yield from (held for host in hosts if (held := self._held(host)) is not None)
            return
        files, notes = _stats(self.folder), _stats(self.notes_folder)
        seen: dict[str, tuple[tuple[int, ...], tuple[Note, Content] | None]] = {}
        for name, note_stat in notes.items():
            if name.endswith(f".pfx{NOTE_SUFFIX}"):
                pfx = name.removesuffix(NOTE_SUFFIX)
                stamp = (*note_stat, *files.get(pfx, ()))
                known = self._cache.get(pfx)
                seen[pfx] = known if known and known[0] == stamp else (stamp, self._kept(pfx))
        self._cache = seen
        kept = {name: it for name, (_, it) in seen.items() if it is not None}
        for host in dict.fromkeys(note.host for note, _ in kept.values()):
            if (whole := _whole(host, kept)) is not None:
                yield whole

    def holds(self, host: str, bundle_id: str) -> bool:
        """Whether the host's files are ours and hold this bundle."""
        held = self._held(host)
        return held is not None and held[1].bundle_id == bundle_id

    def apply(self, changes: Sequence[Write | Delete]) -> Callable[[], None]:
        """Make all changes or none. The caller holds the lock.

        Returns:
            What puts everything back as it was.

        Raises:
            ApplyError: A file that is not ours has the name; nothing was changed.
            OSError: The folder cannot be written; nothing was changed.
        """
        for change in changes:
            self._refuse_foreign(change)
        with ExitStack() as restoring:
            for change in changes:
                for name in file_names(change.note.host if isinstance(change, Write) else change.host):
                    restoring.callback(self._put_back, name, _read(self.folder / name), _read(self._note_of(name)))
                    self._set_aside(name)
                    if isinstance(change, Write):
                        self._write(name, change)
                    else:
                        self._delete(name)
            return restoring.pop_all().close

    def _put_back(self, name: str, pfx: bytes | None, note: bytes | None) -> None:
        try:
            _restore(self.folder / name, pfx)
            _restore(self._note_of(name), note)
        except OSError as error:
            log.error("%s could not be put back as it was: %s", self.folder / name, error)

    def _refuse_foreign(self, change: Write | Delete) -> None:
        if isinstance(change, Delete):
            return
        for name in file_names(change.note.host):
            if (self.folder / name).exists() and self._kept(name) is None:
                raise ApplyError(
                    f"{self.folder / name} was not written by certcast; move it away, since it may hold the only copy "
                    "of a key",
                    culprit=(change.note.host, change.note.port),
                )

    def _set_aside(self, name: str) -> None:
        """Keep what another hand wrote over a file of ours, the last of it: it may be the only copy of a key."""
        kept, content = self._kept(name), _read(self.folder / name)
        if kept is None or content is None or kept[1].sha256:
            return
        aside = self.notes_folder / f"{name}{_ASIDE}"
        _replace(aside, content)
        log.warning("%s was changed since certcast wrote it: what it held is in %s now", self.folder / name, aside)

    def _write(self, name: str, change: Write) -> None:
        kept = self._kept(name)
        before = None if kept is None or not kept[1].sha256 else kept[1]
        if not change.again and before is not None and before.bundle_id == change.note.now.bundle_id:
            return  # another server on the share was faster
        _replace(self._note_of(name), replace(change.note, before=before).encode())
        _replace(self.folder / name, change.pfx)

    def _delete(self, name: str) -> None:
        """The file first: a note without a file is harmless, a file without a note would not count as ours."""
        note = self._note_of(name)
        if note.exists():
            (self.folder / name).unlink(missing_ok=True)
            note.unlink(missing_ok=True)

    def _held(self, host: str) -> tuple[Note, Content] | None:
        """The host's files if they are ours, read now."""
        try:
            names = file_names(host)
        except ValueError:
            return None
        return _whole(host, {name: kept for name in names if (kept := self._kept(name)) is not None})

    def _kept(self, name: str) -> tuple[Note, Content] | None:
        """The note on a file, and which of the two contents it tells of the file has, if any; None without a note."""
        noted, pfx = _read(self._note_of(name)), _read(self.folder / name)
        note = None if noted is None else Note.decode(noted)
        if note is None:
            return None
        content = None if pfx is None else note.holding(hashlib.sha256(pfx).hexdigest())
        return (note, content or note.changed)

    def _note_of(self, name: str) -> Path:
        return self.notes_folder / f"{name}{NOTE_SUFFIX}"


def _whole(host: str, kept: Mapping[str, tuple[Note, Content]]) -> tuple[Note, Content] | None:
    """What all files of a host hold together; nothing known where they differ, None where none of them is ours."""
    try:
        names = file_names(host)
    except ValueError:
        return None
    found = [kept[name] for name in names if name in kept]
    if not found:
        return None
    note, content = found[0]
    same = len(found) == len(names) and all(it.bundle_id == content.bundle_id for _, it in found)
    return (note, content if same else note.changed)


def _stats(folder: Path) -> dict[str, tuple[int, ...]]:
    with os.scandir(folder) as entries:
        return {it.name: (it.stat().st_mtime_ns, it.stat().st_size, it.stat().st_ino) for it in entries}


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _replace(path: Path, content: bytes) -> None:
    """Write beside the file and rename over it, so that a reader sees the old or the new one whole.

    Beside it, because on Windows a renamed file keeps the access rights of the folder it was made in.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        write_private(temporary, content)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        _replace(path, content)
