"""A storage account that gives the answers it is told to, where an emulator would give its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from shared.azure.account import Account
from shared.config import StorageAccess, emulator_connection_string


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of a service.

    Attributes:
        status: HTTP status; 0 for none: the connection is closed instead.
        code: The service's error code.
        headers: Further headers.
        body: Content.
    """

    status: int
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


LOST = Answer(status=0)
"""An answer that does not arrive, whatever was done."""


class StorageStub:
    """Answers every request of any of the three services from one list, whose last entry is given again and again.

    Attributes:
        asked: Method and path, with the query, of each request.
        heads: Its headers.
        bodies: Its content.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.heads: list[Mapping[str, str]] = []
        self.bodies: list[bytes] = []
        self._answers: list[Answer] = []

    def will_answer(self, *answers: Answer) -> None:
        """Give these answers from now on."""
        self._answers = list(answers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        self.heads.append(request.headers)
        self.bodies.append(await request.read())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if not answer.status:
            assert request.transport is not None
            request.transport.close()
        code = {"x-ms-error-code": answer.code} if answer.code else {}
        return web.Response(status=answer.status or 500, headers={**code, **answer.headers}, text=answer.body)


@asynccontextmanager
async def stubbed_account() -> AsyncIterator[tuple[Account, StorageStub]]:
    """An account whose three services are one stub."""
    stub = StorageStub()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stub.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    access = StorageAccess(
        connection_string=emulator_connection_string(blob_port=port, queue_port=port, table_port=port)
    )
    try:
        async with Account(access) as account:
            yield account, stub
    finally:
        await runner.cleanup()
