"""A webhook's receiver on this machine, which keeps what it was posted and answers as a test says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from local_azure.processes.listening import LOOPBACK, listen


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """One request.

    Attributes:
        headers: With names in small letters.
        body: As it came.
        taken: Whether it was answered 2xx.
    """

    headers: Mapping[str, str]
    body: bytes
    taken: bool

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent in it."""
        document: dict[str, Any] = json.loads(self.body)
        return document


class Receiver:
    """The receiver; made by `start`.

    Attributes:
        status: What it answers.
        posted: All that it was posted.
    """

    IN_PATH = "s3cret-in-the-path"

    def __init__(self) -> None:
        self.status = 202
        self.posted: list[Posted] = []
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Its address, which holds a secret."""
        return f"http://{LOOPBACK}:{self._port}/{self.IN_PATH}"

    async def start(self) -> Self:
        app = web.Application()
        app.router.add_post(f"/{self.IN_PATH}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._port = await listen(self._runner, LOOPBACK, self._port, "a receiver")
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def taken(self, subject: str) -> list[str]:
        """The types of the events about an upload that it took, as often as it took them."""
        events = (posted.event for posted in self.posted if posted.taken)
        return [event["type"].removeprefix("Certcast.Certificate") for event in events if event["subject"] == subject]

    async def _take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        status = self.status
        self.posted.append(Posted(headers=headers, body=await request.read(), taken=status // 100 == 2))
        return web.Response(status=status)
