"""The Functions app: triggers only; each hands over to a use case in `shared` (docs/architecture.md).

Python v2 programming model (learn.microsoft.com, "Azure Functions Python developer guide").
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from shared.azure.blobs import UPLOADS_CONTAINER
from shared.config import Settings
from shared.errors import BrokenMessageError, CertcastError, ConfigurationError
from shared.function import history_api, status_api
from shared.function.blob_event import Notice, read_event
from shared.function.cloud import utc_now
from shared.function.dashboard import serving
from shared.function.dashboard.access import Access
from shared.function.dashboard.exchange import Request
from shared.function.deadlines import ANSWER_S, MESSAGE_S, SWEEP_ENDS_S
from shared.function.diagnosis import SETTINGS, diagnosis, health, health_of, not_opened
from shared.function.grid_event import decode_event
from shared.function.intake import handle_notice, recheck
from shared.function.notifying import notify_all
from shared.function.results import fold
from shared.function.sweep import sweep
from shared.messages import (
    RECHECK_QUEUE,
    RESULTS_QUEUE,
    InstallReport,
    Message,
    RecheckUpload,
    decode,
)
from shared.opening import open_cloud
from shared.phrasing import logger
from shared.sources.key_vault import NEW_VERSION, vault_upload
from shared.telemetry.names import Stage
from shared.telemetry.spans import invoked, span
from shared.telemetry.tracing import begin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.function.cloud import Cloud
    from shared.function.grid_event import GridEvent

# The worker logs from INFO on, and the SDKs say two things there about each request.
logging.getLogger("azure").setLevel(logging.WARNING)

STORAGE = "CERTCAST_STORAGE"
# Read here rather than written as %CERTCAST_SWEEP_SCHEDULE%, without which the host would not start.
SWEEP_SCHEDULE = os.environ.get("CERTCAST_SWEEP_SCHEDULE") or "0 * * * * *"

# Of the whole process: the host takes a function's level once.
ACCESS = Access.from_env(os.environ)

app = func.FunctionApp()
log = logger("certcast")

_opened: dict[asyncio.AbstractEventLoop, Cloud] = {}


def _begun() -> str:
    """Begin to record spans, and to write log lines, as the settings say; answers what is wrong with them.

    An app whose import fails has no functions at all, so it is said by what opens the cloud.
    """
    try:
        begin(os.environ, service="certcast-function")
    except ConfigurationError as error:
        log.error("%s", error)
        return str(error)
    return ""


_unfit = _begun()


def cloud() -> Cloud:
    """What the use cases act on, opened once per event loop; its connections live as long as the process does."""
    if _unfit:
        raise ConfigurationError(_unfit)
    loop = asyncio.get_running_loop()
    if loop not in _opened:
        _opened[loop] = open_cloud(Settings.from_env())
    return _opened[loop]


# Annotated as text, the parameter is the event as it was sent (azure-functions-python-worker, functions.py): either
# schema fits, and what cannot be read is dropped here, where the library's converter would answer it with a failure.


@app.function_name("on_blob_event")
@app.event_grid_trigger(arg_name="event")
async def on_blob_event(event: str, context: func.Context) -> None:
    """A blob was uploaded or deleted."""
    told = _told("on_blob_event", event)
    if told is None:
        return
    notice = read_event(told.kind, told.subject, told.data, told.at, container=UPLOADS_CONTAINER)
    if notice is not None:
        with invoked(context.trace_context.trace_parent):
            await handle_notice(cloud(), notice)


@app.function_name("on_key_vault_event")
@app.event_grid_trigger(arg_name="event")
async def on_key_vault_event(event: str, context: func.Context) -> None:
    """A certificate in a vault that `CERTCAST_KEY_VAULTS` names got a new version."""
    told = _told("on_key_vault_event", event)
    if told is None or told.kind not in NEW_VERSION:
        return
    name = vault_upload(told.kind, told.data)
    if name is None:
        log.error("on_key_vault_event: an event is dropped: it names no certificate in a vault")
        return
    with invoked(context.trace_context.trace_parent):
        await handle_notice(cloud(), Notice(name=name, at=told.at))


@app.function_name("recheck_upload")
@app.queue_trigger(arg_name="message", queue_name=RECHECK_QUEUE, connection=STORAGE)
async def recheck_upload(message: func.QueueMessage, context: func.Context) -> None:
    """An upload that waited, or could not be handled at once, is looked at again, or its events are sent."""
    with invoked(context.trace_context.trace_parent):
        await _taken(RECHECK_QUEUE, message, RecheckUpload, recheck)


@app.function_name("install_result")
@app.queue_trigger(arg_name="message", queue_name=RESULTS_QUEUE, connection=STORAGE)
async def install_result(message: func.QueueMessage, context: func.Context) -> None:
    """An instance reports what it installed and saw."""
    with invoked(context.trace_context.trace_parent):
        await _taken(RESULTS_QUEUE, message, InstallReport, fold)


@app.function_name("sweep")
@app.timer_trigger(arg_name="timer", schedule=SWEEP_SCHEDULE, run_on_startup=False, use_monitor=False)
async def sweep_all(timer: func.TimerRequest, context: func.Context) -> None:  # noqa: ARG001 - the host passes it by name
    """Once a minute, whatever the events missed."""
    try:
        async with asyncio.timeout(SWEEP_ENDS_S):
            with invoked(context.trace_context.trace_parent), span(Stage.SWEEP):
                await sweep(cloud())
    except TimeoutError:
        log.error("sweep: ended after %g s, as something did not end by itself; the next one goes on", SWEEP_ENDS_S)


@app.function_name("certificates")
@app.route("certificates/{*name}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
async def certificates(req: func.HttpRequest) -> func.HttpResponse:
    """The uploads, page by page, or the one that the path goes on to name.

    One function for both: of several routes that match, the host takes the first by its function's name, and this one
    matches `certificates` alone too.
    """
    asked = {name: req.params.get(name) or None for name in ("removed", "limit", "after")}
    if name := _name_in(req):
        return await _answered(lambda: status_api.certificate(cloud(), name))
    return await _answered(lambda: status_api.certificates(cloud(), **asked))


@app.function_name("redeploy")
@app.route("certificates/{*name}", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
async def redeploy(req: func.HttpRequest) -> func.HttpResponse:
    """Install one upload once more; the route's last part is `/redeploy`, as names may hold slashes."""
    path = _name_in(req)
    name = path.removesuffix("/redeploy")
    if name == path:
        return _json(HTTPStatus.NOT_FOUND, {"error": "post to /api/certificates/{name}/redeploy"})
    return await _answered(lambda: status_api.redeploy_certificate(cloud(), name))


@app.function_name("instances")
@app.route("instances", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
async def instances(req: func.HttpRequest) -> func.HttpResponse:
    """The registered instances, page by page."""
    asked = {name: req.params.get(name) or None for name in ("limit", "after")}
    return await _answered(lambda: status_api.instances(cloud(), **asked))


@app.function_name("history")
@app.route("history", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
async def history(req: func.HttpRequest) -> func.HttpResponse:
    """What became of uploads, newest first, page by page."""
    asked = {name: req.params.get(name) or None for name in history_api.PARAMETERS}
    return await _answered(lambda: history_api.history(cloud(), asked))


@app.function_name("notify")
@app.route("notify", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
async def notify(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the host's form of a function
    """Send a test event to every outlet of outgoing events."""
    return await _answered(lambda: notify_all(cloud()))


@app.function_name("dashboard")
@app.route(
    "dashboard/{*rest}",
    methods=["GET", "HEAD", "POST"],
    auth_level=func.AuthLevel.ANONYMOUS if ACCESS.signs_in else func.AuthLevel.FUNCTION,
)
async def dashboard(req: func.HttpRequest) -> func.HttpResponse:
    """The pages for people, and what these refer to."""
    asked = Request.of(
        req.method,
        req.url,
        rest=req.route_params.get("rest") or "",
        query=req.params,
        headers=req.headers,
        body=req.get_body(),
    )
    try:
        answer = await serving.answer(cloud(), asked, ACCESS)
    except CertcastError as error:  # a setting is wrong, and nothing can be opened
        answer = serving.unopened(asked, ACCESS, str(error))
    return func.HttpResponse(answer.body, status_code=answer.status, headers=dict(answer.headers))


@app.function_name("healthz")
@app.route("healthz", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def healthz(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the host passes it by name
    """Whether the Function can do its work, and which part of it fails."""
    try:
        opened = cloud()
    except CertcastError:
        answer = health_of([SETTINGS])
        return _json(answer.status, answer.document)
    return await _answered(lambda: health(opened))


@app.function_name("diagnosis")
@app.route("diagnosis", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
async def diagnose(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the host passes it by name
    """What is wrong with the Function, and what to do about it."""
    try:
        opened = cloud()
    except CertcastError as error:
        answer = not_opened(error, utc_now())
        return _json(answer.status, answer.document)
    return await _answered(lambda: diagnosis(opened))


@app.function_name("openapi")
@app.route("openapi.json", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def openapi(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the host's form of a function
    """The description of the status API."""
    return _json(HTTPStatus.OK, status_api.openapi())


def _told(function: str, event: str) -> GridEvent | None:
    """What an event says; one that cannot be read is dropped, as it could not be read the next time either."""
    try:
        return decode_event(event)
    except BrokenMessageError as error:
        log.error("%s: an event is dropped: %s", function, error)
        return None


async def _taken(
    queue: str, message: func.QueueMessage, kind: type[Message], act: Callable[[Cloud, Message], Awaitable[object]]
) -> None:
    """Act on a message; what cannot be read is dropped, as it could not be read the next time either."""
    try:
        read = decode(kind, message.get_body())
    except BrokenMessageError as error:
        log.error("queue %s: a message is dropped: %s", queue, error)
        return
    try:
        async with asyncio.timeout(MESSAGE_S):
            await act(cloud(), read)
    except TimeoutError:
        log.warning("queue %s: a message takes longer than %g s; it is seen again", queue, MESSAGE_S)
        raise


async def _answered(answer: Callable[[], Awaitable[status_api.Answer]]) -> func.HttpResponse:
    try:
        async with asyncio.timeout(ANSWER_S):
            found = await answer()
    except CertcastError as error:
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)})
    except TimeoutError:
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"not done in {ANSWER_S:g} s; ask again"})
    return _json(found.status, found.document)


def _name_in(req: func.HttpRequest) -> str:
    """What stands behind `certificates/`; the host leaves a slash at the path's end in it."""
    return (req.route_params.get("name") or "").rstrip("/")


def _json(status: int, document: dict[str, object]) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(document, allow_nan=False), status_code=status, mimetype="application/json")
