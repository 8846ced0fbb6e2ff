"""The unix socket in our include: nginx tells there what it has loaded, and is told that files have changed."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import aiohttp

from instance_agent.targets.base import ServerUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
_POLL_S = 0.02
_ANSWER = re.compile(r"certcast ([0-9a-f]+) ([0-9]+)\n")


class Control:
    """The socket's near end.

    Attributes:
        path: The socket.
    """

    def __init__(self, socket: Path) -> None:
        self.path = socket

    async def loaded(self) -> str | None:
        """The token of the include that nginx has loaded; None where nothing answers."""
        try:
            return await self.ask("GET")
        except ServerUnavailableError:
            return None

    async def wait_until_loaded(self, token: str, *, timeout_s: float) -> bool:
        """Wait until nginx has loaded the include with this token; whether it has."""
        try:
            async with asyncio.timeout(timeout_s):
                while await self.loaded() != token:  # noqa: ASYNC110 - nginx sends no word of it
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return False
        return True

    async def ask(self, method: str) -> str:
        """Ask once: GET for what is loaded, POST to have files that changed since read again (dynamic mode).

        Returns:
            The token of the include that is loaded.

        Raises:
            ServerUnavailableError: There is no answer, or one that our include does not give.
        """
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.path)), timeout=_TIMEOUT) as session,
                session.request(method, "http://certcast/generation") as answer,
            ):
                said = await answer.text(errors="replace")
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            reason = getattr(error, "strerror", None) or str(error) or "no answer"
            raise ServerUnavailableError(
                f"nginx does not answer on {self.path} ({reason}): is it running, with certcast's include?"
            ) from error
        found = _ANSWER.fullmatch(said) if answer.ok else None
        if found is None:
            shown = said.strip()[:200] or "nothing"
            raise ServerUnavailableError(f"nginx answers {method} on {self.path} unexpectedly: {shown}")
        return found[1]
