"""Bicep files as tests read them, by tree-sitter's grammar: what each declares, gives and refers to."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tree_sitter
import tree_sitter_bicep

from tests.rigs.deployment import ROOT

INFRA = ROOT / "infra"
_NAME_AND_TYPE = 2
_LANGUAGE = tree_sitter.Language(tree_sitter_bicep.language())

Node = tree_sitter.Node


class Expression(str):
    """What is no text between quotes, as it is written."""

    __slots__ = ()


Value = str | list["Value"] | dict[str, "Value"]
"""A text between quotes, without them; an `Expression`; arrays and objects of these.

Of a loop it is an array with the one value that its body has, of a condition what holds where it is met.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource.

    Attributes:
        kind: Its type, `Microsoft.Storage/storageAccounts`.
        version: The version of the API.
        existing: Whether it is only referred to.
        condition: Where it is made; empty for always.
        body: Its properties.
    """

    kind: str
    version: str
    existing: bool
    condition: str
    body: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """Another file that is deployed as a part of this one.

    Attributes:
        path: The file.
        params: What it is given.
    """

    path: Path
    params: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bicep:
    """One file.

    Attributes:
        path: Where it is.
        text: All of it.
        required: Parameters without a default.
        optional: Parameters with one, and that default.
        variables: What is reckoned from them.
        resources: By symbolic name, as are modules.
        modules: Files that are deployed with it.
        outputs: What it answers.
        described: Parameters and outputs that have a description.
        used: Every name that an expression begins with.
        inner: Names that hold within a loop, or within the resource that they are nested in.
    """

    path: Path
    text: str
    required: frozenset[str]
    optional: Mapping[str, Value]
    variables: Mapping[str, Value]
    resources: Mapping[str, Resource]
    modules: Mapping[str, Module]
    outputs: Mapping[str, str]
    described: frozenset[str]
    used: frozenset[str]
    inner: frozenset[str]


def files() -> list[Path]:
    """Every Bicep file of the project."""
    return sorted(INFRA.rglob("*.bicep"))


def tree(path: Path) -> Node:
    """A file's syntax tree."""
    return tree_sitter.Parser(_LANGUAGE).parse(path.read_bytes()).root_node


def every(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for child in node.children:
        yield from every(child)


@cache
def read(path: Path) -> Bicep:
    """Read a file; the parser's errors are another test's."""
    root = tree(path)
    declared = list(_declarations(root))

    def of(kind: str) -> dict[str, Node]:
        return {name: node for name, node, _ in declared if node.type == f"{kind}_declaration"}

    parameters, nodes = of("parameter"), list(every(root))
    with_default = {name: node for name, node in parameters.items() if len(node.named_children) > _NAME_AND_TYPE}
    return Bicep(
        path=path,
        text=path.read_text("utf-8"),
        required=frozenset(parameters.keys() - with_default.keys()),
        optional={name: _value(node.named_children[-1]) for name, node in with_default.items()},
        variables={name: _value(node.named_children[-1]) for name, node in of("variable").items()},
        resources={name: _resource(node) for name, node in of("resource").items()},
        modules={name: _module(path, node) for name, node in of("module").items()},
        outputs={name: _text(node.named_children[-1]) for name, node in of("output").items()},
        described=frozenset(name for name, _, decorators in declared if "@description(" in decorators),
        used=frozenset(_text(node) for node in nodes if node.type == "identifier" and _is_reference(node)),
        inner=frozenset(_inner_names(nodes)),
    )


def _declarations(root: Node) -> Iterator[tuple[str, Node, str]]:
    """Name, node and decorators of each."""
    decorators = ""
    for node in root.named_children:
        if node.type.endswith("_declaration"):
            yield _text(node.named_children[0]), node, decorators
        decorators = _text(node) if node.type == "decorators" else ""


def _text(node: Node) -> str:
    assert node.text is not None
    return node.text.decode()


def _value(node: Node) -> Value:
    match node.type:
        case "string" if not any(child.type == "interpolation" for child in node.named_children):
            return _text(node).strip("'")
        case "array":
            return [_value(child) for child in node.named_children if child.type != "comment"]
        case "object":
            pairs = (child for child in node.named_children if child.type == "object_property")
            return {_text(pair.named_children[0]).strip("'"): _value(pair.named_children[-1]) for pair in pairs}
        case "for_statement":
            return [_value(node.named_children[-1])]
        case "if_statement":
            return _value(node.named_children[-1])
    return Expression(_text(node))


def _body(node: Node) -> dict[str, Value]:
    body = _value(node.named_children[-1])
    body = body[0] if isinstance(body, list) else body
    assert isinstance(body, dict)
    return body


def _resource(node: Node) -> Resource:
    kind, _, version = _text(node.named_children[1]).strip("'").partition("@")
    last = node.named_children[-1]
    return Resource(
        kind=kind,
        version=version,
        existing=any(child.type == "existing" for child in node.children),
        condition=_text(last.named_children[0])[1:-1] if last.type == "if_statement" else "",
        body=_body(node),
    )


def _module(path: Path, node: Node) -> Module:
    params = _body(node).get("params", {})
    assert isinstance(params, dict)
    return Module(path=(path.parent / _text(node.named_children[1]).strip("'")).resolve(), params=params)


def _is_reference(node: Node) -> bool:
    """Whether an identifier names something, in place of a property or of what is declared here."""
    parent = node.parent
    if parent is None or parent.type in {"decorator", "call_expression"} or _is_called(node):
        return False
    first = parent.named_children[0] == node
    declares = parent.type.endswith("_declaration") or parent.type in {"object_property", "for_statement"}
    return not (first and declares)


def _is_called(node: Node) -> bool:
    """Where the grammar takes a call within an array for something else."""
    return node.next_sibling is not None and _text(node.next_sibling).startswith("(")


def _inner_names(nodes: list[Node]) -> Iterator[str]:
    for node in nodes:
        if node.type == "for_statement" and node.named_children[0].type == "identifier":
            yield _text(node.named_children[0])
        if node.type in {"loop_variable", "loop_enumerator"}:
            yield _text(node)
        if node.type == "resource_declaration" and node.parent is not None and node.parent.type != "infrastructure":
            yield _text(node.named_children[0])


def outputs_used(bicep: Bicep) -> Iterator[tuple[str, str]]:
    """Module and output of every output that is used."""
    yield from re.findall(r"\b(\w+)!?\.outputs\.(\w+)", bicep.text)
