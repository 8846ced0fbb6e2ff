"""Processes of a benchmark: asked line by line, and what they and those they started cost."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from _results import CannotRunError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_LINE = 64 * 1024 * 1024
_SERVERS = frozenset({"nginx", "haproxy", "caddy"})


class ChildTroubleError(CannotRunError):
    """A process could not do what it was asked; the text is its own."""


class Child:
    """A Python program beside this one that answers each line with a line; an async context manager.

    Args:
        program: A file beside this one.
        arguments: Its arguments.
        environment: Its environment; this process's own when None.
    """

    def __init__(self, program: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment
        self._command = [sys.executable, str(Path(__file__).with_name(program)), *arguments]

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, limit=_LONGEST_LINE, env=self._environment
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def ask(self, order: str, *arguments: object) -> dict[str, Any]:
        """Give an order and wait for what came of it.

        Raises:
            ChildTroubleError: It could not be done.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps([order, *arguments])}\n".encode())
        line = await self._process.stdout.readline()
        if not line:
            raise ChildTroubleError(f"{Path(self._command[1]).name} ended; what it said of it is above")
        answer: dict[str, Any] = json.loads(line)
        if "trouble" in answer:
            raise ChildTroubleError(answer["trouble"])
        return answer

    def cpu_ns(self) -> int:
        """Processor time so far of the process and all below it (proc(5), schedstat)."""
        tasks = (task for pid in _tree(self._process.pid) for task in Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def memory_mb(self, *, whole: bool) -> float:
        """Memory of the servers below the process, or of all; what several share is divided among them (PSS)."""
        pids = _tree(self._process.pid)
        chosen = pids if whole else [pid for pid in pids if _name(pid) in _SERVERS]
        return sum(map(_pss_kb, chosen)) / 1024


def _tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _tree(int(child))
    return found


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()


def _pss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
