"""A real nginx with an agent's target beside it, as the targets' contract and nginx's own tests use them."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from instance_agent.installing.probe import served_fingerprint
from instance_agent.selection import make_target
from instance_agent.targets.nginx.target import NginxTarget
from local_azure.processes.listening import port_offsets
from local_azure.servers.nginx import NginxServer
from shared.bundle import CertificateBundle

PORTS = (443, 8443)


class NginxRig:
    """The server, and the target that stands for the agent."""

    ports = PORTS
    probe = staticmethod(served_fingerprint)

    def __init__(self, server: NginxServer, env: Mapping[str, str]) -> None:
        self.server = server
        self.env = dict(env)
        self.target = self._made()

    @property
    def fallback(self) -> str:
        pem = Path(self.env.get("CERTCAST_NGINX_FALLBACK") or self.server.certificates / "fallback.pem")
        return CertificateBundle.from_pem(pem.read_bytes()).fingerprint_sha256

    def pem(self, host: str, port: int = 443) -> Path:
        return self.server.certificates / "live" / str(port) / f"{host}.pem"

    async def restart_agent(self, **settings: str) -> None:
        await self.target.stop()
        self.env |= settings
        self.target = self._made()
        await self.target.start()

    def _made(self) -> NginxTarget:
        target = make_target("nginx", self.env)
        assert isinstance(target, NginxTarget)
        return target


@asynccontextmanager
async def beside_nginx(
    *, dynamic: bool, worker_user: str = "root", extra_http: str = "", **settings: str
) -> AsyncIterator[NginxRig]:
    """A running nginx and a target that was not started yet; nothing of them is left in the end."""
    with port_offsets(1, ports=PORTS) as [offset], _folder() as folder:
        server = NginxServer(
            folder=folder,
            port_offset=offset,
            port_numbers=PORTS,
            dynamic=dynamic,
            worker_user=worker_user,
            extra_http=extra_http,
        )
        try:
            await server.start()
            yield NginxRig(server, server.agent_environment | {"CERTCAST_RELOAD_MIN_INTERVAL_S": "0"} | settings)
        finally:
            await server.close()


@asynccontextmanager
async def serving_nginx(
    *, dynamic: bool, worker_user: str = "root", extra_http: str = "", **settings: str
) -> AsyncIterator[NginxRig]:
    """The same with the target started."""
    async with beside_nginx(dynamic=dynamic, worker_user=worker_user, extra_http=extra_http, **settings) as rig:
        await rig.target.start()
        try:
            yield rig
        finally:
            await rig.target.stop()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that nginx's workers may enter, which pytest's own are not."""
    made = Path(tempfile.mkdtemp(prefix="certcast-test-"))
    made.chmod(0o755)  # what is secret in it is in folders of its own
    try:
        yield made
    finally:
        shutil.rmtree(made)


def running_as_root() -> bool:
    return os.geteuid() == 0
