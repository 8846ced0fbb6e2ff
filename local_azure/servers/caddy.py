"""A real Caddy on loopback ports, configured for the agent's caddy target; certificates are the agent's matter."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.caddy.manager import USER
from instance_agent.targets.parts.file_batch import FileBatch, make_folder
from local_azure.processes import child as child_process
from local_azure.processes.child import ChildEndedError, ChildProcess, OnLine
from local_azure.processes.listening import free_port
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_START_TIMEOUT_S = 60.0
_PAUSE_S = 0.02


@dataclass(slots=True, kw_only=True)
class CaddyServer:
    """One running Caddy for each PortNumber, since a Caddy chooses certificates by name alone; made by `start_caddy`.

    Attributes:
        folder: Holds configurations, Caddy's own data and what the agent keeps.
        address: Where it listens.
        port_offset: PortNumber p is served at p + this.
        processes: By PortNumber.
    """

    folder: Path
    address: str
    port_offset: int
    processes: dict[int, ChildProcess]
    _listen: str
    _password: str = field(repr=False)
    _name: str
    _log: Path | None
    _on_line: OnLine | None

    @property
    def process(self) -> ChildProcess:
        """The one for the first PortNumber."""
        return next(iter(self.processes.values()))

    @property
    def agent_environment(self) -> dict[str, str]:
        """The settings of an agent beside it."""
        return {
            "CERTCAST_TARGET": "caddy",
            "CERTCAST_CADDY_LISTEN": self._listen,
            "CERTCAST_CADDY_PASSWORD": self._password,
            "CERTCAST_CADDY_FOLDER": str(self.folder / "certcast"),
            "CERTCAST_CADDY_ADDRESS": self.address,
            "CERTCAST_CADDY_PORT_OFFSET": str(self.port_offset),
        }

    async def stop(self) -> None:
        """End it and wait until it is gone."""
        await asyncio.gather(*(process.stop() for process in self.processes.values()))

    async def close(self) -> None:
        """End it for good."""
        await self.stop()

    async def start_again(self) -> None:
        """Start it once it has ended, with the same configuration."""
        for number in list(self.processes):
            await self.start(number)

    async def start(self, number: int) -> None:
        """Start the one for a PortNumber, and wait until it listens.

        Raises:
            ChildEndedError: It did not come up.
        """
        command = [find_caddy(), "run", "--config", str(self.folder / f"caddy-{number}.json")]
        environment = dict(os.environ) | {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder / "data")}
        process = child_process.start(
            self._name, command, environment=environment, folder=self.folder, log=self._log, on_line=self._on_line
        )
        self.processes[number] = process
        await _listening(process, self.address, number + self.port_offset)


async def start_caddy(
    folder: Path,
    *,
    port_offset: int,
    port_numbers: Sequence[int] = (443,),
    address: str = "127.0.0.1",
    name: str = "caddy",
    log: Path | None = None,
    on_line: OnLine | None = None,
) -> CaddyServer:
    """Write configurations into a folder, start Caddy on them and wait until it listens; it needs no agent for that.

    Args:
        folder: Made if need be.
        port_offset: PortNumber p is served at p + this.
        port_numbers: PortNumbers that uploads may name.
        address: Where it listens.
        name: What log lines and errors call it.
        log: File its output is appended to.
        on_line: Called with each line of its output, on another thread.

    Raises:
        ConfigurationError: Caddy is not installed.
        ChildEndedError: It did not come up.
    """
    listen, password = f"127.0.0.1:{free_port()}", secrets.token_hex(24)
    await asyncio.to_thread(make_folder, folder)
    files = FileBatch(folder / ".staging")
    for number in port_numbers:
        configuration = _configuration(
            f"http://{USER}:{password}@{listen}/{number}", f"{address}:{number + port_offset}", folder / "data"
        )
        files.write(folder / f"caddy-{number}.json", json.dumps(configuration, indent=2).encode())
    await asyncio.to_thread(files.commit)
    await asyncio.to_thread(files.close)
    server = CaddyServer(
        folder=folder,
        address=address,
        port_offset=port_offset,
        processes={},
        _listen=listen,
        _password=password,
        _name=name,
        _log=log,
        _on_line=on_line,
    )
    try:
        for number in port_numbers:
            await server.start(number)
    except BaseException:
        await server.stop()
        raise
    return server


def find_caddy() -> str:
    """Path of the caddy program.

    Raises:
        ConfigurationError: It is not installed.
    """
    path = shutil.which("caddy")
    if path is None:
        raise ConfigurationError("Caddy was not found: install it, for example with `apt-get install caddy`")
    return path


def _configuration(url: str, listen: str, data: Path) -> dict[str, object]:
    page = {"handler": "static_response", "body": "{http.request.host} on Caddy\n"}
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(data)},
        "apps": {
            "tls": {"automation": {"policies": [{"get_certificate": [{"via": "http", "url": url}]}]}},
            "http": {
                "servers": {
                    "https": {
                        "listen": [listen],
                        "automatic_https": {"disable": True},
                        "tls_connection_policies": [{}],
                        "routes": [{"handle": [page]}],
                    }
                }
            },
        },
    }


async def _listening(process: ChildProcess, address: str, port: int) -> None:
    deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(_PAUSE_S)
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise ChildEndedError(f"Caddy did not come up; its last lines: {' | '.join(process.last_lines[-5:]) or 'none'}")
