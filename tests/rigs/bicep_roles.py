"""Who is given which role, and where, by the Bicep files."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.rigs.bicep import INFRA, Bicep, Resource, Value, read
from tests.rigs.storage_roles import BUILT_IN, Grant

_MODULES = INFRA / "modules"
_PROVIDER = "Microsoft.Storage/storageAccounts/"
CUSTOM_ROLE = "certcast agent queues"
_KINDS = {
    "Microsoft.Storage/storageAccounts/blobServices/containers": "container",
    "Microsoft.Storage/storageAccounts/queueServices/queues": "queue",
    "Microsoft.Storage/storageAccounts/tableServices/tables": "table",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One role assignment.

    Attributes:
        role: The role's name.
        scope: `container x`, `table x`, `queue x`, or the name that the file has for what it is on.
        when: In which deployments it is made; empty for all.
        condition: The condition's text; empty for none.
    """

    role: str
    scope: str
    when: str
    condition: str


def assignments(file: str) -> list[Assignment]:
    """All that one module makes, each of them to the principal that it is given."""
    bicep = read(_MODULES / file)
    found = []
    for resource in _resources(bicep, "roleAssignments"):
        properties = _object(resource.body["properties"])
        assert properties["principalId"] == "principalId"
        found.append(
            Assignment(
                role=_role(str(properties["roleDefinitionId"])),
                scope=_scope(bicep, str(resource.body["scope"])),
                when=resource.condition,
                condition=_condition(properties),
            )
        )
    return found


def custom_role() -> frozenset[str]:
    """The permissions of the agents' own role, and where it may be given."""
    [role] = _resources(read(_MODULES / "agent-roles.bicep"), "roleDefinitions")
    properties = _object(role.body["properties"])
    scopes = properties["assignableScopes"]
    assert isinstance(scopes, list)
    assert "".join(map(str, scopes)) == "resourceGroup().id"  # which the grammar takes for two within an array
    permissions = properties["permissions"]
    assert isinstance(permissions, list)
    [allowed] = map(_object, permissions)
    assert allowed.keys() == {"actions", "dataActions"}
    named = [name for part in allowed.values() if isinstance(part, list) for name in part]
    return frozenset(str(name).removeprefix(_PROVIDER) for name in named)


def grants(file: str, *, customised: bool = True) -> list[Grant]:
    """What it gives on the account with the state.

    Args:
        file: The module.
        customised: Whether agents get a role of their own, as they do unless it is refused.
    """
    known = {**BUILT_IN, CUSTOM_ROLE: custom_role()}
    return [
        Grant(
            role=each.role,
            permissions=known[each.role],
            scope="account" if each.scope == "state" else each.scope,
            condition=each.condition,
        )
        for each in assignments(file)
        if (each.scope == "state" or " " in each.scope) and each.when != ("!customRole" if customised else "customRole")
    ]


def elsewhere(file: str) -> set[tuple[str, str]]:
    """Role and place of what it gives on anything else."""
    return {(each.role, each.scope) for each in assignments(file) if each.scope != "state" and " " not in each.scope}


def _role(definition: str) -> str:
    named = re.search(r"roles\['([^']+)'\]\)$", definition)
    if named:
        assert named[1] in json.loads((_MODULES / "roles.json").read_text("utf-8"))
        return named[1]
    assert definition.endswith(", agentQueues.name)")
    return CUSTOM_ROLE


def _scope(bicep: Bicep, symbol: str) -> str:
    resource = bicep.resources[symbol]
    return f"{_KINDS[resource.kind]} {resource.body['name']}" if resource.kind in _KINDS else symbol


def _condition(properties: dict[str, Value]) -> str:
    if "condition" not in properties:
        return ""
    assert properties["conditionVersion"] == "2.0"
    loaded = re.fullmatch(r"loadTextContent\('(.+)'\)", str(properties["condition"]))
    assert loaded is not None
    return (_MODULES / loaded[1]).read_text("utf-8")


def _resources(bicep: Bicep, kind: str) -> Iterator[Resource]:
    yield from (each for each in bicep.resources.values() if each.kind == f"Microsoft.Authorization/{kind}")


def _object(value: Value) -> dict[str, Value]:
    assert isinstance(value, dict)
    return value
