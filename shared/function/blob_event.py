"""Notices: what an Event Grid event says about a blob."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shared.upload import is_certificate_name

if TYPE_CHECKING:
    from collections.abc import Mapping

# learn.microsoft.com, "Azure Blob Storage as an Event Grid source": types, and the subject of a blob event.
_CREATED = "Microsoft.Storage.BlobCreated"
_DELETED = "Microsoft.Storage.BlobDeleted"
_CONTAINERS = "/blobServices/default/containers/"
_BLOBS = "/blobs/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Why an upload is looked at.

    Attributes:
        name: Blob name.
        etag: The version the event was about, without quotes; empty when unknown.
        at: When that happened, by the storage account's clock; None when unknown.
        deletion: Whether the event was about a deletion.
        traceparent: W3C trace context to go on with; a new trace begins when empty.
        again: Whether to look although this version is done with: what may be accepted has changed.
    """

    name: str
    etag: str = ""
    at: datetime | None = None
    deletion: bool = False
    traceparent: str = ""
    again: bool = False


def read_event(
    event_type: str, subject: str, data: Mapping[str, object], at: datetime | None, *, container: str
) -> Notice | None:
    """Reduce an event to what is used; None for any other kind of event, another container, or no upload's name."""
    if event_type not in {_CREATED, _DELETED} or not subject.startswith(_CONTAINERS):
        return None
    found, mark, name = subject.removeprefix(_CONTAINERS).partition(_BLOBS)
    if not mark or found != container or not is_certificate_name(name):
        return None
    # Seen quoted and unquoted, so the quotes are taken off.
    etag = str(data.get("eTag") or "").strip('"')
    return Notice(name=name, etag=etag, at=at, deletion=event_type == _DELETED)
