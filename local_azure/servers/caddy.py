"""A real Caddy on a loopback port, configured for the agent's caddy target."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.caddy.manager import USER
from local_azure.processes.listening import LOOPBACK, free_port
from local_azure.servers.base import WebServer

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(kw_only=True)
class CaddyServer(WebServer):
    """A Caddy for one PortNumber, since a Caddy chooses certificates by name alone; it needs no agent to start.

    Attributes:
        listen: Where it asks an agent for certificates; the Caddys beside one agent ask at the same place.
        password: What it says there.
        admin: The socket of its admin API.
    """

    title = "Caddy"
    program = "caddy"
    packages = "caddy"

    listen: str = field(default_factory=lambda: f"{LOOPBACK}:{free_port()}")
    password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    admin: Path = field(init=False, repr=False)

    @property
    def agent_environment(self) -> dict[str, str]:
        """The settings of an agent beside it."""
        return {
            "CERTCAST_TARGET": "caddy",
            "CERTCAST_CADDY_LISTEN": self.listen,
            "CERTCAST_CADDY_PASSWORD": self.password,
            "CERTCAST_CADDY_FOLDER": str(self.certificates),
            "CERTCAST_CADDY_ADDRESS": LOOPBACK,
            "CERTCAST_CADDY_PORT_OFFSET": str(self.port_offset),
            "CERTCAST_CADDY_ADMIN": f"unix/{self.admin}",
        }

    def _files(self) -> Mapping[Path, bytes]:
        self.admin = self._socket_path(f"admin-{self._port_number}.sock")
        page = {"handler": "static_response", "body": "{http.request.host} on Caddy\n"}
        manager = {"via": "http", "url": f"http://{USER}:{self.password}@{self.listen}/{self._port_number}"}
        configuration = {
            "admin": {"listen": f"unix/{self.admin}", "config": {"persist": False}},
            "storage": {"module": "file_system", "root": str(self.folder / "data")},
            "apps": {
                "tls": {"automation": {"policies": [{"get_certificate": [manager]}]}},
                "http": {
                    "servers": {
                        "https": {
                            "listen": [f"{LOOPBACK}:{self._port}"],
                            "automatic_https": {"disable": True},
                            "tls_connection_policies": [{}],
                            "routes": [{"handle": [page]}],
                        }
                    }
                },
            },
        }
        return {self._file: json.dumps(configuration, indent=2).encode()}

    def _prepare(self) -> None:
        super()._prepare()
        self.admin.unlink(missing_ok=True)  # one that was killed leaves it

    def _command(self) -> list[str]:
        return [self.find(), "run", "--config", str(self._file)]

    def _environment(self) -> Mapping[str, str]:
        return {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder / "data")}

    async def _is_ready(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    @property
    def _port_number(self) -> int:
        [only] = self.port_numbers
        return only

    @property
    def _port(self) -> int:
        return self._port_number + self.port_offset

    @property
    def _file(self) -> Path:
        return self.folder / f"caddy-{self._port_number}.json"
