"""A real nginx on loopback ports, configured for the agent's nginx target; certificates are the agent's business."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_azure.processes import child as child_process
from local_azure.processes.child import ChildEndedError, ChildProcess, OnLine
from local_azure.servers.socket_path import forget_socket_path, socket_path
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_START_TIMEOUT_S = 60.0
_POLL_S = 0.02
_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
_MODULE_FOLDERS = (
    Path("/usr/lib/nginx/modules"),
    Path("/usr/lib64/nginx/modules"),
    Path("/usr/local/lib/nginx/modules"),
)
_CONFIGURATION = """\
{modules}{user}daemon off;
pid "{folder}/nginx.pid";
error_log stderr notice;
worker_processes {workers};
events {{
    worker_connections 1024;
}}
http {{
    access_log off;
    # nginx closes a connection after 1,000 requests, which a load generator would take for a failure.
    keepalive_requests 100000000;
    client_body_temp_path "{folder}/temporary/body";
    proxy_temp_path "{folder}/temporary/proxy";
    fastcgi_temp_path "{folder}/temporary/fastcgi";
    uwsgi_temp_path "{folder}/temporary/uwsgi";
    scgi_temp_path "{folder}/temporary/scgi";
{extra}    include "{folder}/certcast/*.conf";
}}
"""


@dataclass(slots=True, kw_only=True)
class NginxServer:
    """A running nginx (a master and its workers); made by `start_nginx`.

    Attributes:
        folder: Holds its configuration and the agent's folder.
        address: Where it listens.
        port_offset: PortNumber p is served at p + this.
        port_numbers: PortNumbers that uploads may name.
        mode: The agent's mode.
        socket: The agent's socket.
        process: The master.
    """

    folder: Path
    address: str
    port_offset: int
    port_numbers: tuple[int, ...]
    mode: str
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
    def agent_environment(self) -> dict[str, str]:
        """The settings of an agent beside it."""
        return {
            "CERTCAST_TARGET": "nginx",
            "CERTCAST_NGINX_MODE": self.mode,
            "CERTCAST_NGINX_COMMAND": f"{find_nginx()} -e stderr -p '{self.folder}' -c '{self.folder / 'nginx.conf'}'",
            "CERTCAST_NGINX_FOLDER": str(self.certificates),
            "CERTCAST_NGINX_SOCKET": str(self.socket),
            "CERTCAST_NGINX_ADDRESS": self.address,
            "CERTCAST_NGINX_PORT_OFFSET": str(self.port_offset),
            "CERTCAST_NGINX_PORTS": ",".join(map(str, self.port_numbers)),
        }

    async def stop(self) -> None:
        """End it and wait until it is gone."""
        await self.process.stop()

    async def close(self) -> None:
        """End it for good."""
        await self.stop()
        await asyncio.to_thread(forget_socket_path, self.socket)

    async def start_again(self) -> None:
        """Start it once it has ended, however that was, over the same files."""
        # nginx that was killed leaves its socket, and the next one does not start over it.
        await asyncio.to_thread(self.socket.unlink, missing_ok=True)
        self.process = await _start(self.folder, self._name, self._log, self._on_line)


async def start_nginx(
    folder: Path,
    *,
    port_offset: int,
    port_numbers: Sequence[int] = (443,),
    address: str = "127.0.0.1",
    dynamic: bool | None = None,
    worker_user: str = "root",
    workers: int = 2,
    extra_http: str = "",
    name: str = "nginx",
    log: Path | None = None,
    on_line: OnLine | None = None,
) -> NginxServer:
    """Write a configuration into a folder, start nginx on it and wait until it runs.

    It serves nothing until an agent with `agent_environment` was started beside it.

    Args:
        folder: Made if need be; what an earlier run left there is served again.
        port_offset: PortNumber p is served at p + this.
        port_numbers: PortNumbers that uploads may name.
        address: Where it listens.
        dynamic: Whether to load the Lua module; where it is installed when None.
        worker_user: Whom the workers run as, where nginx is started by root.
        workers: How many there are.
        extra_http: Further lines for the `http` block.
        name: What log lines and errors call it.
        log: File its output is appended to.
        on_line: Called with each line of its output, on another thread.

    Raises:
        ConfigurationError: nginx, or its Lua module where `dynamic` asks for it, is not installed.
        ChildEndedError: It did not come up.
    """
    modules = find_lua_modules()
    if dynamic and not modules:
        raise ConfigurationError(
            "nginx's Lua module was not found: install it, for example with "
            "`apt-get install libnginx-mod-http-lua lua-resty-core lua-resty-lrucache`"
        )
    loaded = modules if dynamic or dynamic is None else ()
    (folder / "temporary").mkdir(mode=0o755, parents=True, exist_ok=True)
    text = _CONFIGURATION.format(
        modules="".join(f'load_module "{path}";\n' for path in loaded),
        user=f"user {worker_user};\n" if sys.platform != "win32" and os.geteuid() == 0 else "",
        folder=folder,
        workers=workers,
        extra=extra_http,
    )
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    socket = socket_path(folder, "control.sock")
    try:
        process = await _start(folder, name, log, on_line)
    except BaseException:
        forget_socket_path(socket)
        raise
    return NginxServer(
        folder=folder,
        address=address,
        port_offset=port_offset,
        port_numbers=tuple(port_numbers),
        mode="dynamic" if loaded else "blocks",
        socket=socket,
        process=process,
        _name=name,
        _log=log,
        _on_line=on_line,
    )


def find_nginx() -> str:
    """Path of the nginx program; Debian keeps it where only root's PATH looks.

    Raises:
        ConfigurationError: It is not installed.
    """
    path = shutil.which("nginx") or shutil.which("nginx", path=os.pathsep.join(("/usr/sbin", "/usr/local/sbin")))
    if path is None:
        raise ConfigurationError(
            "nginx was not found: install it with the Lua module that spares it reloads, for example with "
            "`apt-get install nginx libnginx-mod-http-lua lua-resty-core lua-resty-lrucache`"
        )
    return path


def find_lua_modules() -> tuple[Path, ...]:
    """The Lua module and the one it needs, in the order in which nginx loads them; none where they are missing."""
    for folder in _MODULE_FOLDERS:
        paths = tuple(folder / name for name in _MODULES)
        if all(path.exists() for path in paths):
            return paths
    return ()


async def _start(folder: Path, name: str, log: Path | None, on_line: OnLine | None) -> ChildProcess:
    pid_file = folder / "nginx.pid"
    await asyncio.to_thread(pid_file.unlink, missing_ok=True)
    command = [find_nginx(), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = child_process.start(name, command, folder=folder, log=log, on_line=on_line)
    try:
        await _running(process, pid_file)
    except BaseException:
        await process.stop()
        raise
    return process


async def _running(process: ChildProcess, pid_file: Path) -> None:
    """Wait for the pid file, which nginx writes once it holds its ports."""
    deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:
        if await asyncio.to_thread(pid_file.exists):
            return
        await asyncio.sleep(_POLL_S)
    raise ChildEndedError(f"nginx did not come up; its last lines: {' | '.join(process.last_lines[-5:]) or 'none'}")
