"""A test event through every outlet: what each answered, and how long that took."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from shared.errors import CertcastError
from shared.function.outbox import new_event_id
from shared.function.status_api import Answer
from shared.state.cloud_event import attempt_document, trial_event

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.messages import OutgoingEvent
    from shared.ports import Outlet
    from shared.state.document import Document

TRIAL_S = 20.0
"""How long an outlet's answer to a test event is waited for."""


async def notify_all(cloud: Cloud) -> Answer:
    """Send a test event to every outlet at the same time; it is not tried again, and stands in no row."""
    if not cloud.outlets:
        reason = (
            "no outlet is set: set CERTCAST_EVENTGRID_TOPIC to an Event Grid topic's endpoint, or CERTCAST_WEBHOOK to "
            "the address of a webhook"
        )
        return Answer(status=HTTPStatus.CONFLICT, document={"error": reason})
    event = trial_event(at=cloud.now(), event_id=new_event_id())
    outlets = await asyncio.gather(*(_tried(outlet, event) for outlet in cloud.outlets))
    return Answer(status=HTTPStatus.OK, document={"event_id": event.event_id, "outlets": outlets})


async def _tried(outlet: Outlet, event: OutgoingEvent) -> Document:
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        async with asyncio.timeout(TRIAL_S):
            answer, taken = await outlet.send(event), True
    except (CertcastError, TimeoutError) as error:
        answer, taken = str(error) or f"no answer in {TRIAL_S:g} s", False
    return attempt_document(outlet.name, answer, taken=taken, seconds=clock() - began)
