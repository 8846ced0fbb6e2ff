"""A TLS listener that answers as http.sys would from the records of an IIS in memory, for handshakes in tests."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace

from instance_agent.targets.embedded.contexts import server_context
from instance_agent.targets.iis.bindings import SslFlags
from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.records import SslRecord, SslSettings
from local_azure.processes.listening import free_port
from shared.bundle import CertificateBundle
from tests.fakes.iis.memory import MemoryIis
from tests.fakes.iis.stores import MemoryStores
from tests.fakes.iis.world import ALL_ADDRESSES, made_record


class HttpSys:
    """Chooses the certificate for a handshake.

    Args:
        iis: Whose records answer.
        stores: Where their certificates are.
        central: Finds the certificate of a name in the Centralized Certificate Store, where there is one.
    """

    def __init__(
        self,
        iis: MemoryIis,
        stores: MemoryStores,
        *,
        central: Callable[[str], CertificateBundle | None] = lambda _: None,
    ) -> None:
        self.iis = iis
        self.stores = stores
        self.central = central
        self.names: list[str | None] = []
        self.foreign: list[SslRecord] = []
        self.refused: dict[str, GatewayError] = {}
        self.hidden: set[str] = set()
        self.broken: GatewayError | None = None

    def records(self, endpoints: Collection[str] | None = None) -> list[SslRecord]:
        """The same as `netsh http show sslcert` would have shown."""
        if self.broken is not None:
            raise self.broken
        made = [
            replace(made_record(endpoint, *found), settings=self.iis.settings.get(endpoint, SslSettings()))
            for endpoint, found in self.iis.records().items()
            if endpoint not in self.hidden
        ]
        return [it for it in [*made, *self.foreign] if endpoints is None or it.endpoint in endpoints]

    def put(self, record: SslRecord) -> None:
        """As somebody does with netsh."""
        if record.endpoint in self.refused:
            raise self.refused[record.endpoint]
        self.iis.http_sys[record.endpoint] = (record.thumbprint, record.store)
        self.iis.settings[record.endpoint] = record.settings

    def delete(self, record: SslRecord) -> None:
        del self.iis.http_sys[record.endpoint]

    def choose(self, address: str, port: int, name: str | None) -> CertificateBundle | None:
        """An exact address, then the name, its wildcard, the central store, and what is there for all addresses."""
        names = []
        if name is not None:
            names = [name, "*." + name.partition(".")[2]]
        for key in [address, *names]:
            found = self.iis.records().get(f"{key}:{port}")
            if found is not None:
                return self.stores.bundle(*found)
        if name is not None and self._has_central_binding(port):
            bundle = self.central(name)
            if bundle is not None:
                return bundle
        found = self.iis.records().get(f"{ALL_ADDRESSES}:{port}")
        return None if found is None else self.stores.bundle(*found)

    def _has_central_binding(self, port: int) -> bool:
        return any(
            row.flags & SslFlags.CENTRAL_STORE and row.information.rsplit(":", 2)[1] == str(port)
            for site in self.iis.site_names()
            for row in self.iis.rows(site)
        )

    @asynccontextmanager
    async def listening(self, *endpoints: tuple[str, int]) -> AsyncIterator[None]:
        """Listen until the end of the block."""
        servers = [
            await asyncio.start_server(_answer, address, port, ssl=self._context(address, port))
            for address, port in endpoints
        ]
        try:
            yield
        finally:
            for server in servers:
                server.close()
                await server.wait_closed()

    def _context(self, address: str, port: int) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            self.names.append(name)
            bundle = self.choose(address, port, None if name is None else name.lower())
            if bundle is None:
                return int(ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE)
            connection.context = server_context(bundle)
            return None

        context.sni_callback = choose
        return context


def free_ports(count: int) -> list[int]:
    """Ports of the loopback addresses that are free."""
    first = free_port(count)
    return list(range(first, first + count))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    writer.transport.abort()
