"""A real nginx with an agent's target beside it, as the targets' contract and nginx's own tests use them."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from instance_agent.installing.probe import served_fingerprint
from instance_agent.selection import make_target
from instance_agent.targets.nginx.control import Control
from instance_agent.targets.nginx.target import NginxTarget
from instance_agent.targets.parts.pem_file import file_name
from local_azure.processes.listening import port_offsets
from local_azure.servers.nginx import NginxServer
from shared.bundle import CertificateBundle
from tests.rigs.programs import require

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
        return self.server.certificates / "live" / str(port) / f"{file_name(host)}.pem"

    def block(self, host: str, port: int = 443) -> Path:
        return self.server.certificates / "blocks" / str(port) / f"{file_name(host)}.conf"

    async def tamper(self, host: str, port: int, bundle: CertificateBundle) -> None:
        """As an administrator does it in an emergency: another PEM file under the same name."""
        replaced(self.pem(host, port), bundle.to_pem())
        await self.reread()

    async def untie(self, host: str, port: int) -> None:
        (self.pem(host, port) if self.target.mode == "dynamic" else self.block(host, port)).unlink()
        await self.reread()

    async def reread(self) -> None:
        """Have nginx take its files up, by somebody else's hand."""
        if self.target.mode == "dynamic":
            await Control(self.server.socket).ask("POST")
        else:
            await self.reload()

    async def reload(self) -> None:
        """What `nginx -s reload` does; returns when the workers from before are gone."""
        nginx = self.target._nginx
        before = nginx.workers()
        assert nginx.hang_up()
        async with asyncio.timeout(20):
            while before & nginx.workers() or not nginx.workers():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)

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
    require("nginx")
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


def replaced(path: Path, content: bytes) -> None:
    """Put a file in the place of another, whole at every moment."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(content)
    shutil.copystat(path, beside)
    beside.replace(path)


@contextlib.contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """A file that somebody edits for a while."""
    before = path.read_text(encoding="utf-8")
    assert old in before
    path.write_text(before.replace(old, new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def running_as_root() -> bool:
    return os.geteuid() == 0
