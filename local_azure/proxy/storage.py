"""A proxy before the three services of a storage account: it tells what was asked, and may answer by a rule instead."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from local_azure.azurite import StorageEndpoints
from local_azure.processes.listening import LOOPBACK, listen
from local_azure.proxy.operations import request_of
from local_azure.proxy.passthrough import Passthrough, body_of, runner_of
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local_azure.proxy.operations import Service, StorageRequest

    Rule = Callable[[StorageRequest], web.Response | None]
    Seen = Callable[[Service, StorageRequest, Mapping[str, str], int], None]

log = logger("certcast.proxy")


class StorageProxy:
    """Stands before an account's services.

    Args:
        rule: Answers a request in the service's place; None lets it through.
        seen: Called with every request, its headers, and its answer's status.

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
        asked = request_of(service, request.method, request.raw_path, request.headers)
        ruled = self._rule(asked) if self._rule is not None else None
        if ruled is not None:
            self._tell(service, asked, request, ruled.status)
            return ruled
        try:
            body = body_of(request) if request.can_read_body else None
            async with passthrough.send(request, body) as answer:
                # Before the answer goes back: who has it finds the request counted.
                self._tell(service, asked, request, answer.status)
                return await passthrough.answer(request, answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("the %s service did not answer %s (%s)", service, asked.operation, type(error).__name__)
            return web.Response(status=503, headers={"x-ms-error-code": "ServerBusy"}, text="Azurite does not answer.")

    def _tell(self, service: Service, asked: StorageRequest, request: web.Request, status: int) -> None:
        if self._seen is not None:
            self._seen(service, asked, request.headers, status)
