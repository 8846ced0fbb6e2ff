"""HTTP triggers, and running a function on demand: routes, keys, requests and answers.

https://learn.microsoft.com/azure/azure-functions/functions-bindings-http-webhook-trigger and
https://learn.microsoft.com/azure/azure-functions/functions-manually-run-non-http
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web
from azure.functions.meta import Datum

from local_azure.functions_host.index import converter
from local_azure.functions_host.queues import body_datum
from local_azure.functions_host.routes import Route, decoded_path
from local_azure.functions_host.timers import timer_datum
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from multidict import MultiMapping

    from local_azure.functions_host.calls import Invoker, Outcome
    from local_azure.functions_host.index import Function
    from local_azure.functions_host.keys import HostKeys

log = logger("certcast.host")

_NEVER_PASSED_ON = frozenset({"content-length", "transfer-encoding", "connection"})


class HttpTriggers:
    """Answers requests for the functions with an HTTP trigger.

    Of the routes that match a path and its method, the first in the order of their functions' names is taken, whatever
    is more exact: the host sorts its functions by name, in upper case and by character codes, and adds their routes in
    that order (github.com/Azure/azure-functions-host, FunctionMetadataManager.cs and WebScriptHostHttpRoutesManager.cs;
    github.com/Azure/azure-webjobs-sdk-extensions, WebJobsRouter.cs).

    Args:
        invoker: Calls the functions.
        keys: What opens them.
        routes: Route templates, the prefix included, and which function each belongs to.

    Raises:
        ConfigurationError: A route is no template, or has a constraint that this host does not know.
    """

    def __init__(self, invoker: Invoker, keys: HostKeys, routes: Iterable[tuple[str, Function]]) -> None:
        self._invoker = invoker
        self._keys = keys
        self._routes = [
            (Route(template, f"function {function.name}"), function)
            for template, function in sorted(routes, key=lambda route: route[1].name.upper())
        ]

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request; 404 where no route has the path, and also where none has it with the method."""
        found = first_match(self._routes, request.method, decoded_path(request.rel_url.raw_path))
        return web.Response(status=404) if found is None else await self._call(*found, request)

    async def _call(self, function: Function, parameters: Mapping[str, str], request: web.Request) -> web.Response:
        level = str(function.trigger.get("authLevel", "function")).lower()
        if not self._keys.admit(request, level):
            return web.Response(status=401)
        data = await _request_datum(request, parameters)
        outcome = await self._invoker.invoke(function, data, trace_parent=request.headers.get("traceparent", ""))
        return _response(function, outcome.value) if outcome.succeeded else web.Response(status=500)


def first_match(
    routes: Iterable[tuple[Route, Function]], method: str, path: str
) -> tuple[Function, Mapping[str, str]] | None:
    """The function that a request is for, and the parameters in its path.

    Args:
        routes: In the order in which they are tried.
        method: The request's.
        path: The request's, decoded.
    """
    for route, function in routes:
        methods = {str(each).upper() for each in function.trigger.get("methods") or (method,)}
        parameters = route.match(path) if method in methods else None
        if parameters is not None:
            return function, parameters
    return None


class Admin:
    """Runs functions on demand, for those who have the master key."""

    def __init__(self, functions: Iterable[Function], invoker: Invoker, keys: HostKeys) -> None:
        self._functions = {function.name: function for function in functions}
        self._invoker = invoker
        self._keys = keys
        self._running: set[asyncio.Task[Outcome]] = set()

    async def stop(self) -> None:
        """Cancel the runs that were asked for and are still under way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def run(self, request: web.Request) -> web.Response:
        """`POST /admin/functions/{name}`: run a function now that has no HTTP trigger; the answer does not wait."""
        if not self._keys.admit(request, "admin"):
            return web.Response(status=401)
        function = self._functions.get(request.match_info["name"])
        if function is None:
            return web.Response(status=404)
        try:
            document = json.loads(await request.read() or b"{}")
        except ValueError:
            document = None
        given = document.get("input", "") if isinstance(document, dict) else None
        if not isinstance(given, str) or function.kind == "httpTrigger":
            return web.Response(status=400, text='the body must be {"input": "…"}, and the trigger must not be HTTP')
        task = asyncio.create_task(self._invoker.invoke(function, _manual(function, given), metadata={}))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return web.Response(status=202)


def _manual(function: Function, given: str) -> Datum:
    if function.kind == "timerTrigger":
        return timer_datum(None, last=None, now=datetime.now(UTC))
    return body_datum(given.encode()) if function.kind == "queueTrigger" else Datum(given, "json")


async def _request_datum(request: web.Request, parameters: Mapping[str, str]) -> Datum:
    """A request as the worker gets it: values under one name joined, and query values that are empty left out.

    GrpcMessageConversionExtensions.cs in github.com/Azure/azure-functions-host; Python's worker asks for no empty ones.
    """

    def texts(values: Mapping[str, str]) -> dict[str, Datum]:
        return {name: Datum(value, "string") for name, value in values.items()}

    return Datum(
        {
            "method": Datum(request.method, "string"),
            "url": Datum(str(request.url), "string"),
            "headers": texts(_joined(request.headers)),
            "query": texts({name: value for name, value in _joined(request.query).items() if value}),
            "params": texts(parameters),
            "body": Datum(await request.read(), "bytes"),
        },
        "http",
    )


def _joined(values: MultiMapping[str]) -> dict[str, str]:
    """Names without regard to their case, each as it is first written, with its values joined by commas."""
    names: dict[str, str] = {}
    joined: dict[str, list[str]] = {}
    for name, value in values.items():
        joined.setdefault(names.setdefault(name.lower(), name), []).append(value)
    return {name: ",".join(found) for name, found in joined.items()}


def _response(function: Function, value: object) -> web.Response:
    if value is None:
        return web.Response(status=204)
    try:
        datum = converter("http").encode(value, expected_type=None)
    except NotImplementedError:
        log.error("%s returned %s, which is no HTTP answer", function.name, type(value).__name__)
        return web.Response(status=500)
    if datum.type == "string":
        return web.Response(text=datum.value)
    answer = web.Response(status=int(datum.value["status_code"].value), body=datum.value["body"].value)
    for name, header in datum.value["headers"].items():
        if name.lower() not in _NEVER_PASSED_ON:
            answer.headers[name] = header.value
    for cookie in datum.value["cookies"] or ():
        for morsel in cookie.values():
            answer.headers.add("Set-Cookie", morsel.OutputString())
    return answer
