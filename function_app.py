"""The Functions app: triggers only; each hands over to a use case in `shared` (docs/architecture.md).

Python v2 programming model (learn.microsoft.com, "Azure Functions Python developer guide").
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import azure.functions as func

from shared.announcing import decode_event, publish
from shared.blob_event import BlobEventType, read_event
from shared.config import Settings
from shared.errors import BrokenMessageError
from shared.intake import Notice, handle_notice, recheck
from shared.messages import OUTBOX_QUEUE, RECHECK_QUEUE, RESULTS_QUEUE, InstallReport, RecheckUpload, decode
from shared.opening import open_cloud
from shared.results import fold
from shared.storage import UPLOADS_CONTAINER
from shared.sweep import sweep
from shared.upload import is_certificate_name

if TYPE_CHECKING:
    from shared.cloud import Cloud

STORAGE = "CERTCAST_STORAGE"
# Read here rather than written as %CERTCAST_SWEEP_SCHEDULE%, without which the host would not start.
SWEEP_SCHEDULE = os.environ.get("CERTCAST_SWEEP_SCHEDULE") or "0 * * * * *"

app = func.FunctionApp()
log = logging.getLogger("certcast")

_opened: dict[asyncio.AbstractEventLoop, Cloud] = {}


def cloud() -> Cloud:
    """What the use cases act on, opened once per event loop; its connections live as long as the process does."""
    loop = asyncio.get_running_loop()
    if loop not in _opened:
        _opened[loop] = open_cloud(Settings.from_env())
    return _opened[loop]


@app.function_name("on_blob_event")
@app.event_grid_trigger(arg_name="event")
async def on_blob_event(event: func.EventGridEvent) -> None:
    """A blob was uploaded or deleted."""
    seen = read_event(event.event_type or "", event.subject or "", event.get_json() or {}, event.event_time)
    if seen is None or seen.container != UPLOADS_CONTAINER or not is_certificate_name(seen.name):
        return
    deletion = seen.kind is BlobEventType.DELETED
    await handle_notice(cloud(), Notice(name=seen.name, etag=seen.etag, at=seen.at, deletion=deletion))


@app.function_name("recheck_upload")
@app.queue_trigger(arg_name="message", queue_name=RECHECK_QUEUE, connection=STORAGE)
async def recheck_upload(message: func.QueueMessage) -> None:
    """An upload that waited for its metadata, or could not be handled at once, is looked at again."""
    try:
        await recheck(cloud(), decode(RecheckUpload, message.get_body()))
    except BrokenMessageError as error:
        log.error("queue %s: a message is dropped: %s", RECHECK_QUEUE, error)


@app.function_name("install_result")
@app.queue_trigger(arg_name="message", queue_name=RESULTS_QUEUE, connection=STORAGE)
async def install_result(message: func.QueueMessage) -> None:
    """An instance reports what it installed and saw."""
    try:
        await fold(cloud(), decode(InstallReport, message.get_body()))
    except BrokenMessageError as error:
        log.error("queue %s: a message is dropped: %s", RESULTS_QUEUE, error)


@app.function_name("publish_event")
@app.queue_trigger(arg_name="message", queue_name=OUTBOX_QUEUE, connection=STORAGE)
async def publish_event(message: func.QueueMessage) -> None:
    """An event waits on the outbox."""
    try:
        await publish(cloud(), decode_event(message.get_body()))
    except BrokenMessageError as error:
        log.error("queue %s: a message is dropped: %s", OUTBOX_QUEUE, error)


@app.function_name("sweep")
@app.timer_trigger(arg_name="timer", schedule=SWEEP_SCHEDULE, run_on_startup=False, use_monitor=False)
async def sweep_all(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the host passes it by name
    """Once a minute, whatever the events missed."""
    await sweep(cloud())
