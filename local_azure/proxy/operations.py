"""What a request of the Blob, Queue or Table REST API asks for.

Operations are called as in the REST documentation (https://learn.microsoft.com/rest/api/storageservices/); only a read
of one row, which that has among "Query Entities", is called as the SDKs do: "Get Entity".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote

from aiohttp import hdrs

from shared.config import EMULATOR_ACCOUNT

Service = Literal["blob", "queue", "table"]

_ACCOUNT = "account"
_TABLE = re.compile(r"\w+")
_AMONG_TABLES = re.compile(r"Tables\('(\w+)'\)\Z")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class StorageRequest:
    """One thing asked of a storage account.

    Attributes:
        operation: Its name in the REST API; method and component, "PUT lease", of one not known here.
        resource: `container x`, `table x` or `queue x`; `account` for what is asked of all.
        path: The blob's name, where it is about one.
    """

    operation: str
    resource: str
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, as far as its answer depends on it.

    Attributes:
        service: The service that it goes to.
        request: What it asks for.
        headers: Its headers, in a mapping that ignores case.
        body: Its body, of requests to the table service alone.
        head: Whether its answer has no body: it was asked with HEAD.
    """

    service: Service
    request: StorageRequest
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    head: bool = False


def request_of(service: Service, method: str, target: str, headers: Mapping[str, str]) -> StorageRequest:
    """What a request asks for.

    Args:
        service: The service that it goes to.
        method: HTTP method.
        target: Path and query as they stand in the request line.
        headers: Request headers in a mapping that ignores case.
    """
    path, _, query = target.partition("?")
    names = unquote(path).removeprefix(f"/{EMULATOR_ACCOUNT}").strip("/")
    parameters = {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
    component = parameters.get("comp", "")
    first, _, rest = names.partition("/")
    if service == "blob":
        known = (_OF_BLOBS if rest else _OF_CONTAINERS if first else _OF_BLOB_SERVICE).get((method, component))
        resource = f"container {first}" if first else _ACCOUNT
    elif service == "queue":
        known = _of_queues(method, first, rest, parameters)
        resource = f"queue {first}" if first else _ACCOUNT
    else:
        table = _TABLE.match(names)
        known = _of_tables(method, names, headers) if table is not None else None
        among = _AMONG_TABLES.match(names)
        name = among[1] if among is not None else table[0] if table is not None and table[0] != "Tables" else ""
        resource = f"table {name}" if name else _ACCOUNT
    operation = known or f"{method} {component}".strip()
    return StorageRequest(operation=operation, resource=resource, path=rest if service == "blob" else "")


_OF_BLOB_SERVICE = {("GET", "list"): "List Containers"}
_OF_CONTAINERS = {
    ("GET", "list"): "List Blobs",
    ("GET", ""): "Get Container Properties",
    ("HEAD", ""): "Get Container Properties",
    ("PUT", ""): "Create Container",
    ("DELETE", ""): "Delete Container",
}
_OF_BLOBS = {
    ("GET", ""): "Get Blob",
    ("HEAD", ""): "Get Blob Properties",
    ("PUT", ""): "Put Blob",
    ("PUT", "block"): "Put Block",
    ("PUT", "blocklist"): "Put Block List",
    ("DELETE", ""): "Delete Blob",
    ("PUT", "metadata"): "Set Blob Metadata",
    ("GET", "tags"): "Get Blob Tags",
    ("PUT", "tags"): "Set Blob Tags",
}


def _of_queues(method: str, queue: str, rest: str, parameters: Mapping[str, str]) -> str | None:
    component = parameters.get("comp", "")
    if not queue:
        return "List Queues" if (method, component) == ("GET", "list") else None
    kind = "message" if rest.startswith("messages/") else rest
    return {
        ("PUT", "", ""): "Create Queue",
        ("DELETE", "", ""): "Delete Queue",
        ("GET", "", "metadata"): "Get Queue Metadata",
        ("POST", "messages", ""): "Put Message",
        ("GET", "messages", ""): "Peek Messages" if parameters.get("peekonly") == "true" else "Get Messages",
        ("DELETE", "messages", ""): "Clear Messages",
        ("PUT", "message", ""): "Update Message",
        ("DELETE", "message", ""): "Delete Message",
    }.get((method, kind, component))


def _of_tables(method: str, names: str, headers: Mapping[str, str]) -> str | None:
    if names.startswith("Tables"):
        return {"POST": "Create Table", "DELETE": "Delete Table"}.get(method)
    unconditional = hdrs.IF_MATCH not in headers
    return {
        "GET": "Get Entity" if "PartitionKey=" in names else "Query Entities",
        "POST": "Insert Entity",
        "PUT": "Insert Or Replace Entity" if unconditional else "Update Entity",
        "PATCH": "Insert Or Merge Entity" if unconditional else "Merge Entity",
        "MERGE": "Insert Or Merge Entity" if unconditional else "Merge Entity",
        "DELETE": "Delete Entity",
    }.get(method)
