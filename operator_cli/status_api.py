"""The status document from the status API, which a function key opens without the storage account."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from shared.config import LOOPBACK_NAMES
from shared.errors import AccessDeniedError, CertcastError, ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from shared.state.document import Document

    Reader = Callable[[str | None], Awaitable[Document]]

KEY_SETTING = "CERTCAST_FUNCTION_KEY"

_TIMEOUT_S = 30
_PAGE = 1000


@asynccontextmanager
async def status_api_at(url: str, env: Mapping[str, str]) -> AsyncIterator[Reader]:
    """Open the status API, to read the status document of one upload, or of all.

    Args:
        url: Address of the Functions app, with or without `/api`.
        env: Where the function key is; no option takes it, as every user of a machine can read process arguments.

    Raises:
        ConfigurationError: There is no key, or the address cannot be used.
    """
    api = api_address(url)
    key = env.get(KEY_SETTING, "").strip()
    if not key:
        raise ConfigurationError(
            f"{KEY_SETTING} is not set: give the Functions app's key (az functionapp keys list; of the local cloud, "
            "`function` in functions-keys.json of its state folder)"
        )
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(headers={"x-functions-key": key}, timeout=timeout) as session:

        async def read(name: str | None) -> Document:
            instances, as_of = await _all(session, api, "instances", "instances")
            if name is None:
                uploads, as_of = await _all(session, api, "certificates", "uploads")
            else:
                uploads = [await _get(session, api, f"certificates/{_in_path(name)}")]
            return {"as_of": as_of, "uploads": uploads, "instances": instances}

        yield read


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


def _in_path(name: str) -> str:
    """An upload's name in a URL's path; its slashes are written %2F only where a path could lose one.

    The Functions host does not tell a %2F from one that stands in the name, written %252F.
    """
    plain = all(name.split("/"))
    return quote(name, safe="/" if plain else "")


def _parsed(text: str) -> object:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


async def _all(session: aiohttp.ClientSession, api: str, path: str, entries: str) -> tuple[list[Document], str | None]:
    """The entries of every page, sorted by name, and the last one's time, which an older Function does not tell."""
    found: list[Document] = []
    asked: set[str] = set()
    query = f"limit={_PAGE}"
    while query not in asked:
        asked.add(query)
        page = await _get(session, api, f"{path}?{query}")
        found += page.get(entries, [])
        if not page.get("next"):
            break
        query = f"limit={_PAGE}&after={quote(str(page['next']), safe='')}"
    return sorted(found, key=lambda entry: str(entry.get("name") or entry.get("id"))), page.get("as_of")


async def _get(session: aiohttp.ClientSession, api: str, path: str) -> dict[str, Any]:
    try:
        # No redirect: it would take the key along.
        async with session.get(URL(f"{api}/{path}", encoded=True), allow_redirects=False) as answer:
            status = answer.status
            document = _parsed(await answer.text()) if answer.content_type == "application/json" else None
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise UnavailableError(f"the status API at {api} does not answer ({type(error).__name__})") from None
    if status == HTTPStatus.OK and isinstance(document, dict):
        return document
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise AccessDeniedError(f"the status API at {api} refuses the key in {KEY_SETTING}")
    reason = str(document.get("error", "")) if isinstance(document, dict) else ""
    raise CertcastError(reason or f"{api} answered {status}: is it the address of certcast's Functions app?")
