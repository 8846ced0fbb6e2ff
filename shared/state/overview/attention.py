"""Which uploads and instances need somebody, by their entries in the status document."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from shared.state.document import Document

ENDS_SOON = timedelta(days=14)
"""What ends within so long needs a renewal now."""
WAITS_LONG = timedelta(minutes=1)
"""What an upload waits for takes seconds; after so long somebody should look."""

BY_URGENCY = (
    UploadStatus.FAILED,
    UploadStatus.REJECTED,
    UploadStatus.PARTIALLY_LIVE,
    UploadStatus.WAITING_FOR_METADATA,
    UploadStatus.RECEIVED,
    UploadStatus.ACCEPTED,
    UploadStatus.SCHEDULED,
    UploadStatus.LIVE,
    UploadStatus.SUPERSEDED,
    UploadStatus.REMOVED,
)
"""The statuses, those first that somebody should look at first."""
_FAILED = frozenset({UploadStatus.REJECTED, UploadStatus.FAILED, UploadStatus.PARTIALLY_LIVE})
_NOT_ENDING = frozenset({UploadStatus.REJECTED, UploadStatus.SUPERSEDED, UploadStatus.REMOVED})


def needs_somebody(upload: Document, *, now: datetime) -> bool:
    """Whether a person should look: it is not served as it should be, waits for long, or ends soon."""
    return has_failed(upload) or waits_long(upload, now=now) or ends_within(upload, ENDS_SOON, now=now)


def has_failed(upload: Document) -> bool:
    """Whether it is not served everywhere, and nothing is under way: also where no instance that proved it is left."""
    return upload["status"] in _FAILED or is_stranded(upload)


def is_stranded(upload: Document) -> bool:
    """Whether it is live on none, as no instance that proved it runs."""
    return bool(upload["status"] == UploadStatus.LIVE and not upload["live"])


def waits_long(upload: Document, *, now: datetime) -> bool:
    """Whether what it waits for has taken more than a minute; that a certificate becomes valid is no such thing."""
    waiting = upload.get("waiting_for")
    if not waiting or upload["status"] == UploadStatus.SCHEDULED:
        return False
    return has_waited(waiting["since"], now)


def has_waited(since: str | None, now: datetime) -> bool:
    """Whether what waits since then does so for more than a minute; so does what has waited for an unknown time."""
    return since is None or now - datetime.fromisoformat(since) >= WAITS_LONG


def ends_within(upload: Document, within: timedelta, *, now: datetime) -> bool:
    """Whether it is served, or is to be, and its certificate ends within so long or has ended."""
    end = instant(upload.get("not_after"))
    return end is not None and upload["status"] not in _NOT_ENDING and end - now <= within


def instant(text: str | None) -> datetime | None:
    """An instant of the document."""
    return None if text is None else datetime.fromisoformat(text)


def instance_needs_somebody(instance: Document) -> bool:
    """Whether a registered instance is silent, in trouble or failing; one that was stopped on purpose is not."""
    return is_silent(instance) or bool(runs(instance) and (instance.get("trouble") or instance["failing"]))


def is_silent(instance: Document) -> bool:
    """Whether it missed three heartbeats and was not stopped."""
    return not runs(instance) and not instance["stopped"]


def runs(instance: Document) -> bool:
    """Whether its agent runs."""
    return bool(instance["alive"])
