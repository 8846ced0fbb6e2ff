"""Files that are written and deleted together, each one atomically, and put back together.

Every file is private from its first byte and complete on disk before it takes its name: a server that starts at any
moment reads whole files only. A batch that a server has yet to take is written down first: killed before it was
proved, it is undone at the next start, and no file stays that is not known to be good.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.parts.access import PRIVATE, Access, grant, make_folder, write_private
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

log = logger(__name__)

_JOURNAL = "on-trial.json"

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    path: Path
    content: bytes | None
    access: Access


class FileBatch:
    """Changes to files that are committed at once and can be undone until the batch is closed.

    Nothing is ever absent in between: a new file takes its name over the old one's head, and the old one is kept under
    a second name meanwhile. Undoing therefore needs no space on the disk.
    """

    def __init__(self, staging: Path) -> None:
        """Write nothing yet.

        Args:
            staging: A folder of the batch's own on the same file system as the files.
        """
        self._staging = staging
        self._changes: list[_Change] = []
        self._made: list[tuple[Path, Path | None]] = []
        self._work: Path | None = None

    def write(self, path: Path, content: bytes, access: Access = PRIVATE) -> None:
        """Have a file hold this content; its folder is made where it is missing."""
        self._changes.append(_Change(path=path, content=content, access=access))

    def delete(self, path: Path) -> None:
        """Have a file be gone; one that is not there is fine."""
        self._changes.append(_Change(path=path, content=None, access=PRIVATE))

    def match(self, wanted: Mapping[Path, bytes], there: Collection[Path], access: Access = PRIVATE) -> bool:
        """Have the files that are there be those that are wanted; whether anything is to be written for it."""
        new = [path for path, content in wanted.items() if path not in there or path.read_bytes() != content]
        old = [path for path in there if path not in wanted]
        for path in new:
            self.write(path, wanted[path], access)
        for path in old:
            self.delete(path)
        return bool(new or old)

    def commit(self, *, on_trial: bool = False) -> None:
        """Make every change, or none.

        Args:
            on_trial: Whether `clear_staging` is to undo them should the process end before `proved` or `undo`.

        Raises:
            ServerUnavailableError: The disk did not take them.
        """
        try:
            make_folder(self._staging)
            self._work = Path(tempfile.mkdtemp(dir=self._staging))
            staged = self._stage_all()
            if on_trial:
                _write_journal(self._work, [change.path for change in self._changes])
            for number, (change, new) in enumerate(zip(self._changes, staged, strict=True)):
                self._make(change, new, _old(self._work, number))
            _sync_folders({change.path.parent for change in self._changes})
        except OSError as error:
            self.undo()
            self.close()
            named = error.filename2 or error.filename or self._staging
            raise ServerUnavailableError(f"{named} cannot be written: {error.strerror}") from error

    def proved(self) -> None:
        """The changes are known to be good, and stay whatever becomes of this process."""
        if self._work is not None:
            (self._work / _JOURNAL).unlink(missing_ok=True)

    def undo(self) -> None:
        """Put every file back as it was before `commit`."""
        while self._made:
            path, old = self._made.pop()
            if old is None:
                path.unlink(missing_ok=True)
            else:
                old.replace(path)

    def close(self) -> None:
        """Forget how it was before."""
        self._made.clear()
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)

    def _stage_all(self) -> list[Path | None]:
        if len(self._changes) < _AT_ONCE:
            return [self._stage(number, change) for number, change in enumerate(self._changes)]
        # Each waits for the disk; what waits at the same time is written at once.
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(self._stage, range(len(self._changes)), self._changes))

    def _stage(self, number: int, change: _Change) -> Path | None:
        if change.content is None or self._work is None:
            return None
        new = _new(self._work, number)
        write_private(new, change.content)
        grant(new, change.access)
        return new

    def _make(self, change: _Change, new: Path | None, old: Path) -> None:
        if new is not None and not change.path.parent.is_dir():
            make_folder(change.path.parent, change.access)
        try:
            os.link(change.path, old)
        except FileNotFoundError:
            self._made.append((change.path, None))
        else:
            self._made.append((change.path, old))
        if new is None:
            change.path.unlink(missing_ok=True)
        else:
            new.replace(change.path)


def clear_staging(staging: Path) -> None:
    """Undo a batch that was on trial when its agent was killed, and delete what is left of it and of others."""
    for journal in sorted(staging.glob(f"*/{_JOURNAL}")):
        _undo_trial(journal)
    shutil.rmtree(staging, ignore_errors=True)


def _write_journal(work: Path, paths: Sequence[Path]) -> None:
    """Write down what each change is about and whether there is a file now, before any is made."""
    entries = [{"path": str(path), "existed": os.path.lexists(path)} for path in paths]
    write_private(work / _JOURNAL, json.dumps(entries).encode())
    _sync_folders([work, work.parent])


def _undo_trial(journal: Path) -> None:
    """Put files back as they were; killed on the way, it can be done again."""
    work = journal.parent
    try:
        entries = json.loads(journal.read_text(encoding="utf-8"))
    except ValueError:
        return  # cut short, so that nothing was changed yet
    log.warning("an agent was killed while the server had yet to take %d file(s): they are put back", len(entries))
    for number, entry in reversed(list(enumerate(entries))):
        path, old, new = Path(entry["path"]), _old(work, number), _new(work, number)
        if old.exists():
            old.replace(path)
        elif not entry["existed"] and not new.exists():
            path.unlink(missing_ok=True)
    _sync_folders({Path(entry["path"]).parent for entry in entries})
    journal.unlink()


def _old(work: Path, number: int) -> Path:
    """The second name that a changed file is kept under."""
    return work / f"old-{number}"


def _new(work: Path, number: int) -> Path:
    """Where a file waits before it takes its name."""
    return work / f"new-{number}"


def _sync_folders(folders: Iterable[Path]) -> None:
    """Make new names last through a power failure."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # nothing of it is left, or ever was
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
