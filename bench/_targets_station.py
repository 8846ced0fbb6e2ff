"""One server with one target beside it, in a process of its own, told what to do line by line by bench/targets.py.

Orders come on standard input and answers leave on standard output, one JSON object a line; the end of the input ends
everything. What is measured, and in which order, is decided in bench/targets.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.hazmat.primitives.asymmetric import ec

from instance_agent.installing.installer import install
from instance_agent.installing.probe import served_fingerprint
from instance_agent.selection import make_target
from instance_agent.targets.base import Install, Remove
from local_azure.processes.child import start_child
from local_azure.processes.listening import port_offsets
from local_azure.servers.caddy import CaddyServer
from local_azure.servers.haproxy import HAProxyServer
from local_azure.servers.nginx import NginxServer
from shared.bundle import bundle_id
from shared.errors import CertcastError
from tests.rigs.certificates import authority

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from instance_agent.targets.base import BindingTarget
    from local_azure.servers.base import WebServer

PORT = 443
STATIC = "nginx static"
_PATIENCE_S = 60.0

# What the body of a server block and the http block are when certcast writes them, with one certificate and no agent.
_STATIC = """\
daemon off;
pid "{folder}/nginx.pid";
{user}error_log stderr notice;
worker_processes 1;
events {{
    worker_connections 1024;
}}
http {{
    access_log off;
    keepalive_requests 100000000;
    server {{
        listen 127.0.0.1:{port} ssl default_server;
        server_name _;
        ssl_certificate "{folder}/one.pem";
        ssl_certificate_key "{folder}/one.pem";
        ssl_protocols TLSv1.2 TLSv1.3;
        location / {{
            default_type text/plain;
            return 200 "one certificate\\n";
        }}
    }}
}}
"""


class Certificates:
    """As many distinct certificates as are asked for, all of one P-256 key: making keys is not what is measured."""

    def __init__(self) -> None:
        self._authority = authority("certcast bench CA")
        self._key = ec.generate_private_key(ec.SECP256R1())

    def binding(self, host: str) -> Install:
        """The change that serves a new certificate for a host."""
        bundle = self._authority.issue(host, key=self._key).bundle()
        return Install(host=host, port=PORT, bundle_id=bundle_id(bundle, host.encode()), bundle=bundle, generation=1)


class Station:
    """The server, the target, and the changes that are ready to be made."""

    def __init__(self, kind: str, stack: AsyncExitStack) -> None:
        self._kind = kind
        self._stack = stack
        self._certificates = Certificates()
        self._target: BindingTarget | None = None
        self._offset = 0
        self._ready: Install | None = None

    async def start(self) -> dict[str, Any]:
        """Start server and target."""
        [self._offset] = self._stack.enter_context(port_offsets(1, ports=(PORT,)))
        folder = self._folder()
        if self._kind == STATIC:
            await self._start_static(folder)
        else:
            self._target = make_target(*await self._environment(folder))
            await self._target.start()
            self._stack.push_async_callback(self._target.stop)
        return {"address": ["127.0.0.1", PORT + self._offset], "version": await self._version()}

    async def fill(self, hosts: Sequence[str]) -> dict[str, Any]:
        """Bind this many hosts in one batch."""
        if self._target is None:
            return {"seconds": 0.0, "fingerprints": [self._static_fingerprint] * len(hosts)}
        changes = [self._certificates.binding(host) for host in hosts]
        began = time.perf_counter()
        await self._target.apply(changes)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "fingerprints": [change.bundle.fingerprint_sha256 for change in changes]}

    async def prepare(self, host: str) -> dict[str, Any]:
        """Have a certificate ready."""
        self._ready = self._certificates.binding(host)
        return {"fingerprint": self._ready.bundle.fingerprint_sha256}

    async def add(self) -> dict[str, Any]:
        """Bind the host that is ready, as `BindingTarget.apply` does it; times are CLOCK_MONOTONIC, seconds."""
        target, change = self._both()
        began = time.monotonic()
        await target.apply([change])
        return {"began": began, "ended": time.monotonic()}

    async def remove(self) -> dict[str, Any]:
        """Unbind it again."""
        target, change = self._both()
        began = time.monotonic()
        await target.apply([Remove(host=change.host, port=change.port)])
        return {"began": began, "ended": time.monotonic()}

    async def install(self) -> dict[str, Any]:
        """Bind the host that is ready as the agent does: what is bound is asked, and the proof is the agent's own."""
        target, change = self._both()
        began = time.monotonic()
        (result,) = await install(target, [change], served_fingerprint)
        return {"began": began, "ended": time.monotonic(), "outcome": result.outcome}

    def _both(self) -> tuple[BindingTarget, Install]:
        assert self._target is not None
        assert self._ready is not None
        return self._target, self._ready

    def _folder(self) -> Path:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)  # nginx's workers enter it; what is secret in it is in folders of its own
        return folder

    async def _environment(self, folder: Path) -> tuple[str, Mapping[str, str]]:
        if self._kind == "embedded":
            return "embedded", {"CERTCAST_EMBEDDED_PORT_OFFSET": str(self._offset)}
        server: WebServer
        if self._kind == "haproxy":
            server = HAProxyServer(folder=folder, port_offset=self._offset)
        elif self._kind == "caddy":
            server = CaddyServer(folder=folder, port_offset=self._offset)
        else:
            lua = self._kind == "nginx dynamic"
            server = NginxServer(folder=folder, port_offset=self._offset, dynamic=lua, workers=1)
        self._stack.push_async_callback(server.close)
        await server.start()
        unhurried = {"CERTCAST_RELOAD_MIN_INTERVAL_S": "0"} if server.program == "nginx" else {}
        return server.program, server.agent_environment | unhurried

    async def _start_static(self, folder: Path) -> None:
        one = self._certificates.binding("one.example.com")
        self._static_fingerprint = one.bundle.fingerprint_sha256
        descriptor = os.open(folder / "one.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(one.bundle.to_pem())
        user = "user root;\n" if os.geteuid() == 0 else ""
        text = _STATIC.format(folder=folder, user=user, port=PORT + self._offset)
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        command = [NginxServer.find(), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        process = await start_child("nginx", command, folder=folder)
        self._stack.push_async_callback(process.stop)
        running = partial(asyncio.to_thread, (folder / "nginx.pid").exists)
        await process.until(running, timeout_s=_PATIENCE_S, every_s=0.02)

    async def _version(self) -> str:
        return await self._target.version() if self._target is not None else ""


async def serve(kind: str) -> None:
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with AsyncExitStack() as stack:
        station = Station(kind, stack)
        while line := await reader.readline():
            order, *arguments = json.loads(line)
            try:
                answer = await getattr(station, order)(*arguments)
            except CertcastError as error:
                answer = {"trouble": f"{kind}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
