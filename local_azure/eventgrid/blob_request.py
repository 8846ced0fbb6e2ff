"""What a request to the Blob REST API would change: which blob, by which operation.

The operations and their headers: https://learn.microsoft.com/rest/api/storageservices/operations-on-blobs; which of
them make an event: https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOSTS_WITHOUT_ACCOUNT = frozenset({"localhost", "host.docker.internal"})


class Operation(StrEnum):
    """The operations of a flat-namespace account that make an event; the values are the event's `data.api`."""

    PUT_BLOB = "PutBlob"
    PUT_BLOCK_LIST = "PutBlockList"
    COPY_BLOB = "CopyBlob"
    DELETE_BLOB = "DeleteBlob"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobChange:
    """One blob that a request creates, replaces or deletes if it succeeds.

    Attributes:
        operation: How.
        container: Container name.
        blob: Blob name, decoded.
    """

    operation: Operation
    container: str
    blob: str

    @property
    def subject(self) -> str:
        """The subject of its event."""
        return f"/blobServices/default/containers/{self.container}/blobs/{self.blob}"


def blob_change(method: str, target: str, host: str, headers: Mapping[str, str]) -> BlobChange | None:
    """The blob that a request would create, replace or delete.

    Args:
        method: HTTP method.
        target: Path and query as they stand in the request line.
        host: Value of the Host header.
        headers: Request headers in a mapping that ignores case, or with lower-case names.

    Returns:
        The change; None for everything that makes no event (blocks, metadata, tags, leases, snapshots, reads …).
    """
    path, _, query = target.partition("?")
    parameters = {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
    container, blob = _container_and_blob(path, host)
    if not container or not blob or "restype" in parameters:
        return None
    operation = _operation(method, parameters, headers)
    return BlobChange(operation=operation, container=container, blob=blob) if operation is not None else None


def is_batch(method: str, target: str) -> bool:
    """Whether a request is a Blob Batch (https://learn.microsoft.com/rest/api/storageservices/blob-batch)."""
    query = target.partition("?")[2]
    return method == "POST" and ("comp", "batch") in ((name.lower(), value) for name, value in parse_qsl(query))


def batch_changes(content_type: str, body: bytes, host: str) -> dict[str, BlobChange]:
    """The deletions asked for by a batch's body, by the Content-ID of their parts."""
    changes = {}
    for content_id, (start, headers) in _parts(content_type, body).items():
        method, _, rest = start.partition(" ")
        change = blob_change(method, rest.rpartition(" ")[0], host, headers)
        if change is not None:
            changes[content_id] = change
    return changes


def batch_successes(content_type: str, body: bytes) -> dict[str, str]:
    """The Content-IDs of a batch response's successful parts, each with its `x-ms-request-id`."""
    return {
        content_id: headers.get("x-ms-request-id", "")
        for content_id, (start, headers) in _parts(content_type, body).items()
        if start.partition(" ")[2].startswith("2")
    }


def _container_and_blob(path: str, host: str) -> tuple[str, str]:
    """Split a path as Azurite does: the account is its first segment, unless the host name starts with it."""
    segments = unquote(path).removeprefix("/").split("/")
    if not _names_account(host):
        segments = segments[1:]
    if not segments:
        return "", ""
    # The storage service takes a backslash in a blob name for a slash.
    return segments[0], "/".join(segments[1:]).replace("\\", "/")


def _names_account(host: str) -> bool:
    name = host.lower() if host.startswith("[") else host.lower().partition(":")[0]
    try:
        ipaddress.ip_address(name.strip("[]").partition("]")[0])
    except ValueError:
        return name not in _HOSTS_WITHOUT_ACCOUNT and name.find(".") > 0
    return False


def _operation(method: str, parameters: Mapping[str, str], headers: Mapping[str, str]) -> Operation | None:
    component = parameters.get("comp")
    if method == "PUT" and component is None:
        # With a source and a blob type it is Put Blob From URL, which is a kind of Put Blob.
        if "x-ms-copy-source" in headers and "x-ms-blob-type" not in headers:
            return Operation.COPY_BLOB
        return Operation.PUT_BLOB if "x-ms-blob-type" in headers else None
    if method == "PUT" and component == "blocklist":
        return Operation.PUT_BLOCK_LIST
    if method == "DELETE" and component is None:
        only_snapshots = headers.get("x-ms-delete-snapshots", "").lower() == "only"
        if only_snapshots or "snapshot" in parameters or "versionid" in parameters:
            return None
        return Operation.DELETE_BLOB
    return None


def _parts(content_type: str, body: bytes) -> dict[str, tuple[str, dict[str, str]]]:
    """The start line and the lower-cased headers of each HTTP message in a batch, by Content-ID."""
    batch = BytesParser(policy=HTTP).parsebytes(b"Content-Type: %s\r\n\r\n%s" % (content_type.encode(), body))
    parts = {}
    for part in batch.walk():
        payload = None if part.is_multipart() else part.get_payload(decode=True)
        if isinstance(payload, bytes) and "Content-ID" in part:
            start, _, rest = payload.lstrip(b"\r\n").partition(b"\r\n")
            headers = BytesParser(policy=HTTP).parsebytes(rest, headersonly=True)
            lowered = {name.lower(): str(value) for name, value in headers.items()}
            parts[str(part["Content-ID"]).strip()] = (start.decode("utf-8", "replace"), lowered)
    return parts
