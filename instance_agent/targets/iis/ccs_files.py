"""The files of a Centralized Certificate Store: names, records of what is ours, atomic changes; knows no IIS."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

RECORDS_FOLDER = ".certcast"
"""Beside the certificates; IIS reads `*.pfx` of the folder itself only."""

_HOST = re.compile(r"^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\Z")
_DEVICES = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)")
_TEMPORARY = ".certcast-tmp"
_NOTE = ".json"
_LONGEST_NAME = 255  # of a file, on NTFS and on all else that may be shared

_FEW = 100
"""More files than these are not read one by one: one listing of the folder tells which were changed."""


def file_name(host: str) -> str:
    """`<host>.pfx`; a wildcard's star is `_`, as IIS looks it up.

    https://learn.microsoft.com/en-us/iis/get-started/whats-new-in-iis-8/iis-80-centralized-ssl-certificate-support-ssl-scalability-and-manageability

    Raises:
        ValueError: The host makes no file name on Windows; the text says why.
    """
    if not _HOST.match(host):
        raise ValueError(f"{host!r} cannot be a file name in the Centralized Certificate Store")
    if _DEVICES.match(host):
        raise ValueError(
            f"{host} cannot be a file name on Windows, where {host.partition('.')[0]} is the name of a device"
        )
    return f"_{host.removeprefix('*')}.pfx" if host.startswith("*") else f"{host}.pfx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What one of our files holds.

    Attributes:
        sha256: Of the file.
        bundle_id: Of the bundle in it.
        fingerprint_sha256: Of its leaf.
    """

    sha256: str
    bundle_id: str
    fingerprint_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The note that a file is ours, written before the file so that a crash between the two is recognised.

    Attributes:
        host: Host or wildcard.
        port: Port of the change.
        site: Site the change named.
        now: What the file is to hold.
        before: What it held, so what it still holds after a crash.
    """

    host: str
    port: int
    site: str | None
    now: Content
    before: Content | None = None

    def holding(self, sha256: str) -> Content | None:
        """Which of the two a file with this hash is; None for a file that somebody else wrote."""
        return next((it for it in (self.now, self.before) if it is not None and it.sha256 == sha256), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Put a certificate file in place.

    Attributes:
        record: What to note about it; `before` is filled in.
        pfx: The file.
    """

    record: Record
    pfx: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Take the certificate file of a host away, if it is ours."""

    host: str


class CentralFolder:
    """The certificate files in one folder, which may be a share that several servers write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records_folder = folder / RECORDS_FOLDER
        self._cache: dict[str, tuple[tuple[int, ...], Record | None, str]] = {}

    def prepare(self) -> None:
        """Make the folder of records and clear away what a crash left half-written. The caller holds the lock."""
        self.records_folder.mkdir(exist_ok=True)
        for folder in (self.folder, self.records_folder):
            for left in folder.glob(f"*{_TEMPORARY}"):
                left.unlink(missing_ok=True)

    def ours(self, hosts: Collection[str] | None = None) -> Iterator[tuple[Record, Content]]:
        """The files of ours with what they hold; of a listing, those that did not change since are not read again.

        Args:
            hosts: The only ones that need to be among them; None for all.
        """
        if hosts is not None and len(hosts) <= _FEW:
            yield from (held for host in hosts if (held := self._held(host)) is not None)
            return
        sizes = _stats(self.folder)
        seen: dict[str, tuple[tuple[int, ...], Record | None, str]] = {}
        for name, record_stat in _stats(self.records_folder).items():
            pfx = name.removesuffix(_NOTE)
            if not name.endswith(f".pfx{_NOTE}") or pfx not in sizes:
                continue
            stamp = (*record_stat, *sizes[pfx])
            known = self._cache.get(pfx)
            if known is None or known[0] != stamp:
                known = (stamp, self._record(pfx), self._sha256(pfx))
            seen[pfx] = known
            _, record, sha256 = known
            content = None if record is None else record.holding(sha256)
            if record is not None and content is not None:
                yield record, content
        self._cache = seen

    def holds(self, host: str, bundle_id: str) -> bool:
        """Whether the host's file is ours and holds this bundle."""
        held = self._held(host)
        return held is not None and held[1].bundle_id == bundle_id

    def apply(self, changes: Sequence[Write | Delete]) -> Callable[[], None]:
        """Make all changes or none. The caller holds the lock.

        Returns:
            What puts everything back as it was.

        Raises:
            ApplyError: Somebody else's file has the name; nothing was changed.
            OSError: The folder cannot be written; nothing was changed.
        """
        for change in changes:
            self._refuse_foreign(change)
        earlier: list[tuple[str, bytes | None, bytes | None]] = []

        def undo() -> None:
            for name, pfx, note in reversed(earlier):
                try:
                    _restore(self.folder / name, pfx)
                    _restore(self._note(name), note)
                except OSError as error:
                    log.error("%s could not be put back as it was: %s", self.folder / name, error)

        try:
            for change in changes:
                name = file_name(change.record.host if isinstance(change, Write) else change.host)
                earlier.append((name, _read(self.folder / name), _read(self._note(name))))
                if isinstance(change, Write):
                    self._write(name, change)
                else:
                    self._delete(name)
        except BaseException:
            undo()
            raise
        return undo

    def _refuse_foreign(self, change: Write | Delete) -> None:
        if isinstance(change, Delete):
            return
        host = change.record.host
        name = file_name(host)
        sha256 = self._sha256(name)
        record = self._record(name)
        if sha256 and (record is None or record.holding(sha256) is None):
            raise ApplyError(
                f"{self.folder / name} was not written by certcast, or was changed since; move it away, for it may "
                "hold the only copy of a key",
                culprit=(host, change.record.port),
            )

    def _write(self, name: str, change: Write) -> None:
        record = self._record(name)
        before = None if record is None else record.holding(self._sha256(name))
        if before is not None and before.bundle_id == change.record.now.bundle_id:
            return  # another server on the share was faster
        note = {**asdict(change.record), "before": None if before is None else asdict(before)}
        _replace(self._note(name), json.dumps(note).encode())
        _replace(self.folder / name, change.pfx)

    def _delete(self, name: str) -> None:
        """The file first: a note without a file is harmless, a file without a note would count as somebody else's."""
        record = self._record(name)
        if record is None:
            return
        sha256 = self._sha256(name)
        if sha256 and record.holding(sha256) is None:
            return
        (self.folder / name).unlink(missing_ok=True)
        self._note(name).unlink(missing_ok=True)

    def _note(self, name: str) -> Path:
        return self.records_folder / f"{name}{_NOTE}"

    def _held(self, host: str) -> tuple[Record, Content] | None:
        """The host's file if it is ours, read now."""
        try:
            name = file_name(host)
        except ValueError:
            return None
        if len(name) + len(_NOTE) > _LONGEST_NAME or (record := self._record(name)) is None:
            return None
        content = record.holding(self._sha256(name))
        return None if content is None else (record, content)

    def _record(self, name: str) -> Record | None:
        content = _read(self._note(name))
        if content is None:
            return None
        try:
            document = json.loads(content)
            before = document["before"]
            return Record(
                host=document["host"],
                port=document["port"],
                site=document["site"],
                now=Content(**document["now"]),
                before=None if before is None else Content(**before),
            )
        except (ValueError, KeyError, TypeError):
            return None

    def _sha256(self, name: str) -> str:
        content = _read(self.folder / name)
        return "" if content is None else hashlib.sha256(content).hexdigest()


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
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
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
