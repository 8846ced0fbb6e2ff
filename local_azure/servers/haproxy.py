"""A real HAProxy on loopback ports, configured for the agent's haproxy target; certificates are the agent's matter."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.haproxy.session import Session
from instance_agent.targets.parts.fallback import self_made_fallback
from instance_agent.targets.parts.file_batch import FileBatch
from local_azure.processes import child as child_process
from local_azure.processes.child import ChildEndedError, ChildProcess, OnLine
from local_azure.servers.socket_path import forget_socket_path, socket_path
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.bundle import CertificateBundle

_START_TIMEOUT_S = 60.0
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
    bind {address}:{port} ssl crt {fallback} crt-list {crt_list} alpn h2,http/1.1
    http-request return status 200 content-type "text/plain" lf-string "%[req.hdr(host)] on HAProxy\\n"

"""


@dataclass(slots=True, kw_only=True)
class HAProxyServer:
    """A running HAProxy (a master and its worker); made by `start_haproxy`.

    Attributes:
        folder: Holds its configuration and the certificates.
        address: Where it listens.
        port_offset: PortNumber p is served at p + this.
        fallback_fingerprint: Of what it serves where nothing is bound.
        socket: Its admin socket.
        process: The master.
    """

    folder: Path
    address: str
    port_offset: int
    fallback_fingerprint: str
    socket: Path
    process: ChildProcess
    _name: str
    _log: Path | None
    _on_line: OnLine | None

    @property
    def certificates(self) -> Path:
        """The folder it shares with the agent."""
        return self.folder / "certcast"

    @property
    def reload_command(self) -> tuple[str, ...]:
        """Program and arguments that have it read its files again."""
        return ("kill", "-USR2", str(self.process.pid))

    @property
    def agent_environment(self) -> dict[str, str]:
        """The settings of an agent beside it."""
        return {
            "CERTCAST_TARGET": "haproxy",
            "CERTCAST_HAPROXY_SOCKET": str(self.socket),
            "CERTCAST_HAPROXY_FOLDER": str(self.certificates),
            "CERTCAST_HAPROXY_RELOAD": " ".join(self.reload_command),
            "CERTCAST_HAPROXY_ADDRESS": self.address,
            "CERTCAST_HAPROXY_PORT_OFFSET": str(self.port_offset),
        }

    async def stop(self) -> None:
        """End it and wait until it is gone."""
        await self.process.stop()

    async def close(self) -> None:
        """End it for good."""
        await self.stop()
        await asyncio.to_thread(forget_socket_path, self.socket)

    async def start_again(self) -> None:
        """Start it once it has ended, over the same files."""
        self.process = await _start(self.folder, self.socket, self._name, self._log, self._on_line)


async def start_haproxy(
    folder: Path,
    *,
    port_offset: int,
    port_numbers: Sequence[int] = (443,),
    address: str = "127.0.0.1",
    fallback: CertificateBundle | None = None,
    extra_global: str = "",
    name: str = "haproxy",
    log: Path | None = None,
    on_line: OnLine | None = None,
) -> HAProxyServer:
    """Write a configuration into a folder, start HAProxy on it and wait until its socket answers.

    Args:
        folder: Made if need be; what an earlier run left there is served again.
        port_offset: PortNumber p is served at p + this.
        port_numbers: PortNumbers that uploads may name.
        address: Where it listens.
        fallback: Served where nothing is bound; self-signed when None.
        extra_global: Further lines for the section `global`.
        name: What log lines and errors call it.
        log: File its output is appended to.
        on_line: Called with each line of its output, on another thread.

    Raises:
        ConfigurationError: HAProxy is not installed.
        ChildEndedError: It did not come up.
    """
    certificates = folder / "certcast"
    certificates.mkdir(mode=0o700, parents=True, exist_ok=True)
    chosen = fallback or self_made_fallback(datetime.now(UTC))
    socket = socket_path(folder, "admin.sock")
    text = _GLOBAL.format(socket=socket, extra=extra_global)
    files = FileBatch(folder / ".staging")
    files.write(folder / "fallback.pem", chosen.to_pem())
    for number in port_numbers:
        crt_list = certificates / f"{number}.list"
        if not crt_list.exists():
            files.write(crt_list, b"")
        text += _FRONTEND.format(
            port_number=number,
            address=address,
            port=number + port_offset,
            fallback=folder / "fallback.pem",
            crt_list=crt_list,
        )
    files.write(folder / "haproxy.cfg", text.encode())
    await asyncio.to_thread(files.commit)
    files.close()
    try:
        process = await _start(folder, socket, name, log, on_line)
    except BaseException:
        forget_socket_path(socket)
        raise
    return HAProxyServer(
        folder=folder,
        address=address,
        port_offset=port_offset,
        fallback_fingerprint=chosen.fingerprint_sha256,
        socket=socket,
        process=process,
        _name=name,
        _log=log,
        _on_line=on_line,
    )


def find_haproxy() -> str:
    """Path of the haproxy program; Debian keeps it where only root's PATH looks.

    Raises:
        ConfigurationError: It is not installed.
    """
    path = shutil.which("haproxy") or shutil.which("haproxy", path=os.pathsep.join(("/usr/sbin", "/usr/local/sbin")))
    if path is None:
        raise ConfigurationError("HAProxy was not found: install it, for example with `apt-get install haproxy`")
    return path


async def _start(folder: Path, socket: Path, name: str, log: Path | None, on_line: OnLine | None) -> ChildProcess:
    command = [find_haproxy(), "-W", "-db", "-f", str(folder / "haproxy.cfg")]
    process = child_process.start(name, command, folder=folder, log=log, on_line=on_line)
    try:
        await _answering(process, socket)
    except BaseException:
        await process.stop()
        raise
    return process


async def _answering(process: ChildProcess, socket: Path) -> None:
    deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:
        try:
            async with Session(socket) as session:
                await session.identity()
        except ServerUnavailableError:
            await asyncio.sleep(0.02)
        else:
            return
    raise ChildEndedError(f"HAProxy did not come up; its last lines: {' | '.join(process.last_lines[-5:]) or 'none'}")
