"""The event Azure Storage emits for a changed blob, in the Event Grid schema; `schemas.py` has the other one.

https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from local_azure.eventgrid.blob_request import Operation
from shared.config import EMULATOR_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from local_azure.eventgrid.blob_request import BlobChange

Event = dict[str, Any]
"""One event as JSON."""

TOPIC = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local"
    f"/providers/Microsoft.Storage/storageAccounts/{EMULATOR_ACCOUNT}"
)
BLOB_CREATED = "Microsoft.Storage.BlobCreated"
BLOB_DELETED = "Microsoft.Storage.BlobDeleted"


class Sequencer:
    """Hands out the opaque `sequencer` strings, each greater than every one before it, earlier runs included.

    They count the nanoseconds of the clock, and by one where the clock has not moved; a clock set back between two
    runs would break the order.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> str:
        """The next one: 32 hexadecimal digits, so that strings compare as numbers do."""
        self._last = max(self._last + 1, self._clock())
        return f"{self._last:032X}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobFacts:
    """What an event says about the blob itself.

    Attributes:
        etag: As the service answered it, or without quotes; both occur in Azure. None for a deletion.
        content_type: The blob's Content-Type.
        content_length: Size in bytes; None for a deletion.
        blob_type: `BlockBlob`, `PageBlob` or `AppendBlob`.
    """

    etag: str | None = None
    content_type: str = "application/octet-stream"
    content_length: int | None = None
    blob_type: str = "BlockBlob"


def event_type(change: BlobChange) -> str:
    """The event type a change makes."""
    return BLOB_DELETED if change.operation is Operation.DELETE_BLOB else BLOB_CREATED


def storage_event(
    change: BlobChange,
    facts: BlobFacts,
    *,
    account_url: str,
    request_id: str,
    client_request_id: str | None,
    sequencer: str,
    now: datetime,
) -> Event:
    """Build the event for a change that succeeded.

    Args:
        change: Which blob, and how.
        facts: The blob after the change, or before it for a deletion.
        account_url: URL of the account's blob service as its clients know it.
        request_id: `x-ms-request-id` of the answer.
        client_request_id: `x-ms-client-request-id` of the request.
        sequencer: From `Sequencer.next`.
        now: When it happened, UTC.
    """
    data: Event = {"api": change.operation.value}
    if client_request_id:
        data["clientRequestId"] = client_request_id
    data["requestId"] = request_id
    if facts.etag is not None:
        data["eTag"] = facts.etag
    data["contentType"] = facts.content_type
    if facts.content_length is not None:
        data["contentLength"] = facts.content_length
    data |= {
        "blobType": facts.blob_type,
        "url": f"{account_url}/{quote(change.container)}/{quote(change.blob, safe='/~')}",
        "sequencer": sequencer,
        "storageDiagnostics": {"batchId": str(uuid.uuid4())},
    }
    return {
        "topic": TOPIC,
        "subject": change.subject,
        "eventType": event_type(change),
        "id": str(uuid.uuid4()),
        "data": data,
        "dataVersion": "",
        "metadataVersion": "1",
        "eventTime": event_time(now),
    }


def event_time(moment: datetime) -> str:
    """An instant in UTC as Event Grid writes it: with seven digits of a second."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond * 10:07d}Z"
