"""The Event Grid webhook of the Functions host: handshakes and notifications, by the extension's own rules.

https://learn.microsoft.com/azure/azure-functions/functions-bindings-event-grid-trigger; names and statuses are as in
EventGridExtensionConfigProvider.cs and HttpRequestProcessor.cs (github.com/Azure/azure-sdk-for-net,
sdk/eventgrid/Microsoft.Azure.WebJobs.Extensions.EventGrid/src): a function is named by its case, a batch without
events is done with, and what cannot be read is a failure, which Event Grid tries again. The schema is the function's
business: neither the extension nor this module reads the Content-Type, and one event may come alone or in an array.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web
from azure.functions.meta import Datum

from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local_azure.functions_host.calls import Invoker
    from local_azure.functions_host.index import Function
    from local_azure.functions_host.keys import HostKeys

log = logger("certcast.host")

WEBHOOK_PATH = "/runtime/webhooks/eventgrid"

_ORIGIN = "eventgrid.azure.net"
_ORIGINS = frozenset(
    {_ORIGIN, *(f"eventgrid.azure.{cloud}" for cloud in ("us", "cn", "eaglex.ic.gov", "microsoft.scloud"))}
)


class EventGridWebhook:
    """Answers the webhook for every function with an Event Grid trigger."""

    def __init__(self, functions: Iterable[Function], invoker: Invoker, keys: HostKeys) -> None:
        self._functions = {function.name: function for function in functions}
        self._invoker = invoker
        self._keys = keys

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request, whatever its method."""
        if not self._keys.admit(request, "system"):
            return web.Response(status=401)
        name = request.query.get("functionName", "")
        function = self._functions.get(name)
        if function is None:
            log.error("an event is for %r, and no function of that name has an Event Grid trigger", name)
            return web.Response(status=404, text=f"cannot find function: '{name}'")
        if request.method == "OPTIONS":
            # The CloudEvents handshake (HTTP 1.1 Web Hooks for Event Delivery 1.0, section 4).
            origin = request.headers.get("WebHook-Request-Origin")
            return web.Response(headers={"WebHook-Allowed-Origin": origin if origin in _ORIGINS else _ORIGIN})
        try:
            return await self._event(function, request)
        except (ValueError, RecursionError) as error:
            return web.Response(status=500, text=str(error))

    async def _event(self, function: Function, request: web.Request) -> web.Response:
        kind = request.headers.get("aeg-event-type", "").lower()
        if kind == "notification":
            return await self._notify(function, _events(await request.read()), request.headers.get("traceparent", ""))
        if kind == "subscriptionvalidation":
            return web.json_response({"validationResponse": _validation_code(await request.read())})
        if kind == "unsubscribe":
            return web.Response(status=202)
        return web.Response(status=400)

    async def _notify(self, function: Function, events: list[dict[str, Any]], trace_parent: str) -> web.Response:
        outcomes = await asyncio.gather(
            *(
                self._invoker.invoke(function, Datum(json.dumps(event), "json"), trace_parent=trace_parent)
                for event in events
            )
        )
        failures = [outcome.error for outcome in outcomes if outcome.error is not None]
        if failures:
            return web.Response(status=500, text=failures[0])
        return web.Response(status=202)


def _validation_code(body: bytes) -> str:
    data = next(iter(_events(body)), {}).get("data")
    # In the CloudEvents schema, in which the event comes alone, its data is JSON within JSON.
    data = json.loads(data) if isinstance(data, str) else data
    code = data.get("validationCode") if isinstance(data, dict) else None
    if not isinstance(code, str):
        raise ValueError("the request body holds no validation code")  # noqa: TRY004 - it is what was sent
    return code


def _events(body: bytes) -> list[dict[str, Any]]:
    """The events of a request, which sends an array of them or, with CloudEvents, one alone."""
    document = json.loads(body)
    events = document if isinstance(document, list) else [document]
    if not all(isinstance(event, dict) for event in events):
        raise ValueError("the request body must be an event or an array of events")
    return events
