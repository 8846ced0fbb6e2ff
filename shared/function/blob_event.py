"""Notices: what an Event Grid event says about a blob."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shared.phrasing import logger
from shared.upload import is_canary, is_certificate_name

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logger(__name__)

# learn.microsoft.com, "Azure Blob Storage as an Event Grid source": types, and the subject of a blob event.
_CREATED = "Microsoft.Storage.BlobCreated"
_DELETED = "Microsoft.Storage.BlobDeleted"
# Azure's page of the blob events has the slash at the beginning in both schemas, its page of CloudEvents has none.
_SUBJECT = re.compile(r"/?blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL)


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
    """Reduce an event to what is used; None unless it is about a blob of that container: an upload, or a new canary."""
    where = _SUBJECT.match(subject)
    if event_type not in {_CREATED, _DELETED}:
        return None
    if where is None:
        log.error("an event is dropped: its subject %s names no blob", subject)
        return None
    found, name = where.groups()
    is_looked_at = is_certificate_name(name) or (is_canary(name) and event_type == _CREATED)
    if found != container or not is_looked_at:
        return None
    etag = data.get("eTag")
    # Seen quoted and unquoted, so the quotes are taken off.
    etag = etag.strip('"') if isinstance(etag, str) else ""
    return Notice(name=name, etag=etag, at=at, deletion=event_type == _DELETED)
