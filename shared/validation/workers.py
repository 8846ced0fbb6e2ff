"""Judging in processes of their own, which are ended at a bound of processor time and memory.

Every file is first tried by a process that gives up on what takes long. Only what it gave up on goes to another, where
one dear file waits behind the other, so that cheap uploads pass dear ones however many there are.

On Windows a process is bounded in time alone, by the clock on the wall; on macOS in processor time and not in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from shared.errors import BrokenMessageError, BusyError, UnavailableError
from shared.phrasing import logger
from shared.validation.judge import unreadable
from shared.validation.judged import Judged
from shared.validation.tasks import (
    LENGTH_OCTETS,
    Answer,
    Task,
    decode_answer,
    encode,
    frame,
    length_of,
    policy_document,
)
from shared.validation.worker import CPU_S, MEMORY_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.validation.judge import ValidationPolicy

log = logger(__name__)

TRIED_AT_ONCE = 2
DEAR_AT_ONCE = 1
MAX_WAITING = 8
"""Dear files that wait for their turn; more are put off."""
WALL_S = 60.0
"""Longest wait for an answer: far longer than its processor time takes on any machine that is not overloaded."""
TASKS_OF_ONE = 500
"""After so many a process is replaced: what leaks of its memory must not be held against a file."""

_NEEDED_BY_PYTHON = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Of the parent's environment, where credentials are; without these an interpreter may not even start."""
_IMPORTED_IN = str(Path.cwd())
"""What relative entries of the path are relative to: the worker in the cloud changes its directory later on."""
# The path is the parent's, as an app in the cloud has its packages in folders that are on no path by themselves: the
# worker puts them there when it is specialised (github.com/Azure/azure-functions-python-worker, utils/dependency.py).
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from shared.starting import imported; imported('shared.validation.worker').main()"
)
_CRASHES = ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE")
_OF_THE_FILES_DOING = frozenset(-int(getattr(signal, name)) for name in _CRASHES if hasattr(signal, name))
_FROM_OUTSIDE = frozenset({None, 0, -int(signal.SIGTERM), -int(getattr(signal, "SIGKILL", 9))})
_OUT_OF_TIME = -int(getattr(signal, "SIGPROF", 1_000_000))  # Windows has no such end


class Judges(Protocol):
    """Where uploads are judged."""

    async def judge(self, task: Task, *, on_slow: Callable[[], Awaitable[None]] | None = None) -> Answer:
        """Judge one upload.

        Args:
            task: The upload.
            on_slow: Awaited before it waits for its turn among those that take long.

        Raises:
            BusyError: Too many of those wait already.
            UnavailableError: No process could be started, or it was ended from outside.
        """


class _DiedError(Exception):
    """A process ended before it answered.

    Attributes:
        code: Its exit code, negative for a signal; None where it had to be ended as it answered nothing.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class _Child:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.tasks = 0

    @classmethod
    async def start(cls, policy: ValidationPolicy, *, nice: bool) -> _Child:
        path = [os.path.join(_IMPORTED_IN, entry) for entry in sys.path]  # noqa: PTH118 - keeps those that are absolute
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-c", _START, "--nice" if nice else "--usual", *path),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in _NEEDED_BY_PYTHON if name in os.environ},
                start_new_session=True,  # an interrupt at the terminal is the parent's to handle
            )
        except OSError as error:
            raise UnavailableError(
                f"no process to judge uploads in can be started ({error.strerror}); see how many may run here"
            ) from None
        child = cls(process)
        try:
            async with asyncio.timeout(WALL_S):
                await child._send(frame(policy_document(policy)))
                await child._answer()  # it is ready
        except BaseException as problem:
            await asyncio.shield(child.end())
            if not isinstance(problem, TimeoutError | asyncio.IncompleteReadError | OSError | BrokenMessageError):
                raise
            # No file was read yet, so that no file may be blamed.
            raise UnavailableError(
                f"a process to judge uploads in was started and ended at once (exit code {process.returncode}); run "
                "`python -m shared.validation.worker` where the app runs to see why"
            ) from None
        return child

    async def ask(self, task: Task) -> Answer:
        """Have a task done.

        Raises:
            _DiedError: It ended first.
            BrokenMessageError: What it answers is no answer.
        """
        self.tasks += 1
        try:
            async with asyncio.timeout(WALL_S):
                await self._send(encode(task))
                return await self._answer()
        except TimeoutError:
            raise _DiedError(None) from None
        except (asyncio.IncompleteReadError, OSError):
            raise _DiedError(await self._process.wait()) from None

    async def end(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()

    async def _answer(self) -> Answer:
        stdout = self._process.stdout
        assert stdout is not None, "it was started with a pipe"  # noqa: S101 - narrows the type
        length = length_of(await stdout.readexactly(LENGTH_OCTETS))
        return decode_answer(await stdout.readexactly(length))

    async def _send(self, octets: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None, "it was started with a pipe"  # noqa: S101 - narrows the type
        stdin.write(octets)
        await stdin.drain()


class _Lane:
    """Processes of one kind, of which a few work at once; they start when they are needed and stay."""

    def __init__(self, policy: ValidationPolicy, *, at_once: int, nice: bool) -> None:
        self._policy = policy
        self._nice = nice
        self._gate = asyncio.Semaphore(at_once)
        self._idle: list[_Child] = []
        self.waiting = 0

    async def do(self, task: Task) -> Answer:
        """Do a task when its turn comes.

        Raises:
            _DiedError: The process ended, by the task's doing or twice.
        """
        self.waiting += 1
        try:
            await self._gate.acquire()
        finally:
            self.waiting -= 1
        try:
            try:
                return await self._once(task)
            except _DiedError as died:
                if died.code is None or died.code in _OF_THE_FILES_DOING | {_OUT_OF_TIME} or died.code > 0:
                    raise
            return await self._once(task)  # ended from outside, maybe while it was idle
        finally:
            self._gate.release()

    async def close(self) -> None:
        """End the processes."""
        while self._idle:
            await self._idle.pop().end()

    async def _once(self, task: Task) -> Answer:
        child = self._idle.pop() if self._idle else await _Child.start(self._policy, nice=self._nice)
        try:
            answer = await child.ask(task)
        except BaseException:
            # Whatever happened, also to the caller: what it may still answer must be nobody else's answer.
            await asyncio.shield(child.end())
            raise
        if child.tasks < TASKS_OF_ONE:
            self._idle.append(child)
        else:
            await child.end()
        return answer


class Workers:
    """Processes that judge, as `Judges`.

    Args:
        policy: What is accepted.
    """

    def __init__(self, policy: ValidationPolicy) -> None:
        self._policy = policy
        self._lanes: tuple[_Lane, _Lane] | None = None

    async def judge(self, task: Task, *, on_slow: Callable[[], Awaitable[None]] | None = None) -> Answer:
        """As in `Judges`."""
        cheap, dear = self._open()
        answer = await self._done(cheap, replace(task, cheap=True))
        if not answer.dear:
            return answer
        if dear.waiting >= MAX_WAITING:
            raise BusyError(f"it takes long to judge, and {dear.waiting} such uploads wait already; it is judged later")
        if on_slow is not None:
            await on_slow()
        return await self._done(dear, replace(task, cheap=False))

    async def close(self) -> None:
        """End the processes."""
        for lane in self._lanes or ():
            await lane.close()

    def _open(self) -> tuple[_Lane, _Lane]:
        if self._lanes is None:  # a semaphore belongs to the loop it is made on
            self._lanes = (
                _Lane(self._policy, at_once=TRIED_AT_ONCE, nice=False),
                _Lane(self._policy, at_once=DEAR_AT_ONCE, nice=True),
            )
        return self._lanes

    async def _done(self, lane: _Lane, task: Task) -> Answer:
        try:
            answer = await lane.do(task)
        except BrokenMessageError:
            return self._ended(task, "what it was read by answered nonsense")
        except _DiedError as died:
            if died.code == _OUT_OF_TIME and task.cheap:
                return Answer(dear=True)
            if died.code == _OUT_OF_TIME or (died.code is None and os.name == "nt"):
                return self._ended(task, f"opening it takes more than {CPU_S} seconds of processor time")
            if died.code in _FROM_OUTSIDE:
                raise UnavailableError("the process that judged it was ended; it is judged again") from None
            limit = MEMORY_BYTES // 1024 // 1024
            return self._ended(task, f"what it was read by broke, or needed more than {limit} MiB of memory")
        for line in answer.lines:
            log.warning("judging: %s", line)
        return answer

    @staticmethod
    def _ended(task: Task, reason: str) -> Answer:
        log.error("judging: a file is rejected: %s", reason)
        metadata = task.metadata
        return Answer(
            judged=Judged(
                violations=(*task.earlier, unreadable(reason)),
                hosts=(),
                port=metadata.port,
                role=metadata.role,
                site=metadata.site,
                bundle=None,
            )
        )
