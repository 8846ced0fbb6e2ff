"""The Functions app: triggers only; each hands over to a use case in `shared` (docs/architecture.md).

Python v2 programming model (learn.microsoft.com, "Azure Functions Python developer guide").
"""

from __future__ import annotations

import asyncio
import logging

import azure.functions as func

from shared.account import Account
from shared.blob_event import BlobEventType, read_event
from shared.cloud import Cloud
from shared.config import Settings
from shared.errors import BrokenMessageError
from shared.intake import Notice, handle_notice, recheck
from shared.messages import RECHECK_QUEUE, RESULTS_QUEUE, InstallReport, RecheckUpload, decode
from shared.results import fold
from shared.storage import UPLOADS_CONTAINER
from shared.upload import is_certificate_name
from shared.validation import Trust, ValidationPolicy

STORAGE = "CERTCAST_STORAGE"

app = func.FunctionApp()
log = logging.getLogger("certcast")

_opened: dict[asyncio.AbstractEventLoop, Cloud] = {}


def cloud() -> Cloud:
    """Open the account once per event loop; the clients live as long as the process does."""
    loop = asyncio.get_running_loop()
    if loop not in _opened:
        settings = Settings.from_env()
        account = Account(
            settings.storage, key_encryption_key=settings.key_encryption_key, key_vaults=settings.key_vaults
        )
        _opened[loop] = Cloud(
            uploads=account.uploads,
            bundles=account.bundles,
            queues=account.queues,
            state=account.state,
            secrets=account.secrets,
            policy=ValidationPolicy(trust=Trust.from_setting(settings.trust)),
            scrub_password=settings.scrub_password,
        )
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
