"""A proxy before the three services of a storage account: it tells what was asked, and may answer by a rule instead."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import hdrs, web

from local_azure.azurite import StorageEndpoints
from local_azure.processes.listening import LOOPBACK, listen
from local_azure.proxy.answers import Lost, Refusal, Slow
from local_azure.proxy.operations import Asked, request_of
from local_azure.proxy.passthrough import Passthrough, body_of, runner_of
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_azure.proxy.answers import Answer
    from local_azure.proxy.operations import Service

    Rule = Callable[[Asked], Answer | None]
    Seen = Callable[[Asked, int], None]

log = logger("certcast.proxy")


class StorageProxy:
    """Stands before an account's services.

    Args:
        rule: Says what a request is answered with in the service's place; None lets it through.
        seen: Called with every request and its answer's status.

    Attributes:
        endpoints: Where the account is reached through it.
    """

    def __init__(self, *, rule: Rule | None = None, seen: Seen | None = None) -> None:
        self.endpoints = StorageEndpoints()
        self._rule = rule
        self._seen = seen
        self._stack = AsyncExitStack()

    async def start(self, upstream: StorageEndpoints, wanted: StorageEndpoints | None = None) -> None:
        """Begin to answer requests.

        Args:
            upstream: The account's own services, which may be started later.
            wanted: The ports to listen on; free ones when None.

        Raises:
            ConfigurationError: A port is taken or not allowed; the text names the cure.
        """
        wanted = wanted or StorageEndpoints()
        try:
            self.endpoints = StorageEndpoints(
                blob_port=await self._stand_before("blob", upstream.blob_port, wanted.blob_port),
                queue_port=await self._stand_before("queue", upstream.queue_port, wanted.queue_port),
                table_port=await self._stand_before("table", upstream.table_port, wanted.table_port),
            )
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop accepting requests, and wait until those that came are answered."""
        await self._stack.aclose()

    async def _stand_before(self, service: Service, port: int, own: int) -> int:
        passthrough = Passthrough(f"http://{LOOPBACK}:{port}")
        self._stack.push_async_callback(passthrough.close)
        runner = runner_of(partial(self._handle, service, passthrough))
        self._stack.push_async_callback(runner.cleanup)
        return await listen(runner, LOOPBACK, own, f"the {service} service")

    async def _handle(self, service: Service, passthrough: Passthrough, request: web.Request) -> web.StreamResponse:
        # Limits of rows cannot be seen without the rows; all other bodies go on as they come.
        body = await request.read() if service == "table" and self._rule is not None else b""
        asked = Asked(
            service=service,
            request=request_of(service, request.method, request.raw_path, request.headers),
            headers=request.headers,
            body=body,
            head=request.method == hdrs.METH_HEAD,
        )
        ruled = self._rule(asked) if self._rule is not None else None
        if isinstance(ruled, Refusal):
            await request.release()
            self._tell(asked, ruled.status)
            return ruled.response(asked)
        try:
            sent = body or (body_of(request) if request.can_read_body else None)
            async with passthrough.send(request, sent) as answer:
                # Before the answer goes back: who has it finds the request counted.
                self._tell(asked, answer.status)
                if isinstance(ruled, Lost):
                    await answer.read()
                    return _cut(request)
                if isinstance(ruled, Slow):
                    await asyncio.sleep(ruled.delay_s)
                return await passthrough.answer(request, answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("the %s service did not answer %s (%s)", service, asked.request.operation, type(error).__name__)
            return web.Response(status=503, headers={"x-ms-error-code": "ServerBusy"}, text="Azurite does not answer.")

    def _tell(self, asked: Asked, status: int) -> None:
        if self._seen is not None:
            self._seen(asked, status)


def _cut(request: web.Request) -> web.Response:
    """End the connection without an answer; what is returned has nowhere to go."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
