"""What is always true of Azure Storage and not of Azurite: names that are being deleted, and sizes."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from local_azure.proxy.refusals import (
    CONTAINER_BEING_DELETED,
    ENTITY_TOO_LARGE,
    METADATA_TOO_LARGE,
    QUEUE_BEING_DELETED,
    TABLE_BEING_DELETED,
    TOO_MANY_PROPERTIES,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_azure.proxy.answers import Refusal
    from local_azure.proxy.operations import Asked

DELETING_S = 40.0
"""How long deleting a queue or a table takes at least; a container takes 30 s (the sources are in `refusals.py`)."""

MAX_METADATA_BYTES = 8 * 1024
MAX_ENTITY_BYTES = 1024 * 1024
MAX_PROPERTIES = 252
"""learn.microsoft.com, "Setting and retrieving properties and metadata for Blob Storage" and "Understanding the Table
service data model"."""

_DELETIONS = {
    "Delete Queue": QUEUE_BEING_DELETED,
    "Delete Table": TABLE_BEING_DELETED,
    "Delete Container": CONTAINER_BEING_DELETED,
}
_METADATA = "x-ms-meta-"
_KEYS = ("PartitionKey", "RowKey")
_NO_PROPERTIES = {*_KEYS, "Timestamp"}


class BeingDeleted:
    """Queues, tables and containers whose deletion Azure has accepted and not yet finished.

    Args:
        lasting_s: How long it takes.
    """

    def __init__(self, lasting_s: float = DELETING_S) -> None:
        self._lasting_s = lasting_s
        self._until: dict[str, tuple[float, Refusal]] = {}

    def answer(self, asked: Asked, now: float) -> Refusal | None:
        """Refuse what is asked of one of them."""
        until, refusal = self._until.get(_named(asked), (now, None))
        return refusal if refusal is not None and now < until and refusal.fits(asked) else None

    def done(self, asked: Asked, status: int, now: float) -> None:
        """Remember what was deleted."""
        refusal = _DELETIONS.get(asked.request.operation)
        if refusal is not None and status < HTTPStatus.MULTIPLE_CHOICES:
            self._until[_named(asked)] = (now + self._lasting_s, refusal)


class Limits:
    """Sizes that Azure refuses and Azurite accepts."""

    def answer(self, asked: Asked, now: float) -> Refusal | None:  # noqa: ARG002 - they hold at any time
        """Refuse what is too large."""
        if METADATA_TOO_LARGE.fits(asked):
            return METADATA_TOO_LARGE if metadata_bytes(asked.headers) > MAX_METADATA_BYTES else None
        if not ENTITY_TOO_LARGE.fits(asked):
            return None
        properties = {name: value for name, value in _document(asked).items() if "odata." not in name}
        if len(properties.keys() - _NO_PROPERTIES) > MAX_PROPERTIES:
            return TOO_MANY_PROPERTIES
        return ENTITY_TOO_LARGE if entity_bytes(properties) > MAX_ENTITY_BYTES else None

    def done(self, asked: Asked, status: int, now: float) -> None:
        """Learn nothing."""


def metadata_bytes(headers: Mapping[str, str]) -> int:
    """The size of a blob's metadata: its names and values together."""
    return sum(
        len(name) - len(_METADATA) + len(value) for name, value in headers.items() if name.lower().startswith(_METADATA)
    )


def entity_bytes(properties: Mapping[str, Any]) -> int:
    """The size of a row: names and texts are stored in UTF-16, and no other value takes more than its text would."""
    return sum(2 * (len(name) + len(str(value))) for name, value in properties.items())


def _document(asked: Asked) -> dict[str, Any]:
    try:
        found = json.loads(asked.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _named(asked: Asked) -> str:
    """The container, table or queue; Create Table names it in its body. Tables' names ignore case."""
    if asked.request.operation == "Create Table":
        return f"table {_document(asked).get('TableName', '')}".lower()
    resource = asked.request.resource
    return resource.lower() if asked.service == "table" else resource
