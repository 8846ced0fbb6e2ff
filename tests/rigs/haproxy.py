"""A real HAProxy of a test's own, with a started target beside it, and what an administrator types into its socket."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from instance_agent.installing.probe import served_fingerprint
from instance_agent.selection import make_target
from instance_agent.targets.haproxy.session import Session
from instance_agent.targets.haproxy.target import HAProxyTarget
from instance_agent.targets.parts.pem_file import file_name
from local_azure.processes.listening import port_offsets
from local_azure.servers.haproxy import HAProxyServer
from shared.bundle import CertificateBundle
from shared.hostnames import DEFAULT_HOST
from tests.rigs.programs import require


class HAProxyRig:
    """A target beside a server of the test's own."""

    ports = (443, 444)
    probe = staticmethod(served_fingerprint)

    def __init__(self, server: HAProxyServer, target: HAProxyTarget) -> None:
        self.server = server
        self.target = target
        self.fallback = server.fallback.fingerprint_sha256

    async def restart_agent(self) -> None:
        await self.target.stop()
        self.target = await started(self.server)

    async def tamper(self, host: str, port: int, bundle: CertificateBundle) -> None:
        """By HAProxy's own commands, as an administrator types them."""
        file = self.pem(host, port)
        await self.ask(f"set ssl cert {file}", bundle.to_pem())
        assert (await self.ask(f"commit ssl cert {file}")).endswith("Success!")

    async def untie(self, host: str, port: int) -> None:
        """The same."""
        assert "deleted" in await self.ask(f"del ssl crt-list {self.crt_list(port)} {self.pem(host, port)}")

    async def restart_server(self) -> None:
        await self.server.stop()
        await self.server.start()

    async def ask(self, command: str, payload: bytes = b"") -> str:
        """What an administrator would type into the socket."""
        async with Session(self.server.socket) as session:
            return await session.ask(command, payload)

    def pem(self, host: str, port: int = 443) -> Path:
        """A host's file, by whose path HAProxy names its certificate."""
        if host == DEFAULT_HOST:
            return self.server.certificates / f"{port}.default.pem"
        return self.server.certificates / str(port) / f"{file_name(host)}.pem"

    def crt_list(self, port: int = 443) -> Path:
        """A port's list of hosts."""
        return self.server.certificates / f"{port}.list"

    def tree(self) -> dict[str, bytes]:
        """Everything in the folder that agent and server share."""
        folder = self.server.certificates
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def started(server: HAProxyServer, *, reloading: bool = True) -> HAProxyTarget:
    """A target beside a running server."""
    settings = server.agent_environment | ({} if reloading else {"CERTCAST_HAPROXY_RELOAD": ""})
    target = make_target("haproxy", settings)
    assert isinstance(target, HAProxyTarget)
    await target.start()
    return target


@asynccontextmanager
async def serving(extra_global: str = "") -> AsyncIterator[HAProxyRig]:
    """A server whose PortNumbers 443 and 444 are free ports, and a started target beside it."""
    require("haproxy")
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="hap-"))  # pytest's are too long for a socket's path
        [offset] = stack.enter_context(port_offsets(1, ports=(443, 444)))
        server = HAProxyServer(
            folder=Path(folder), port_offset=offset, port_numbers=(443, 444), extra_global=extra_global
        )
        await server.start()
        try:
            yield HAProxyRig(server, await started(server))
        finally:
            await server.stop()
