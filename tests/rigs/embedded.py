"""The embedded target on free ports of this machine.

`python -m tests.rigs.embedded PORT DESCRIPTORS` serves until its standard input ends, in a process that may have this
many files and sockets open.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from instance_agent.installing.probe import served_fingerprint
from instance_agent.targets.base import Remove
from instance_agent.targets.embedded.settings import EmbeddedSettings
from instance_agent.targets.embedded.target import HTTPS_PORT, EmbeddedTarget
from instance_agent.targets.parts.endpoints import Endpoints
from local_azure.processes.listening import free_port
from shared.bundle import CertificateBundle
from tests.rigs.deployment import ROOT
from tests.rigs.targets import change_to

if sys.platform != "win32":
    import resource


def target_on(port: int, *, address: str = "127.0.0.1", **settings: Any) -> EmbeddedTarget:
    """A target, not started, whose PortNumber 443 is this port."""
    endpoints = Endpoints(server="EMBEDDED", address=address, port_offset=port - HTTPS_PORT)
    return EmbeddedTarget(EmbeddedSettings(endpoints=endpoints, **settings))


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[EmbeddedTarget]:
    """A started target whose PortNumbers 443 and 444 are free ports."""
    target = target_on(free_port(2), **settings)
    await target.start()
    try:
        yield target
    finally:
        await target.stop()


class EmbeddedRig:
    """The target is the server."""

    ports = (443, 444)
    probe = staticmethod(served_fingerprint)

    def __init__(self, target: EmbeddedTarget) -> None:
        self.target = target
        self.fallback = target.fallback.fingerprint_sha256

    async def restart_agent(self) -> None:
        raise NotImplementedError("its bindings live in the agent and end with it")

    async def tamper(self, host: str, port: int, bundle: CertificateBundle) -> None:
        """Behind the target's own table, as only a defect could."""
        await self.target.listeners.swap([change_to(bundle, host, port)])

    async def untie(self, host: str, port: int) -> None:
        await self.target.listeners.swap([Remove(host=host, port=port)])


@asynccontextmanager
async def serving_alone(log: Path, *, descriptors: int = 1024) -> AsyncIterator[tuple[str, int]]:
    """A target in a process of its own that may open no more than this; where it listens.

    Args:
        log: Where everything goes that the process says.
        descriptors: Files and sockets that it may have open.
    """
    port = free_port()
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.rigs.embedded", str(port), str(descriptors)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=written,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield "127.0.0.1", port
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _serve_alone(port: int, descriptors: int) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    target = target_on(port)
    await target.start()
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    print("ready", flush=True)  # noqa: T201 - to the test that waits for it
    await asyncio.to_thread(sys.stdin.read)
    await target.stop()


if __name__ == "__main__":
    asyncio.run(_serve_alone(int(sys.argv[1]), int(sys.argv[2])))
