"""Events as Event Grid delivers them, in whichever of its two schemas a subscription asks for.

https://learn.microsoft.com/azure/event-grid/event-schema and https://learn.microsoft.com/azure/event-grid/cloud-event-schema:
the same fields, of which some have other names. `specversion` tells which it is, as it does to azure-functions. Its own
decoding fails for a time that is not in UTC or an attribute named `self`, and such an event would come again for a day
and have Event Grid hold back the endpoint's other events.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared.errors import BrokenMessageError
from shared.phrasing import shown

# CloudEvents 1.0, section "specversion": the one value that there is.
_SPECVERSION = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEvent:
    """What an event says, whatever its schema.

    Attributes:
        kind: Its type, such as `Microsoft.Storage.BlobCreated`.
        subject: What it is about; empty where it does not say.
        data: Its data; empty where that is no JSON object.
        at: When it happened; None where it does not say so in a form that is understood.
    """

    kind: str
    subject: str = ""
    data: Mapping[str, object] = field(default_factory=dict)
    at: datetime | None = None


def decode_event(text: str) -> GridEvent:
    """Read an event as it was sent.

    An event is a hint: without its time or its data it is still one, so that only what makes it none is refused.

    Raises:
        BrokenMessageError: It is not JSON, of neither schema, or has no type.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenMessageError("it is not JSON") from None
    if not isinstance(document, dict):
        raise BrokenMessageError("it is not a JSON object")
    version = document.get("specversion", _SPECVERSION)
    if version != _SPECVERSION:
        raise BrokenMessageError(f"it is of version {shown(str(version))} of CloudEvents, and {_SPECVERSION} is read")
    kind, at = ("type", "time") if "specversion" in document else ("eventType", "eventTime")
    subject = document.get("subject")
    if not isinstance(document.get(kind), str):
        raise BrokenMessageError(f"it has no {kind}")
    if subject is not None and not isinstance(subject, str):
        raise BrokenMessageError("its subject is not a text")
    return GridEvent(kind=document[kind], subject=subject or "", data=_data(document), at=_moment(document.get(at)))


def _data(document: Mapping[str, object]) -> Mapping[str, object]:
    """The data; as an object, as text of one, or in base64 (CloudEvents JSON format 1.0, section 3.1)."""
    data = document.get("data")
    try:
        if data is None:
            data = base64.b64decode(str(document.get("data_base64", "")), validate=True)
        if isinstance(data, str | bytes):
            data = json.loads(data)
    except (ValueError, RecursionError, binascii.Error):
        return {}
    return data if isinstance(data, dict) else {}


def _moment(text: object) -> datetime | None:
    """An instant in ISO 8601, in UTC where it has no zone."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)
