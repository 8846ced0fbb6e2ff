"""A real nginx on loopback ports, configured for the agent's nginx target.

It serves nothing until an agent with `agent_environment` was started beside it.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from local_azure.processes.listening import LOOPBACK
from local_azure.servers.base import WebServer
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LUA_PACKAGES = "libnginx-mod-http-lua lua-resty-core lua-resty-lrucache"
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


@dataclass(kw_only=True)
class NginxServer(WebServer):
    """An nginx (a master and its workers).

    Attributes:
        dynamic: Whether to load the Lua module; where it is installed when None.
        worker_user: The user of the workers, where nginx is started by root.
        workers: How many there are.
        extra_http: Further lines for the `http` block.
        socket: The agent's socket.
    """

    title = "nginx"
    program = "nginx"
    packages = f"nginx {_LUA_PACKAGES}"
    folders = re.compile(r"[A-Za-z0-9 ._/@+=,:~-]*\Z")

    dynamic: bool | None = None
    worker_user: str = "root"
    workers: int = 2
    extra_http: str = ""
    socket: Path = field(init=False, repr=False)

    @property
    def agent_environment(self) -> dict[str, str]:
        """The settings of an agent beside it, once it was started."""
        return {
            "CERTCAST_TARGET": "nginx",
            "CERTCAST_NGINX_MODE": "dynamic" if self._modules() else "blocks",
            "CERTCAST_NGINX_COMMAND": f"{self.find()} -e stderr -p '{self.folder}' -c '{self.folder / 'nginx.conf'}'",
            "CERTCAST_NGINX_FOLDER": str(self.certificates),
            "CERTCAST_NGINX_SOCKET": str(self.socket),
            "CERTCAST_NGINX_ADDRESS": LOOPBACK,
            "CERTCAST_NGINX_PORT_OFFSET": str(self.port_offset),
            "CERTCAST_NGINX_PORTS": ",".join(map(str, self.port_numbers)),
        }

    def _modules(self) -> tuple[Path, ...]:
        """The modules to load.

        Raises:
            ConfigurationError: `dynamic` asks for them, and they are not installed.
        """
        found = find_lua_modules()
        if self.dynamic and not found:
            raise ConfigurationError(
                f"nginx's Lua module was not found: install it, for example with `apt-get install {_LUA_PACKAGES}`"
            )
        return () if self.dynamic is False else found

    def _files(self) -> Mapping[Path, bytes]:
        self.socket = self._socket_path("control.sock")
        (self.folder / "temporary").mkdir(mode=0o755, exist_ok=True)
        text = _CONFIGURATION.format(
            modules="".join(f'load_module "{path}";\n' for path in self._modules()),
            user=f"user {self.worker_user};\n" if sys.platform != "win32" and os.geteuid() == 0 else "",
            folder=self.folder,
            workers=self.workers,
            extra=self.extra_http,
        )
        return {self.folder / "nginx.conf": text.encode()}

    def _prepare(self) -> None:
        super()._prepare()
        # An nginx that was killed leaves its socket, and the next one does not start over it.
        self.socket.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)

    def _command(self) -> list[str]:
        return [self.find(), "-e", "stderr", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]

    async def _is_ready(self) -> bool:
        """Whether the pid file is there, which nginx writes once it holds its ports."""
        return await asyncio.to_thread(self._pid_file.exists)

    @property
    def _pid_file(self) -> Path:
        return self.folder / "nginx.pid"


def find_lua_modules() -> tuple[Path, ...]:
    """The Lua module and the one it needs, in the order in which nginx loads them; none where they are missing."""
    for folder in _MODULE_FOLDERS:
        paths = tuple(folder / name for name in _MODULES)
        if all(path.exists() for path in paths):
            return paths
    return ()
