"""What somebody does to a server's certificates by hand, by that server's own means; no agent is told of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import aiohttp

from instance_agent.targets.haproxy import runtime
from instance_agent.targets.haproxy.session import Session
from instance_agent.targets.nginx.config import BLOCKS_NAME, LIVE_NAME
from instance_agent.targets.nginx.control import Control
from instance_agent.targets.parts.pem_folder import PemFolder
from local_azure.servers.caddy import CaddyServer
from local_azure.servers.haproxy import HAProxyServer
from local_azure.servers.nginx import NginxServer
from shared.errors import CertcastError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from local_azure.servers.base import WebServer
    from shared.bundle import CertificateBundle

_PORT_NUMBER = 443
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_LOADED = "http://caddy/config/apps/tls/certificates"
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class ByHand(Protocol):
    """Somebody at one server, who changes what certcast has bound there for PortNumber 443.

    Attributes:
        can_untie: Whether a binding can be taken away there.
        stays: Whether certcast sees the change and cannot put it right, as that server's configuration is not its own.
    """

    can_untie: bool
    stays: bool

    async def replace(self, host: str, bundle: CertificateBundle) -> None:
        """Have the server serve another certificate for a host; returns once it was told to.

        Raises:
            UnavailableError: It was not told, or took it not.
        """

    async def untie(self, host: str) -> None:
        """Have the server serve none for a host, where that can be done; returns once it was told to.

        Raises:
            UnavailableError: It was not told, or took it not.
        """

    async def take_back(self) -> None:
        """Undo what was changed and certcast cannot put right; nothing to do elsewhere.

        Raises:
            UnavailableError: The server was not told, or took it not.
        """


def by_hand(server: WebServer | None) -> ByHand | None:
    """Somebody at a server; None where there is nothing that could be changed behind the agent's back."""
    if isinstance(server, NginxServer):
        return _AtNginx(server)
    if isinstance(server, HAProxyServer):
        return _AtHAProxy(server)
    return _AtCaddy(server) if isinstance(server, CaddyServer) else None


class _Editable:
    """Of a server where certcast can put right all that somebody changes."""

    can_untie = True
    stays = False

    async def take_back(self) -> None:
        """The next proof puts it right."""


class _AtNginx(_Editable):
    """Edits the agent's files, and tells nginx as the agent does: over the include's socket, or by a reload."""

    def __init__(self, server: NginxServer) -> None:
        self._server = server
        self._pems = PemFolder(server.certificates / LIVE_NAME)

    async def replace(self, host: str, bundle: CertificateBundle) -> None:
        path = self._pems.path(host, _PORT_NUMBER)
        with _doing(f"editing {path.name}"):
            await asyncio.to_thread(_edit, path, bundle.to_pem())
            await self._tell()

    async def untie(self, host: str) -> None:
        path = self._pems.path(host, _PORT_NUMBER)
        block = self._blocks / path.relative_to(self._pems.folder).with_suffix(".conf")
        with _doing(f"deleting {path.name}"):
            (block if block.exists() else path).unlink()
            await self._tell()

    @property
    def _blocks(self) -> Path:
        return self._server.certificates / BLOCKS_NAME

    async def _tell(self) -> None:
        if self._blocks.exists():
            os.kill(self._server.process.pid or 0, signal.SIGHUP)
        else:
            await Control(self._server.socket).ask("POST")


class _AtHAProxy(_Editable):
    """Uses the admin socket; the files, from which HAProxy starts, stay as they are."""

    def __init__(self, server: HAProxyServer) -> None:
        self._server = server
        self._pems = PemFolder(server.certificates)

    async def replace(self, host: str, bundle: CertificateBundle) -> None:
        with _doing(f"setting HAProxy's certificate for {host}"):
            async with Session(self._server.socket) as session:
                await runtime.put(session, self._file(host), bundle, new=False)

    async def untie(self, host: str) -> None:
        crt_list = self._server.certificates / f"{_PORT_NUMBER}.list"
        with _doing(f"taking {host} from {crt_list.name}"):
            async with Session(self._server.socket) as session:
                await runtime.unbind(session, str(crt_list), self._file(host))

    def _file(self, host: str) -> str:
        return str(self._pems.path(host, _PORT_NUMBER))


class _AtCaddy:
    """Loads one certificate through the admin API: Caddy prefers one of its own to what its manager would answer."""

    can_untie = False
    stays = True

    def __init__(self, server: CaddyServer) -> None:
        self._server = server

    async def replace(self, host: str, bundle: CertificateBundle) -> None:
        del host  # Caddy goes by the names in the certificate
        key, begin, chain = bundle.to_pem().decode().partition(_CERTIFICATE)
        await self._load({"certificate": begin + chain, "key": key})

    async def untie(self, host: str) -> None:
        raise UnavailableError(f"Caddy keeps nothing for {host}: it asks its manager at each handshake")

    async def take_back(self) -> None:
        await self._load()

    async def _load(self, *pairs: Mapping[str, str]) -> None:
        connector = aiohttp.UnixConnector(str(self._server.admin))
        with _doing("changing Caddy's own certificates"):
            # Over a unix socket the admin API takes no host but an empty one (caddy 2.6, admin.go, allowedOrigins).
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, headers={"Host": ""}) as session,
                session.post(_LOADED, json={"load_pem": pairs}) as answer,
            ):
                if not answer.ok:
                    raise UnavailableError(f"Caddy answers {answer.status}")


def _edit(path: Path, pem: bytes) -> None:
    """Keep the file's first line, a comment to servers, its owner and its mode."""
    first, end, _ = path.read_bytes().partition(b"\n")
    there = path.stat()
    edited = path.with_name(f"{path.name}.edited")
    shutil.copy(path, edited)
    shutil.chown(edited, there.st_uid, there.st_gid)
    edited.write_bytes(first + end + pem)
    edited.replace(path)


@contextmanager
def _doing(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, aiohttp.ClientError, CertcastError) as error:
        raise UnavailableError(f"{what} did not succeed: {error}") from error
