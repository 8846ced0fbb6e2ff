"""What an Event Grid event says about a blob; the blob itself is always looked at again before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# learn.microsoft.com, "Azure Blob Storage as an Event Grid source": the subject of a blob event.
_CONTAINERS = "/blobServices/default/containers/"
_BLOBS = "/blobs/"


class BlobEventType(StrEnum):
    """The event types that matter here."""

    CREATED = "Microsoft.Storage.BlobCreated"
    DELETED = "Microsoft.Storage.BlobDeleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobEvent:
    """One event, reduced to what is used.

    Attributes:
        kind: Created or deleted.
        container: Container name.
        name: Blob name, decoded.
        etag: Version the event is about, without quotes; empty for a deletion.
        at: When it happened, by the storage account's clock.
    """

    kind: BlobEventType
    container: str
    name: str
    etag: str
    at: datetime | None


def read_event(event_type: str, subject: str, data: Mapping[str, object], at: datetime | None) -> BlobEvent | None:
    """Reduce an event to what is used; None for any other kind of event."""
    try:
        kind = BlobEventType(event_type)
    except ValueError:
        return None
    container, mark, name = subject.removeprefix(_CONTAINERS).partition(_BLOBS)
    if not subject.startswith(_CONTAINERS) or not mark or not name:
        return None
    # Seen quoted and unquoted, hence the strip.
    etag = str(data.get("eTag") or "").strip('"')
    return BlobEvent(kind=kind, container=container, name=name, etag=etag, at=at)
