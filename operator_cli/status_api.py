"""The status document from the status API, which a function key opens without the storage account."""

from __future__ import annotations

import json
from asyncio import gather
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from shared.errors import AccessDeniedError, CertcastError, ConfigurationError, UnavailableError
from shared.hostnames import LOOPBACK_NAMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from shared.state.document import Document

    Reader = Callable[[str | None], Awaitable[Document]]

KEY_SETTING = "CERTCAST_FUNCTION_KEY"

_TIMEOUT_S = 30
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The open status API.

    Attributes:
        session: Carries the function key.
        address: Of the Functions app, with `/api`.
    """

    session: aiohttp.ClientSession = field(repr=False)
    address: str

    async def get(self, path: str) -> dict[str, Any]:
        """What it answers for a path below `/api/`; raises as `_call`."""
        return await self._call("GET", path)

    async def post(self, path: str) -> dict[str, Any]:
        """What it answers when that is posted to; raises as `_call`."""
        return await self._call("POST", path)

    async def upload(self, name: str) -> Document:
        """The entry of one upload, with what each instance reported."""
        document = await self.get(f"certificates/{in_path(name)}")
        return {key: value for key, value in document.items() if key != "timeline"}  # which is what `logs` shows

    async def status(self, name: str | None) -> Document:
        """The status document of one upload, or of all."""
        instances, (uploads, as_of) = await gather(
            self._all("instances", "instances"),
            self._all("certificates", "uploads") if name is None else self._one(name),
        )
        return {"as_of": as_of or instances[1], "uploads": uploads, "instances": instances[0]}

    async def _one(self, name: str) -> tuple[list[Document], None]:
        return [await self.upload(name)], None

    async def _all(self, path: str, entries: str) -> tuple[list[Document], str | None]:
        """The entries of every page, sorted by name, and the last one's time, which an older Function does not tell."""
        found: list[Document] = []
        asked: set[str] = set()
        query = f"limit={_PAGE}"
        while query not in asked:
            asked.add(query)
            page = await self.get(f"{path}?{query}")
            found += page.get(entries, [])
            if not page.get("next"):
                break
            query = f"limit={_PAGE}&after={quote(str(page['next']), safe='')}"
        return sorted(found, key=lambda entry: str(entry.get("name") or entry.get("id"))), page.get("as_of")

    async def _call(self, method: str, path: str) -> dict[str, Any]:
        """Ask.

        Raises:
            UnavailableError: It does not answer.
            AccessDeniedError: It refuses the key.
            CertcastError: It answers with an error, whose sentence this is.
        """
        try:
            # No redirect: it would take the key along.
            url = URL(f"{self.address}/{path}", encoded=True)
            async with self.session.request(method, url, allow_redirects=False) as answer:
                status = answer.status
                document = _parsed(await answer.text()) if answer.content_type == "application/json" else None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(
                f"the status API at {self.address} does not answer ({type(error).__name__})"
            ) from None
        if status in {HTTPStatus.OK, HTTPStatus.ACCEPTED} and isinstance(document, dict):
            return document
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise AccessDeniedError(f"the status API at {self.address} refuses the key in {KEY_SETTING}")
        reason = str(document.get("error", "")) if isinstance(document, dict) else ""
        raise CertcastError(
            reason or f"{self.address} answered {status}: is it the address of certcast's Functions app?"
        )


@asynccontextmanager
async def api_at(url: str, env: Mapping[str, str]) -> AsyncIterator[Api]:
    """Open the status API.

    Args:
        url: Address of the Functions app, with or without `/api`.
        env: Where the function key is; no option takes it, as every user of a machine can read process arguments.

    Raises:
        ConfigurationError: There is no key, or the address cannot be used.
    """
    address = api_address(url)
    key = env.get(KEY_SETTING, "").strip()
    if not key:
        raise ConfigurationError(
            f"{KEY_SETTING} is not set: give the Functions app's key (az functionapp keys list; of the local cloud, "
            "`function` in functions-keys.json of its state folder)"
        )
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(headers={"x-functions-key": key}, timeout=timeout) as session:
        yield Api(session=session, address=address)


@asynccontextmanager
async def status_api_at(url: str, env: Mapping[str, str]) -> AsyncIterator[Reader]:
    """Open the status API, to read the status document of one upload, or of all; raises as `api_at`."""
    async with api_at(url, env) as api:
        yield api.status


def api_address(url: str) -> str:
    """The address below which the status API's paths are.

    Args:
        url: What a person gave: the address of the Functions app, with or without `/api`.

    Raises:
        ConfigurationError: It is no such address, or a key would be sent unencrypted.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in {"https", "http"} or parts.query or parts.username:
        raise ConfigurationError("--url takes the Functions app's address, such as https://NAME.azurewebsites.net")
    if parts.scheme == "http" and host not in LOOPBACK_NAMES:
        raise ConfigurationError(f"--url must begin with https://: the function key would go to {host} unencrypted")
    return f"{url.rstrip('/').removesuffix('/api')}/api"


def in_path(name: str) -> str:
    """An upload's name in a URL's path; its slashes are written %2F only where a path could lose one.

    The Functions host does not tell a %2F from one that stands in the name, written %252F.
    """
    plain = all(name.split("/"))
    return quote(name, safe="/" if plain else "")


def _parsed(text: str) -> object:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
