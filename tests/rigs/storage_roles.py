"""What Azure's roles allow to be asked of a storage account, and who is given which by docs/deploy.md.

A role's permissions are those of its definition (learn.microsoft.com, "Azure built-in roles for Storage"), an
operation's those that its documentation asks for (learn.microsoft.com, "Authorize with Microsoft Entra ID",
"Permissions for calling data operations"), both without `Microsoft.Storage/storageAccounts/` before them.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_azure.proxy.operations import StorageRequest
from tests.rigs.conditions import holds
from tests.rigs.pages import DEPLOY, blocks, rows, section, shell_lines, text_of

_PROVIDER = "Microsoft.Storage/storageAccounts/"
_CONTAINERS = "blobServices/containers"
_BLOBS = f"{_CONTAINERS}/blobs"
_QUEUES = "queueServices/queues"
_MESSAGES = f"{_QUEUES}/messages"
_TABLES = "tableServices/tables"
_ENTITIES = f"{_TABLES}/entities"

BUILT_IN: Mapping[str, frozenset[str]] = {
    "Storage Blob Data Reader": frozenset({f"{_CONTAINERS}/read", f"{_BLOBS}/read"}),
    "Storage Blob Data Contributor": frozenset(
        {f"{_CONTAINERS}/{verb}" for verb in ("read", "write", "delete")}
        | {f"{_BLOBS}/{verb}" for verb in ("read", "write", "delete", "add/action", "move/action")}
    ),
    "Storage Blob Data Owner": frozenset(
        {f"{_CONTAINERS}/{verb}" for verb in ("read", "write", "delete")}
        | {f"{_BLOBS}/{verb}" for verb in ("read", "write", "delete", "add/action", "move/action")}
        | {f"{_BLOBS}/tags/{verb}" for verb in ("read", "write")}
    ),
    "Storage Queue Data Reader": frozenset({f"{_QUEUES}/read", f"{_MESSAGES}/read"}),
    "Storage Queue Data Message Sender": frozenset({f"{_MESSAGES}/add/action"}),
    "Storage Queue Data Contributor": frozenset(
        {f"{_QUEUES}/{verb}" for verb in ("read", "write", "delete")}
        | {f"{_MESSAGES}/{verb}" for verb in ("read", "write", "delete", "process/action")}
    ),
    "Storage Table Data Reader": frozenset({f"{_TABLES}/read", f"{_ENTITIES}/read"}),
    "Storage Table Data Contributor": frozenset(
        {f"{_TABLES}/{verb}" for verb in ("read", "write", "delete")}
        | {f"{_ENTITIES}/{verb}" for verb in ("read", "write", "delete", "add/action", "update/action")}
    ),
}

OPERATIONS: Mapping[str, tuple[frozenset[str], ...]] = {
    "Create Container": (frozenset({f"{_CONTAINERS}/write"}),),
    "List Blobs": (frozenset({f"{_BLOBS}/read"}),),
    "Get Blob": (frozenset({f"{_BLOBS}/read"}),),
    "Get Blob Properties": (frozenset({f"{_BLOBS}/read"}),),
    "Put Blob": (frozenset({f"{_BLOBS}/write"}),),
    "Set Blob Metadata": (frozenset({f"{_BLOBS}/write"}),),
    "Delete Blob": (frozenset({f"{_BLOBS}/delete"}),),
    "Get Blob Tags": (frozenset({f"{_BLOBS}/tags/read"}),),
    "Set Blob Tags": (frozenset({f"{_BLOBS}/tags/write"}),),
    "Create Queue": (frozenset({f"{_QUEUES}/write"}),),
    "Delete Queue": (frozenset({f"{_QUEUES}/delete"}),),
    "Get Queue Metadata": (frozenset({f"{_QUEUES}/read"}),),
    "List Queues": (frozenset({f"{_QUEUES}/read"}),),
    "Put Message": (frozenset({f"{_MESSAGES}/add/action"}), frozenset({f"{_MESSAGES}/write"})),
    "Get Messages": (
        frozenset({f"{_MESSAGES}/process/action"}),
        frozenset({f"{_MESSAGES}/delete", f"{_MESSAGES}/read"}),
    ),
    "Peek Messages": (frozenset({f"{_MESSAGES}/read"}),),
    "Delete Message": (frozenset({f"{_MESSAGES}/process/action"}), frozenset({f"{_MESSAGES}/delete"})),
    "Clear Messages": (frozenset({f"{_MESSAGES}/delete"}),),
    "Update Message": (frozenset({f"{_MESSAGES}/write"}),),
    "Create Table": (frozenset({f"{_TABLES}/write"}),),
    "Get Entity": (frozenset({f"{_ENTITIES}/read"}),),
    "Query Entities": (frozenset({f"{_ENTITIES}/read"}),),
    "Insert Entity": (frozenset({f"{_ENTITIES}/write"}), frozenset({f"{_ENTITIES}/add/action"})),
    "Update Entity": (frozenset({f"{_ENTITIES}/write"}), frozenset({f"{_ENTITIES}/update/action"})),
    "Insert Or Replace Entity": (
        frozenset({f"{_ENTITIES}/write"}),
        frozenset({f"{_ENTITIES}/add/action", f"{_ENTITIES}/update/action"}),
    ),
    "Merge Entity": (frozenset({f"{_ENTITIES}/write"}), frozenset({f"{_ENTITIES}/update/action"})),
    "Delete Entity": (frozenset({f"{_ENTITIES}/delete"}),),
}
"""What each operation needs: all permissions of one of these sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One role assignment.

    Attributes:
        role: The role's name.
        permissions: What it allows.
        scope: `container x`, `table x` or `queue x`; `account` for all of them.
        condition: The condition's text; empty for none.
    """

    role: str
    permissions: frozenset[str]
    scope: str
    condition: str = ""

    def covers(self, request: StorageRequest) -> frozenset[str]:
        """Its permissions that hold for what is asked."""
        if self.scope not in {"account", request.resource}:
            return frozenset()
        if not self.condition:
            return self.permissions
        return frozenset(
            each for each in self.permissions if holds(self.condition, f"{_PROVIDER}{each}", _attributes(request))
        )


def _attributes(request: StorageRequest) -> Mapping[str, str]:
    """What a condition may ask of what a request is about."""
    kind, _, name = request.resource.partition(" ")
    if kind == "container":
        return {f"{_PROVIDER}{_CONTAINERS}:name": name, f"{_PROVIDER}{_BLOBS}:path": request.path}
    return {f"{_PROVIDER}{_QUEUES}:name": name} if kind == "queue" else {}


def allowed(grants: Iterable[Grant], request: StorageRequest) -> bool:
    """Whether these role assignments, which add up, allow what is asked."""
    held = frozenset[str]().union(*(grant.covers(request) for grant in grants))
    return any(needed <= held for needed in OPERATIONS[request.operation])


def operations_on(resource: str) -> list[str]:
    """All that can be asked of a container, a table or a queue."""
    service = {"container": "blob", "table": "table", "queue": "queue"}[resource.partition(" ")[0]]
    return [name for name, needed in OPERATIONS.items() if any(each.startswith(service) for each in needed[0])]


def custom_role() -> tuple[str, frozenset[str]]:
    """The name and the permissions of the role that docs/deploy.md defines."""
    [definition] = map(json.loads, blocks(section(DEPLOY, "## 8. The agents"), "json"))
    permissions = {*definition["Actions"], *definition["DataActions"]}
    assert all(each.startswith(_PROVIDER) for each in permissions)
    return definition["Name"], frozenset(each.removeprefix(_PROVIDER) for each in permissions)


def grants_in(text: str) -> list[Grant]:
    """The roles on the storage account of a table with the columns role, on, for; the custom one has its condition."""
    name, permissions = custom_role()
    known = {**BUILT_IN, name: permissions}
    conditions = {name: condition(DEPLOY)}
    return [
        Grant(role=role, permissions=known[role], scope=scope_of(on), condition=conditions.get(role, ""))
        for role, on, _ in (cells for cells in rows(text) if len(cells) == 3)
        if role in known
    ]


def condition(page: Path) -> str:
    """The text of the condition on a page."""
    [text] = [block for block in blocks(text_of(page), "") if "@Resource[" in block]
    return text


def scope_of(on: str) -> str:
    """Where a role is given, from how a page says it."""
    if on == "the account":
        return "account"
    found = re.fullmatch(r"(container|table|queue) `([\w-]+)`", on)
    assert found, f"a role is given on '{on}', which is no scope"
    return f"{found[1]} {found[2]}"


_VARIABLES = {"BLOBS": "container", "QUEUES": "queue", "TABLES": "table"}
_GRANT = re.compile(r'grant "\$(?P<who>\w+)" "(?P<role>[^"]+)" "\$(?P<scope>[^"]+)"')
_ASSIGNMENT = re.compile(
    r'az role assignment create --assignee-object-id "\$(?P<who>\w+)" .*'
    r'--role "(?P<role>[^"]+)" --scope "\$(?P<scope>[^"]+)"'
)


def granted_by_commands(principal: str) -> set[tuple[str, str]]:
    """Role and scope of what the commands of docs/deploy.md give a principal on the account with the state."""
    found = [match for line in shell_lines(DEPLOY) if (match := _GRANT.match(line) or _ASSIGNMENT.match(line))]
    scopes = [(match["role"], *match["scope"].partition("/")) for match in found if match["who"] == principal]
    return {
        (role, "account" if variable == "STORAGE_ID" else f"{_VARIABLES[variable]} {name}")
        for role, variable, _, name in scopes
        if variable == "STORAGE_ID" or variable in _VARIABLES
    }


def words(grants: Sequence[Grant], resource: str) -> str:
    """What may be done to a resource, in the words of the table in docs/security.md."""
    kind = resource.partition(" ")[0]
    can = [
        word
        for word, operation in _WORDS[kind]
        if allowed(grants, StorageRequest(operation=operation, resource=resource))
    ]
    return ", ".join(can) or "nothing"


_WORDS = {
    "container": (("read", "Get Blob"), ("write", "Put Blob"), ("delete", "Delete Blob"), ("tag", "Set Blob Tags")),
    "table": (("read", "Query Entities"), ("write", "Update Entity"), ("delete", "Delete Entity")),
    "queue": (("make", "Create Queue"), ("send", "Put Message"), ("take", "Get Messages"), ("delete", "Delete Queue")),
}
