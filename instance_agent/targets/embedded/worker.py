"""One worker process of the embedded target: listens, serves, and does what the agent says; it decides nothing.

Started by `embedded_worker_process` as `python -m instance_agent.targets.embedded.worker CONTROL PASSAGE PARENT`, where
the first two are inherited sockets. It ends when the agent does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from instance_agent.targets.embedded import wire
from instance_agent.targets.embedded.listeners import Listeners
from instance_agent.targets.embedded.proof import PORT_BYTES
from shared.errors import CertcastError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # prctl(2)

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop, or until the agent is gone."""
    control, passage, parent = (int(each) for each in arguments)
    _end_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the agent, which says when its workers stop
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    asyncio.run(_Worker().run(socket.socket(fileno=control), socket.socket(fileno=passage)))
    return 0


class _Worker:
    """What one worker does."""

    def __init__(self) -> None:
        self._listeners: Listeners | None = None
        self._adopting: set[asyncio.Task[None]] = set()

    async def run(self, control: socket.socket, passage: socket.socket) -> None:
        """Answer each message of the agent's in turn."""
        passage.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(passage, self._take_connection, passage)
        reader, writer = await asyncio.open_connection(sock=control)
        while True:
            try:
                message = await wire.receive(reader)
            except (OSError, EOFError):
                os._exit(1)  # the agent is gone: nobody is left to say what to serve
            try:
                answer = await self._do(message)
            except CertcastError as error:
                answer = wire.told_trouble(error)
            with contextlib.suppress(OSError):
                await wire.send(writer, answer)
            if message["do"] == "stop":
                loop.remove_reader(passage)
                writer.close()
                return

    async def _do(self, message: wire.Message) -> wire.Message:
        if self._listeners is None:
            self._listeners = Listeners(wire.understood_serving(message["serving"]))
            return {}
        match message["do"]:
            case "load":
                await self._listeners.prepare(wire.understood_changes(message), listening=False)
                self._listeners.commit()
            case "listen":
                await self._listeners.open(message["ports"])
            case "prepare":
                await self._listeners.prepare(wire.understood_changes(message))
            case "commit":
                self._listeners.commit()
            case "abort":
                self._listeners.abort()
            case "stop":
                await self._listeners.stop()
        return {"digest": wire.digest(self._listeners.served())}

    def _take_connection(self, passage: socket.socket) -> None:
        """Serve a connection that the agent opened, to see what is served."""
        try:
            data, descriptors, _, _ = socket.recv_fds(passage, PORT_BYTES, 1)
        except BlockingIOError:
            return
        for descriptor in descriptors:
            connected = socket.socket(fileno=descriptor)
            connected.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._adopt(int.from_bytes(data), connected))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)
        if not data:
            asyncio.get_running_loop().remove_reader(passage)

    async def _adopt(self, port: int, connected: socket.socket) -> None:
        if self._listeners is None:
            connected.close()
            return
        with contextlib.suppress(OSError):  # the agent sees it too
            await self._listeners.adopt(port, connected)


def _end_with(parent: int) -> None:
    """Have the kernel end this process with the agent, whatever it is doing then.

    The kernel goes by the thread that started the worker, which is the one that runs the agent's event loop.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it was gone before that
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
