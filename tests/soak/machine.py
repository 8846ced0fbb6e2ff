"""What a soak sees of its machine: the memory of processes, and what is left of them and of their ports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from local_azure.processes.listening import ensure_free
from shared.errors import ConfigurationError

MARK = "CERTCAST_SOAK"
"""A variable that all processes of one run have, with the same value."""
_SETTLED_S = 20.0
_MB = 1024


@dataclass(slots=True, kw_only=True)
class _Life:
    began: float
    first_mb: float = 0.0
    last_mb: float = 0.0


class Memory:
    """Resident memory of some processes, over each of their lives."""

    def __init__(self) -> None:
        self._lives: dict[tuple[str, int], _Life] = {}

    def look(self, name: str, pid: int | None, at: float) -> None:
        """Look at a process; what it takes while it settles does not count as its first."""
        if pid is None or (mb := _resident_mb(pid)) is None:
            return
        life = self._lives.setdefault((name, pid), _Life(began=at))
        life.last_mb = mb
        if at - life.began < _SETTLED_S or not life.first_mb:
            life.first_mb = mb

    def grown(self) -> dict[str, tuple[float, float]]:
        """By name, the life in which it grew most: its memory at the beginning and at the end, in MB."""
        found: dict[str, tuple[float, float]] = {}
        for (name, _), life in self._lives.items():
            first, last = found.get(name, (0.0, 0.0))
            if name not in found or life.last_mb - life.first_mb > last - first:
                found[name] = (life.first_mb, life.last_mb)
        return found


def _resident_mb(pid: int) -> float | None:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / _MB
    return None


def processes_left(mark: str, folder: Path) -> list[str]:
    """Processes that carry the mark, or have to do with the folder, as they were started; not this one's ancestors.

    Those name the folder where it is one of their arguments.
    """
    own = set(_with_ancestors(os.getpid()))
    entries = [entry for entry in Path("/proc").glob("[0-9]*") if int(entry.name) not in own]
    return [told for entry in entries if (told := _told(entry, mark, folder))]


def _with_ancestors(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _told(entry: Path, mark: str, folder: Path) -> str:
    """A process's command where it is one of ours, else nothing."""
    with suppress(OSError):
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        if not command:
            return ""
        marked = f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
        beside = str(folder) in command or (entry / "cwd").readlink().is_relative_to(folder)
        return f"{command[:100]} (process {entry.name})" if marked or beside else ""
    return ""


def ports_taken(ports: Iterable[int]) -> list[int]:
    """Which of these ports something listens on still."""
    taken = []
    for port in ports:
        try:
            ensure_free(port, "nothing")
        except ConfigurationError:
            taken.append(port)
    return taken
