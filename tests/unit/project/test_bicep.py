"""infra/*.bicep by themselves: they parse, what is given is what is asked for, and every name is declared somewhere."""

import json
import re
from pathlib import Path

import pycep
import pytest

from tests.rigs.bicep import INFRA, Bicep, Expression, Node, Resource, Value, every, files, outputs_used, read, tree
from tests.rigs.bicep_types import BICEPS_OWN, made, objections, recorded

MAIN = read(INFRA / "main.bicep")
ALL = [pytest.param(path, id=str(path.relative_to(INFRA))) for path in files()]
PARTS = [path for path in files() if path.parent.name == "modules"]

VERSIONS = {
    "Microsoft.Authorization": "2022-04-01",
    "Microsoft.Compute": "2024-07-01",
    "Microsoft.EventGrid": "2025-02-15",
    "Microsoft.Insights/actionGroups": "2023-01-01",
    "Microsoft.Insights/components": "2020-02-02",
    "Microsoft.Insights/diagnosticSettings": "2021-05-01-preview",
    "Microsoft.Insights/metricAlerts": "2018-03-01",
    "Microsoft.Insights/scheduledQueryRules": "2023-12-01",
    "Microsoft.KeyVault": "2024-11-01",
    "Microsoft.ManagedIdentity": "2024-11-30",
    "Microsoft.Network/privateDnsZones": "2024-06-01",
    "Microsoft.Network": "2025-05-01",
    "Microsoft.OperationalInsights": "2025-07-01",
    "Microsoft.Storage": "2025-06-01",
    "Microsoft.Web": "2025-03-01",
}
"""Of github.com/Azure/bicep-types-az and of Azure's verified modules; of diagnosticSettings there is only a preview."""

MADE = list(made())


@pytest.mark.parametrize(("where", "resource"), MADE, ids=[where for where, _ in MADE])
def test_a_resource_has_the_properties_that_azures_types_have(where: str, resource: Resource) -> None:
    shape = recorded()["types"][f"{resource.kind}@{resource.version}"]
    body = {name: value for name, value in resource.body.items() if name not in BICEPS_OWN}
    assert [*objections(shape, body, where)] == []


def test_the_types_are_of_the_resources_that_there_are() -> None:
    assert recorded()["types"].keys() == {f"{resource.kind}@{resource.version}" for _, resource in MADE}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": "x", "sku": {"name": "Standard_LRS"}}, ["x lacks kind", "x lacks location"]),
        (
            {"kind": "StorageV2", "location": "y", "sku": {"name": "Standard_LRX"}},
            ["x.sku.name may not be 'Standard_LRX'"],
        ),
        ({"kind": "StorageV2", "location": "y", "sku": {}, "colour": "red"}, ["x has no colour", "x.sku lacks name"]),
        (
            {"kind": "StorageV2", "location": "y", "sku": Expression("z"), "properties": {"accessTier": ["Hot"]}},
            ["x.properties.accessTier is no array"],
        ),
        (
            {
                "kind": "StorageV2",
                "location": "y",
                "sku": Expression("z"),
                "properties": {"allowSharedKeyAccess": "false"},
            },
            ["x.properties.allowSharedKeyAccess is no text"],
        ),
        (
            {
                "kind": "StorageV2",
                "location": "y",
                "sku": Expression("z"),
                "properties": {"minimumTlsVersion": Expression("true")},
            },
            ["x.properties.minimumTlsVersion is no bool"],
        ),
    ],
)
def test_what_the_types_do_not_have_is_found(body: dict[str, Value], told: list[str]) -> None:
    shape = recorded()["types"]["Microsoft.Storage/storageAccounts@2025-06-01"]
    found = sorted(objections(shape, {"name": "n", **body}, "x"))
    assert len(found) == len(told)
    assert all(one.startswith(other) for one, other in zip(found, told, strict=True)), found


RUNTIME = re.compile(r"\.outputs\.|\.properties\b|\blist\w*\(|\breference\(")


def late(bicep: Bicep) -> set[str]:
    """Variables that hold what is known only while it is being deployed."""
    found: set[str] = set()
    while True:
        words = RUNTIME.pattern + "".join(rf"|\b{name}\b" for name in found)
        more = {name for name, value in bicep.variables.items() if re.search(words, str(value))}
        if more <= found:
            return found
        found |= more


@pytest.mark.parametrize("path", ALL)
def test_what_must_be_known_when_a_deployment_begins_is(path: Path) -> None:
    """Names, conditions, loops and what is listed (learn.microsoft.com, Bicep's BCP120, BCP178 and BCP181)."""
    known_late = re.compile("|".join([RUNTIME.pattern, *(rf"\b{name}\b" for name in late(read(path)))]))
    for node in every(tree(path)):
        text = (node.text or b"").decode()
        match node.type:
            case "if_statement":
                early = text.partition("{")[0]
            case "for_statement" if node.parent is not None and node.parent.type.endswith("_declaration"):
                early = text.partition(":")[0]
            case "object_property" if text.startswith("name: ") and is_body(node):
                early = text
            case "call_expression" if text.startswith("list("):
                early = text.removeprefix("list(")
            case _:
                continue
        assert not known_late.search(early), early


def is_body(node: Node) -> bool:
    """Whether a property is a resource's or module's own."""
    above = node.parent
    while above is not None and above.type in {"object", "if_statement", "for_statement"}:
        if above.parent is not None and above.parent.type in {"resource_declaration", "module_declaration"}:
            return True
        above = above.parent
    return False


# learn.microsoft.com, "Azure built-in roles".
ROLES = {
    "EventGrid Data Sender": "d5a91429-5739-47e2-a06b-3470a27159e7",
    "Key Vault Crypto Service Encryption User": "e147488a-f6f5-4113-8e2d-b22465e65bf6",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "Storage Queue Data Contributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "Storage Queue Data Message Sender": "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a",
    "Storage Queue Data Reader": "19e7f393-937e-4f77-808e-94535e297925",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "Storage Table Data Reader": "76199698-9eea-4c19-bc75-cec21354c6b6",
}


def test_there_are_files() -> None:
    assert len(ALL) > 12


@pytest.mark.parametrize("path", ALL)
def test_two_parsers_read_it(path: Path) -> None:
    wrong = [node for node in every(tree(path)) if node.is_error or node.is_missing]
    assert not wrong, [(node.start_point, node.text) for node in wrong]
    assert pycep.BicepParser().parse(text=path.read_text("utf-8"))


@pytest.mark.parametrize("path", ALL)
def test_every_name_is_declared_and_every_parameter_and_variable_used(path: Path) -> None:
    bicep = read(path)
    given = {*bicep.required, *bicep.optional}
    declared = given | bicep.variables.keys() | bicep.resources.keys() | bicep.modules.keys()
    assert bicep.used <= declared | bicep.inner, bicep.used - declared - bicep.inner
    assert given | bicep.variables.keys() <= bicep.used
    assert not declared & bicep.inner, "a name in a loop hides another"


@pytest.mark.parametrize("path", ALL)
def test_every_module_is_given_what_it_asks_for_and_nothing_else(path: Path) -> None:
    for name, module in read(path).modules.items():
        asked = read(module.path)
        assert asked.required <= module.params.keys() <= asked.required | asked.optional.keys(), name


def test_a_module_has_no_default_that_its_only_caller_goes_over() -> None:
    for path in PARTS:
        calls = [m for caller in files() for m in read(caller).modules.values() if m.path == path.resolve()]
        assert calls, f"nothing uses {path.name}"
        for name in read(path).optional:
            assert not all(name in call.params for call in calls), f"{path.name}: {name}"


@pytest.mark.parametrize("path", ALL)
def test_every_output_that_is_used_is_one_and_every_one_is_used(path: Path) -> None:
    bicep = read(path)
    for module, output in outputs_used(bicep):
        assert output in read(bicep.modules[module].path).outputs, f"{module}.outputs.{output}"
    if path in PARTS:
        used = {
            output
            for caller in map(read, files())
            for module, output in outputs_used(caller)
            if caller.modules[module].path == path.resolve()
        }
        assert used == bicep.outputs.keys()


@pytest.mark.parametrize("path", ALL)
def test_every_parameter_and_output_is_described(path: Path) -> None:
    bicep = read(path)
    assert bicep.required | bicep.optional.keys() | bicep.outputs.keys() <= bicep.described
    assert bicep.text.startswith("// ")


@pytest.mark.parametrize("path", ALL)
def test_every_resource_is_of_the_one_version(path: Path) -> None:
    for name, resource in read(path).resources.items():
        namespace, _, kind = resource.kind.partition("/")
        known = VERSIONS.get(f"{namespace}/{kind.partition('/')[0]}") or VERSIONS[namespace]
        assert resource.version == known, name


def test_the_roles_have_their_ids() -> None:
    known = json.loads((INFRA / "modules" / "roles.json").read_text("utf-8"))
    assert known == ROLES
    used = {role for path in files() for role in re.findall(r"roles\['([^']+)'\]", read(path).text)}
    assert used == known.keys()
    written = {
        guid for path in files() for guid in re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", read(path).text)
    }
    assert written == {ROLES["Storage Blob Data Contributor"]}  # event-subscription.bicep, which may be used by itself


def test_azd_fills_in_every_parameter_and_no_other() -> None:
    document = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))
    values = {name: entry["value"] for name, entry in document["parameters"].items()}
    assert list(values) == re.findall(r"^param (\w+) ", MAIN.text, re.MULTILINE)
    variables = {name: value.removeprefix("${").removesuffix("}") for name, value in values.items()}
    # Without a default of its own a variable that is not set leaves the parameter out (azd, bicep_provider.go).
    assert all(re.fullmatch(r"(AZURE|CERTCAST)_[A-Z_]+", variable) for variable in variables.values())
    azds = {"environmentName", "location", "principalId", "principalType"}
    assert {name for name, variable in variables.items() if variable.startswith("AZURE_")} == azds
    for name, variable in variables.items():
        if name not in azds:
            assert variable == "CERTCAST_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()
    # What is answered under the name of a parameter would be its next value.
    assert MAIN.outputs.keys() & {*variables.values()} == {"AZURE_LOCATION", "CERTCAST_ALERTS"}


def test_only_what_azd_always_knows_has_no_default() -> None:
    assert MAIN.required == {"environmentName"}


UNIQUE = "a" * 13
"""uniqueString() makes 13 characters (learn.microsoft.com, "String functions for Bicep")."""


@pytest.mark.parametrize(
    ("module", "name", "pattern"),
    [
        ("state", "name", r"[a-z0-9]{3,24}"),
        ("host", "name", r"[a-z0-9]{3,24}"),
        ("vault", "name", r"[a-z][a-z0-9-]{1,22}[a-z0-9]"),
        ("app", "name", r"[a-z0-9][a-z0-9-]{0,30}[a-z0-9]"),  # of 32, which the host's id is cut to
        ("topic", "name", r"[a-zA-Z0-9-]{3,50}"),
        ("identities", "agentName", r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}"),
    ],
)
def test_a_name_is_one_whatever_the_environment_is_called(module: str, name: str, pattern: str) -> None:
    """Microsoft's "Naming rules and restrictions for Azure resources"."""
    value = MAIN.modules[module].params[name]
    value = str(MAIN.variables["appName"]) if value == "appName" else str(value)
    prefix = str(MAIN.variables["prefix"]).strip("'")
    own = re.sub(r"empty\(\w+\) \? (.+) : \w+", r"\1", value).strip("'")
    own = prefix if own == "prefix" else own.replace("${prefix}", prefix)
    assert re.fullmatch(pattern, own.replace("${token}", UNIQUE)), own
    assert "${token}" in own


def test_no_two_resources_of_a_group_have_one_name() -> None:
    """azd looks for the app by its name alone (azd, resource_manager.go)."""
    values = [str(value) for module in MAIN.modules.values() for value in module.params.values()]
    own = [re.sub(r"empty\(\w+\) \? (.+) : \w+", r"\1", str(MAIN.variables.get(value, value))) for value in values]
    named = [name.strip("'") for name in own if "${prefix}" in name or name == "prefix"]
    assert len(named) == len(set(named)) > 7


def test_nothing_asks_for_a_key_or_holds_a_secret() -> None:
    for path in files():
        assert not re.search(r"listKeys|listAccountSas|AccountKey|SharedAccessSignature", read(path).text), path
    assert {name for name, text in MAIN.outputs.items() if "settings" in text} == set()
