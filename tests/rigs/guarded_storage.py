"""A storage account as one party has it: its requests are written down, and refused unless its roles allow them.

It stands before an emulator, which knows no roles of its own, and answers as Azure does (learn.microsoft.com, "Common
REST API error codes", AuthorizationPermissionMismatch).
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from local_azure.eventgrid.passthrough import HEADER_LIMIT, Passthrough, body_of, restore_headers
from local_azure.processes.listening import LOOPBACK, listen
from shared.config import EMULATOR_ACCOUNT, emulator_connection_string
from tests.rigs.storage_roles import Grant, Request, allowed

_LARGEST = 8 * 1024 * 1024


class GuardedStorage:
    """The account behind its roles; made by `guarded`.

    Attributes:
        connection_string: What the party is started with.
        asked: What it has asked for.
        refused: What of it was refused.
    """

    def __init__(self, grants: Sequence[Grant]) -> None:
        self.connection_string = ""
        self.asked: set[Request] = set()
        self.refused: set[Request] = set()
        self._grants = grants

    def admit(self, request: Request) -> bool:
        """Write down what is asked, and tell whether the roles allow it."""
        self.asked.add(request)
        if allowed(self._grants, request):
            return True
        self.refused.add(request)
        return False


@asynccontextmanager
async def guarded(ports: Mapping[str, int], grants: Sequence[Grant]) -> AsyncIterator[GuardedStorage]:
    """Stand before a storage account's services, which may be started later, with these role assignments.

    Args:
        ports: Where the services `blob`, `queue` and `table` listen on loopback.
        grants: The party's role assignments.
    """
    storage = GuardedStorage(grants)
    async with AsyncExitStack() as stack:
        own = {service: await _stand_before(stack, service, port, storage) for service, port in ports.items()}
        storage.connection_string = emulator_connection_string(
            blob_port=own["blob"], queue_port=own["queue"], table_port=own["table"]
        )
        yield storage


async def _stand_before(stack: AsyncExitStack, service: str, port: int, storage: GuardedStorage) -> int:
    passthrough = Passthrough(f"http://{LOOPBACK}:{port}")
    stack.push_async_callback(passthrough.close)

    async def handle(request: web.Request) -> web.StreamResponse:
        if not storage.admit(request_of(service, request.method, request.raw_path, request.headers)):
            return web.Response(status=403, headers={"x-ms-error-code": "AuthorizationPermissionMismatch"})
        body = body_of(request) if request.can_read_body else None
        async with passthrough.send(request, body) as answer:
            return await passthrough.answer(request, answer)

    app = web.Application(client_max_size=_LARGEST)
    app.router.add_route("*", r"/{rest:[\s\S]*}", handle)
    app.on_response_prepare.append(restore_headers)
    runner = web.AppRunner(
        app, access_log=None, auto_decompress=False, max_line_size=HEADER_LIMIT, max_field_size=HEADER_LIMIT
    )
    stack.push_async_callback(runner.cleanup)
    return await listen(runner, LOOPBACK, 0, f"the guarded {service} service")


def request_of(service: str, method: str, target: str, headers: Mapping[str, str]) -> Request:
    """What a request of the Blob, Queue or Table REST API asks for.

    Raises:
        ValueError: It is an operation that nothing here has needed so far.
    """
    path, _, query = target.partition("?")
    names = unquote(path).removeprefix(f"/{EMULATOR_ACCOUNT}").strip("/")
    parameters = {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
    found = {"blob": _of_blobs, "queue": _of_queues, "table": _of_tables}[service](method, names, parameters, headers)
    if found is None:
        raise ValueError(f"which operation is {method} {target} of the {service} service?")
    operation, resource = found
    path = names.partition("/")[2] if service == "blob" else ""
    return Request(operation=operation, resource=resource, path=path)


_Found = tuple[str, str] | None


def _of_blobs(method: str, names: str, parameters: Mapping[str, str], _headers: Mapping[str, str]) -> _Found:
    container, _, blob = names.partition("/")
    about = parameters.get("comp", "")
    if not blob:
        operation = {("GET", "list"): "List Blobs", ("PUT", ""): "Create Container"}.get((method, about))
    else:
        operation = {
            ("GET", ""): "Get Blob",
            ("HEAD", ""): "Get Blob Properties",
            ("PUT", ""): "Put Blob",
            ("DELETE", ""): "Delete Blob",
            ("PUT", "metadata"): "Set Blob Metadata",
            ("GET", "tags"): "Get Blob Tags",
            ("PUT", "tags"): "Set Blob Tags",
        }.get((method, about))
    return None if operation is None else (operation, f"container {container}")


def _of_queues(method: str, names: str, parameters: Mapping[str, str], _headers: Mapping[str, str]) -> _Found:
    queue, _, rest = names.partition("/")
    about = parameters.get("comp", "")
    if not queue:
        return ("List Queues", "account") if (method, about) == ("GET", "list") else None
    kind = "message" if rest.startswith("messages/") else rest
    operation = {
        ("PUT", "", ""): "Create Queue",
        ("DELETE", "", ""): "Delete Queue",
        ("GET", "", "metadata"): "Get Queue Metadata",
        ("POST", "messages", ""): "Put Message",
        ("GET", "messages", ""): "Peek Messages" if parameters.get("peekonly") == "true" else "Get Messages",
        ("DELETE", "messages", ""): "Clear Messages",
        ("PUT", "message", ""): "Update Message",
        ("DELETE", "message", ""): "Delete Message",
    }.get((method, kind, about))
    return None if operation is None else (operation, f"queue {queue}")


def _of_tables(method: str, names: str, _parameters: Mapping[str, str], headers: Mapping[str, str]) -> _Found:
    [table] = re.findall(r"^\w+", names)
    if table == "Tables":
        return ("Create Table", "account") if method == "POST" else None
    if method in {"PUT", "PATCH", "MERGE"} and "If-Match" not in headers:
        return None  # it would write whether or not the row is as it was read
    operation = {
        "GET": "Query Entities",
        "POST": "Insert Entity",
        "PUT": "Update Entity",
        "PATCH": "Merge Entity",
        "MERGE": "Merge Entity",
        "DELETE": "Delete Entity",
    }.get(method)
    return None if operation is None else (operation, f"table {table}")
