"""Caddy's admin API, of which nothing is used but its word on how Caddy is configured now."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import aiohttp

from shared.codec import parse_json
from shared.phrasing import logger

log = logger(__name__)

DEFAULT_ADMIN = "localhost:2019"
"""Where Caddy has it unless told otherwise (https://caddyserver.com/docs/api)."""

_UNIX = "unix/"
_FORM = re.compile(rf"{_UNIX}/.+|(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{{1,5}}")
_TIMEOUT = aiohttp.ClientTimeout(total=3)
_MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The API at one address.

    Attributes:
        address: As Caddy writes it: `localhost:2019`, `unix//run/caddy/admin.sock`.
    """

    address: str

    def __post_init__(self) -> None:
        if not _FORM.fullmatch(self.address):
            raise ValueError("it is neither a host and port nor unix/ and a path")

    async def configuration(self) -> object:
        """How Caddy is configured now, as JSON has it; None where that cannot be told, or there is no configuration.

        It holds passwords: it is not to be logged.
        """
        try:
            text = await self._asked("/config/")
            return await asyncio.to_thread(parse_json, text)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            log.debug(
                "Caddy's admin API at %s does not tell how Caddy is configured (%s: %s), so that nothing in its "
                "configuration can be warned of; CERTCAST_CADDY_ADMIN names another address",
                *(self.address, type(error).__name__, error),
            )
            return None

    async def _asked(self, path: str) -> bytes:
        # Over a unix socket the API takes no host but an empty one (Caddy 2.6.2, admin.go, allowedOrigins).
        socket = self.address.removeprefix(_UNIX) if self.address.startswith(_UNIX) else ""
        connector = aiohttp.UnixConnector(socket) if socket else aiohttp.TCPConnector()
        host = {"Host": ""} if socket else {}
        url = f"http://{'caddy' if socket else self.address}{path}"
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, headers=host, trust_env=False) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if not answer.ok:
                raise ValueError(f"it answers {answer.status}")
            text = await answer.content.read(_MAX_BYTES)
            while len(text) <= _MAX_BYTES and (more := await answer.content.read(_MAX_BYTES)):
                text += more
        if len(text) > _MAX_BYTES:
            raise ValueError(f"it answers with more than {_MAX_BYTES:,} bytes")
        return text
