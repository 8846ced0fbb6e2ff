"""A worker process as the agent holds it: started, asked, looked at, ended; what it serves is decided elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from instance_agent.targets.embedded import wire
from instance_agent.targets.embedded.proof import unproved
from shared.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instance_agent.targets.embedded.listeners import Serving
    from instance_agent.targets.embedded.proof import Claim

_NOT_THEIRS = ("CERTCAST_", "AZURE_", "AzureWebJobs")


class WorkerLostError(UnavailableError):
    """A worker died, or did not answer in time and cannot be relied on any more."""


class WorkerProcess:
    """One running worker."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, passage: socket.socket) -> None:
        self.number = number
        self._process = process
        self._passage = passage
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @classmethod
    async def spawn(cls, number: int, serving: Serving, *, within_s: float) -> WorkerProcess:
        """Start one that serves nothing yet.

        Args:
            number: For people, from 1.
            serving: What it must know.
            within_s: How long it may take to begin.

        Raises:
            WorkerLostError: It did not begin.
        """
        control, theirs = socket.socketpair()
        passage, their_passage = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, their_passage:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "instance_agent.targets.embedded.worker",
                    *(str(theirs.fileno()), str(their_passage.fileno()), str(os.getpid())),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), their_passage.fileno()),
                    # The account's credentials are the agent's alone.
                    env={name: value for name, value in os.environ.items() if not name.startswith(_NOT_THEIRS)},
                )
            except OSError as error:
                control.close()
                passage.close()
                raise WorkerLostError(f"worker {number} cannot be started: {error.strerror}") from error
        worker = cls(number, process, passage)
        worker._streams = await asyncio.open_connection(sock=control)
        try:
            await worker.ask({"do": "begin", "serving": wire.told_serving(serving)}, within_s=within_s)
        except BaseException:
            await worker.end()
            raise
        return worker

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def ask(self, message: dict[str, Any], *, within_s: float) -> wire.Message:
        """Have it do something and wait for its answer.

        Args:
            message: What to do.
            within_s: How long it may take, once it is this message's turn.

        Raises:
            WorkerLostError: It is gone or did not answer; it must be ended.
            CertcastError: It answered that it cannot.
        """
        async with self._turn:
            if self._streams is None:
                raise WorkerLostError(f"worker {self.number} is gone")
            reader, writer = self._streams
            try:
                async with asyncio.timeout(within_s):
                    await wire.send(writer, message)
                    answer = await wire.receive(reader)
            except TimeoutError:
                self._hang_up()  # a late answer would be taken for the next one's
                raise WorkerLostError(f"worker {self.number} did not answer within {within_s:g} s") from None
            except (OSError, EOFError):
                self._hang_up()
                raise WorkerLostError(f"worker {self.number} died") from None
        if (trouble := wire.understood_trouble(answer)) is not None:
            raise trouble
        return answer

    async def unproved(self, claims: Sequence[Claim], *, timeout_s: float) -> str:
        """See by handshakes what it serves; a sentence about what does not hold, else nothing.

        Raises:
            WorkerLostError: It did not answer.
        """
        try:
            return await asyncio.to_thread(unproved, self._passage, claims, timeout_s=timeout_s)
        except TimeoutError:
            raise WorkerLostError(
                f"worker {self.number} did not finish a TLS handshake within {timeout_s:g} s"
            ) from None

    async def gone(self) -> int:
        """Wait until the process has ended, and tell how."""
        return await self._process.wait()

    async def end(self, *, patience_s: float = 0.0) -> None:
        """Have it over; the kernel closes its listeners and connections.

        Args:
            patience_s: How long it may take to end by itself.
        """
        self._hang_up()
        if patience_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._passage.close()

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
