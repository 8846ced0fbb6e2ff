"""A real HAProxy on loopback ports, configured for the agent's haproxy target."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.haproxy.session import Session
from instance_agent.targets.parts.fallback import self_made_fallback
from local_azure.processes.listening import LOOPBACK
from local_azure.servers.base import WebServer
from shared.bundle import CertificateBundle

if TYPE_CHECKING:
    from collections.abc import Mapping

_GLOBAL = """\
global
    stats socket {socket} mode 600 level admin
    maxconn 1000
{extra}
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s

"""
_FRONTEND = """\
frontend https_{port_number}
    bind {address}:{port} ssl crt-list {default_list} crt-list {crt_list} alpn h2,http/1.1
    http-request return status 200 content-type "text/plain" lf-string "%[req.hdr(host)] on HAProxy\\n"

"""


@dataclass(kw_only=True)
class HAProxyServer(WebServer):
    """A HAProxy (a master and its worker); what an earlier run left in its folder is served again.

    Attributes:
        fallback: Served where nothing is bound, unless an earlier run left one; self-signed when none is given.
        extra_global: Further lines for the section `global`.
        socket: Its admin socket.
    """

    title = "HAProxy"
    program = "haproxy"
    packages = "haproxy"
    folders = re.compile(r"[A-Za-z0-9._/@+-]*\Z")

    fallback: CertificateBundle = field(default_factory=lambda: self_made_fallback(datetime.now(UTC)), repr=False)
    extra_global: str = ""
    socket: Path = field(init=False, repr=False)

    @property
    def agent_environment(self) -> dict[str, str]:
        """The settings of an agent beside it, once it was started."""
        return {
            "CERTCAST_TARGET": "haproxy",
            "CERTCAST_HAPROXY_SOCKET": str(self.socket),
            "CERTCAST_HAPROXY_FOLDER": str(self.certificates),
            "CERTCAST_HAPROXY_RELOAD": f"kill -USR2 {self.process.pid}",
            "CERTCAST_HAPROXY_ADDRESS": LOOPBACK,
            "CERTCAST_HAPROXY_PORT_OFFSET": str(self.port_offset),
        }

    def _files(self) -> Mapping[Path, bytes]:
        self.socket = self._socket_path("admin.sock")
        text = _GLOBAL.format(socket=self.socket, extra=self.extra_global)
        files: dict[Path, bytes] = {}
        for number in self.port_numbers:
            crt_list, default_list, default = (
                self.certificates / f"{number}{ending}" for ending in (".list", ".default.list", ".default.pem")
            )
            new = {default: self.fallback.to_pem(), crt_list: b"", default_list: f"{default} !*\n".encode()}
            files |= {path: content for path, content in new.items() if not path.exists()}
            text += _FRONTEND.format(
                port_number=number,
                address=LOOPBACK,
                port=number + self.port_offset,
                default_list=default_list,
                crt_list=crt_list,
            )
        return files | {self.folder / "haproxy.cfg": text.encode()}

    def _command(self) -> list[str]:
        return [self.find(), "-W", "-db", "-f", str(self.folder / "haproxy.cfg")]

    async def _is_ready(self) -> bool:
        try:
            async with Session(self.socket) as session:
                await session.identity()
        except ServerUnavailableError:
            return False
        return True
