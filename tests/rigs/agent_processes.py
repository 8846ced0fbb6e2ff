"""Real agents with the embedded target, each a process of its own, at a storage emulator."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import aiohttp

from instance_agent.targets.embedded.target import HTTPS_PORT
from local_azure.processes.listening import free_port
from shared.messages import queue_of
from tests.rigs.deployment import ROOT
from tests.rigs.emulator import Emulator

_PATIENCE_S = 60
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@dataclass
class AgentProcess:
    """One agent.

    Attributes:
        queue: Its queue.
        tls: Where it serves PortNumber 443.
        health: Its health port.
        lines: What it has said.
    """

    process: asyncio.subprocess.Process
    queue: str
    tls: tuple[str, int]
    health: int
    lines: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    async def asked(self, path: str) -> tuple[int, str]:
        """What its health port answers."""
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{self.health}{path}") as answer,
        ):
            return answer.status, await answer.text()

    async def ready(self) -> str:
        """Wait until it has applied everything, and tell how it says so."""
        async with asyncio.timeout(_PATIENCE_S):
            while self.process.returncode is None:
                try:
                    status, text = await self.asked("/readyz")
                except aiohttp.ClientError:
                    status, text = 0, ""
                if status == 200:
                    return text
                await asyncio.sleep(0.1)
        raise AssertionError(self.log)

    async def ended(self) -> int:
        """Wait until it has ended by itself, and tell its exit code."""
        async with asyncio.timeout(_PATIENCE_S):
            return await self.process.wait()

    async def kill(self) -> None:
        """End it as a power failure would."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def agent_process(
    emulator: Emulator, key: Path, instance: str, *, port: int | None = None, env: Mapping[str, str] = NO_SETTINGS
) -> AsyncIterator[AgentProcess]:
    """An agent that is asked to end afterwards.

    Args:
        emulator: Where its account is.
        key: The key file that bundles are sealed under.
        instance: Its `CERTCAST_INSTANCE`.
        port: Where it serves PortNumber 443; a free one by default.
        env: Further settings.
    """
    port, health = port or free_port(), free_port()
    settings = {
        "CERTCAST_STORAGE": emulator.connection_string,
        "CERTCAST_KEY_ENCRYPTION_KEY": f"file:{key}",
        "CERTCAST_INSTANCE": instance,
        "CERTCAST_EMBEDDED_PORT_OFFSET": str(port - HTTPS_PORT),
        "CERTCAST_HEALTH_PORT": str(health),
        **env,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "instance_agent", "run"),
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    agent = AgentProcess(process=process, queue=queue_of(instance), tls=("127.0.0.1", port), health=health)
    reading = asyncio.create_task(_read(process.stderr, agent.lines))
    try:
        yield agent
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _PATIENCE_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading


async def _read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    assert stream is not None
    while line := await stream.readline():
        lines.append(line.decode(errors="replace").rstrip())
